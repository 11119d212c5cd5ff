//! One training step: what it records, and what comes back of it.

use super::devices::Devices;
use super::feed::Fed;
use super::model::Model;
use super::schedules::Schedules;
use crate::classifier::{Dense, Loss, Positives, Step, StepScale};
use crate::config::{Config, Normalisation, Reduction};
use crate::data::Batch;
use crate::device::{Recording, Slice, Ticket};
use crate::error::Result;
use crate::kernels::dropout::Dropout;
use crate::kernels::{dropout_columns, dropout_columns_backward};

/// Losses of steps that are still on their way back.
pub(super) const LOSS_RING: usize = 64;

/// What the parts of a training step have in common.
pub(super) struct StepParts<'s> {
    pub(super) config: &'s Config,
    pub(super) schedules: &'s Schedules,
    pub(super) documents: usize,
    pub(super) step: u64,
    pub(super) fed: &'s Fed,
    pub(super) dropout: Dropout,
    /// Place of the step's losses in the ring.
    pub(super) place: usize,
}

/// A step on its way; the loss comes back later.
pub struct StepOutcome {
    /// Documents of the step.
    pub documents: usize,
    auxiliary: bool,
    batch: TrainedBatch,
    losses: Ticket,
}

/// The losses of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepLosses {
    /// The main loss, reduced as the config says.
    pub main: f32,
    /// The auxiliary loss, while there is one.
    pub auxiliary: Option<f32>,
}

/// The batch of the last training step, as it still lies on the device.
#[derive(Clone, Debug)]
pub struct TrainedBatch {
    pub(super) documents: usize,
    pub(super) positives: Positives,
    /// What the classifier saw, [H, columns].
    pub(super) seen: Slice,
}

impl StepOutcome {
    /// What was trained on; good until the next batch is fed.
    #[must_use]
    pub fn batch(&self) -> TrainedBatch {
        self.batch.clone()
    }

    /// Waits for the step's main loss, reduced as the config says.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device is lost.
    pub fn loss<'d>(self, devices: impl Into<Devices<'d>>) -> Result<f32> {
        Ok(self.losses(devices)?.main)
    }

    /// Waits for the step's losses.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device is lost.
    pub fn losses<'d>(self, devices: impl Into<Devices<'d>>) -> Result<StepLosses> {
        let losses = devices.into().classifier.collect(self.losses)?;
        let [main, auxiliary] = bytemuck::pod_read_unaligned(&losses);
        Ok(StepLosses { main, auxiliary: self.auxiliary.then_some(auxiliary) })
    }
}

impl Model {
    /// One optimizer step, the `step`-th from 0, on all micro-batches of it together; on one device it returns as soon as
    /// it is queued, on two as soon as the encoder's backward pass is.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device fails.
    ///
    /// # Panics
    /// When the step has an auxiliary objective and the batch was not given clusters (see [`Batch::find_clusters`]).
    pub fn train_step<'d>(
        &self,
        devices: impl Into<Devices<'d>>,
        config: &Config,
        schedules: &Schedules,
        batch: &Batch,
        step: u64,
    ) -> Result<StepOutcome> {
        let devices = devices.into();
        let (fed, mut inputs) = self.feed.lay_out(batch, &|_| Vec::new(), self.row_order.as_ref());
        let dropout = Dropout {
            probability: config.encoder.dropout as f32,
            seed: config.train.seed,
            step: step as u32,
            stream: 0,
        };
        let documents = batch.len();
        let place = 2 * (step % LOSS_RING as u64) as usize;
        let parts = StepParts { config, schedules, documents, step, fed: &fed, dropout, place };
        let (losses, seen) = match self.crossing(devices) {
            Some(crossing) => self.step_across(crossing, &parts, inputs)?,
            None => {
                let mut recording = Recording::new();
                inputs.record_tokens(&mut recording);
                self.record_clears(&mut recording, &parts);
                let features = self.encoder.forward(&mut recording, &fed.tokens, Some(step));
                let gradient = self.encoder.feature_gradient();
                let seen = self.record_heads(&mut recording, &parts, &features, gradient.as_ref());
                if gradient.is_some() {
                    self.encoder.backward(&mut recording, &fed.tokens, step);
                    self.encoder.update(&mut recording, &fed.tokens, schedules.encoder.rates(step), step);
                }
                let losses = recording.read_back(&self.loss_slots(place));
                devices.encoder.submit(recording)?;
                (losses, seen)
            }
        };
        let auxiliary = self.auxiliary.is_some() && schedules.auxiliary_weight(step).is_some();
        let batch = TrainedBatch { documents, positives: fed.positives, seen };
        Ok(StepOutcome { documents, auxiliary, batch, losses })
    }

    /// Where the losses of a step are summed up.
    pub(super) fn loss_slots(&self, place: usize) -> Slice {
        self.losses.range((place * 4) as u64, 8)
    }

    /// Clears what a step adds to, all on the classifier's device.
    pub(super) fn record_clears(&self, recording: &mut Recording, parts: &StepParts<'_>) {
        recording.clear(self.columns(&self.dx, parts.documents));
        recording.clear(self.loss_slots(parts.place));
        if let Some(layer) = &self.intermediate {
            recording.clear(layer.output_gradient(parts.documents));
        }
    }

    /// From features to losses and, where it is wanted, to the gradient of the features, [B, D] f32 both, all on the
    /// classifier's device, with the updates of what lies there. Gives what the classifier saw, [H, columns].
    pub(super) fn record_heads(
        &self,
        recording: &mut Recording,
        parts: &StepParts<'_>,
        features: &Slice,
        gradient: Option<&Slice>,
    ) -> Slice {
        let StepParts { config, schedules, documents, step, fed, dropout, place } = *parts;
        let (x, dx) = (self.columns(&self.x, documents), self.columns(&self.dx, documents));
        let width = self.encoder.features();
        recording.launch(dropout_columns::launch(documents, width, dropout, features, &x));

        let auxiliary = self.auxiliary.as_ref().zip(schedules.auxiliary_weight(step));
        let main_share = 1.0 - auxiliary.map_or(0.0, |(_, weight)| weight);
        let (seen, dseen) = match &self.intermediate {
            Some(layer) => (layer.record_forward(recording, documents, &x), layer.output_gradient(documents)),
            None => (x.clone(), dx.clone()),
        };
        let scale = self.scale(config, documents);
        let classifier_step = Step {
            batch: documents,
            loss: config.classifier.loss,
            scale: StepScale { gradient: (scale * main_share) as f32, loss: scale as f32, place },
            step,
            rates: schedules.classifier.rates(step),
            positives: &fed.positives,
            x: &seen,
            dx: &dseen,
            losses: &self.losses.whole(),
        };
        self.classifier.record_step(recording, &classifier_step);
        if let Some(layer) = &self.intermediate {
            layer.record_backward(recording, documents, &x, gradient.is_some().then_some(&dx));
            layer.record_update(recording, documents, schedules.intermediate.rates(step));
        }
        if let Some((head, weight)) = auxiliary {
            let scale = self.auxiliary_scale(config, documents, head);
            let auxiliary_step = Step {
                loss: Loss::Bce,
                scale: StepScale { gradient: (scale * weight) as f32, loss: scale as f32, place: place + 1 },
                rates: schedules.auxiliary.rates(step),
                positives: fed.cluster_positives.as_ref().expect("the batch was given clusters"),
                x: &x,
                dx: &dx,
                ..classifier_step
            };
            head.record_step(recording, &auxiliary_step);
        }
        if let Some(gradient) = gradient {
            recording.launch(dropout_columns_backward::launch(documents, width, dropout, &dx, gradient));
        }
        seen
    }

    /// What the reduction multiplies the sum of all losses with.
    fn scale(&self, config: &Config, batch: usize) -> f64 {
        let labels = self.classifier.labels() as f64;
        let micro_batches = batch.div_ceil(config.train.batch_size) as f64;
        1.0 / match config.classifier.reduction {
            Reduction::DocumentMean => batch as f64,
            Reduction::Sum => micro_batches,
            Reduction::Mean => batch as f64 * labels,
        }
    }

    /// What the sum of all auxiliary losses is multiplied with.
    fn auxiliary_scale(&self, config: &Config, batch: usize, head: &Dense) -> f64 {
        match config.auxiliary.normalisation {
            Normalisation::PerDocument => self.scale(config, batch),
            Normalisation::Mean => 1.0 / (batch as f64 * head.options.labels as f64),
        }
    }
}
