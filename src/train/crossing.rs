//! The way between two devices: features go up to the classifier's, their gradient comes back to the encoder's, both
//! through the memory of the host.
//!
//! They cross as the encoder has them, [B, D] f32, where the rows of a micro-batch lie together; the dropout that
//! transposes them runs on the classifier's device. The host submits to a device whatever it can before it waits for the
//! other.

use std::mem::take;
use std::ops::Range;

use super::devices::Devices;
use super::feed::Inputs;
use super::model::Model;
use super::step::StepParts;
use crate::device::{Buffer, Device, Recording, Slice, Ticket};
use crate::encoder::PackedTokens;
use crate::error::Result;

/// Two devices, and where features and gradients of a batch lie on the classifier's.
#[derive(Clone, Copy)]
pub(super) struct Crossing<'m> {
    encoder: &'m Device,
    classifier: &'m Device,
    /// Room for [B, D] f32.
    rows: &'m Buffer,
}

/// The rows of these documents in [B, D] f32.
fn rows(all: &Slice, documents: Range<usize>, features: usize) -> Slice {
    let row = 4 * features as u64;
    all.range(documents.start as u64 * row, documents.len() as u64 * row)
}

/// Waits for a readback, and queues a write of its bytes to a slice of another device.
fn carry(from: &Device, ticket: Ticket, to: &Device, target: &Slice) -> Result<()> {
    to.write(&target.buffer, target.offset, &from.collect(ticket)?)
}

impl Model {
    /// The way between these devices, if they are two.
    pub(super) fn crossing<'m>(&'m self, devices: Devices<'m>) -> Option<Crossing<'m>> {
        let second = devices.second().zip(self.crossing_rows.as_ref());
        second.map(|(classifier, rows)| Crossing { encoder: devices.encoder, classifier, rows })
    }

    /// Runs the forward pass and brings the features up, those of a micro-batch while the next one is computed. Gives
    /// their place on the classifier's device, [B, D] f32. `ahead`: what that device is to do before they come.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when a device fails.
    pub(super) fn bring_features(
        &self,
        crossing: Crossing<'_>,
        mut inputs: Inputs,
        mut ahead: Recording,
        tokens: &[PackedTokens],
        step: Option<u64>,
    ) -> Result<Slice> {
        let Crossing { encoder, classifier, rows: target } = crossing;
        let target = target.whole();
        inputs.record_labels(&mut ahead);
        classifier.submit(ahead)?;
        let mut recording = Recording::new();
        inputs.record_tokens(&mut recording);
        let mut piece_before: Option<(Slice, Ticket)> = None;
        for (number, micro) in tokens.iter().enumerate() {
            let features = self.encoder.forward_one(&mut recording, tokens, number, step);
            let documents = micro.first_row..micro.first_row + micro.documents;
            let [from, to] =
                [&features, &target].map(|all| rows(all, documents.clone(), self.encoder.features()));
            let ticket = recording.read_back(&from);
            encoder.submit(take(&mut recording))?;
            if let Some((to, ticket)) = piece_before.replace((to, ticket)) {
                carry(encoder, ticket, classifier, &to)?;
            }
        }
        if let Some((to, ticket)) = piece_before {
            carry(encoder, ticket, classifier, &to)?;
        }
        Ok(target)
    }

    /// One optimizer step on two devices. Gives the readback of the losses, and what the classifier saw, [H, columns].
    ///
    /// # Errors
    /// [`crate::Error::Device`] when a device fails.
    pub(super) fn step_across(
        &self,
        crossing: Crossing<'_>,
        parts: &StepParts<'_>,
        inputs: Inputs,
    ) -> Result<(Ticket, Slice)> {
        let StepParts { schedules, documents, step, fed, place, .. } = *parts;
        let Crossing { encoder, classifier, .. } = crossing;
        let tokens = &fed.tokens[..];
        let mut ahead = Recording::new();
        self.record_clears(&mut ahead, parts);
        let above = self.bring_features(crossing, inputs, ahead, tokens, Some(step))?;
        let below = self.encoder.feature_gradient();
        let mut recording = Recording::new();
        // The gradient takes the place of the features.
        let seen = self.record_heads(&mut recording, parts, &above, below.is_some().then_some(&above));
        let losses = recording.read_back(&self.loss_slots(place));
        let Some(below) = below else {
            classifier.submit(recording)?;
            return Ok((losses, seen));
        };

        // The backward pass begins with the last micro-batch: the others' gradient crosses while it runs.
        let last = tokens.len() - 1;
        let first_row = tokens[last].first_row;
        let pieces = [(first_row..documents, last..last + 1), (0..first_row, 0..last)];
        let mut on_their_way = Vec::new();
        for (documents, numbers) in pieces.into_iter().filter(|(documents, _)| !documents.is_empty()) {
            let [from, to] =
                [&above, &below].map(|all| rows(all, documents.clone(), self.encoder.features()));
            let ticket = recording.read_back(&from);
            classifier.submit(take(&mut recording))?;
            on_their_way.push((numbers, to, ticket));
        }
        for (numbers, to, ticket) in on_their_way {
            carry(classifier, ticket, encoder, &to)?;
            let ends_the_pass = numbers.start == 0;
            numbers.for_each(|number| self.encoder.backward_one(&mut recording, tokens, number, step));
            if ends_the_pass {
                self.encoder.update(&mut recording, tokens, schedules.encoder.rates(step), step);
            }
            encoder.submit(take(&mut recording))?;
        }
        Ok((losses, seen))
    }
}
