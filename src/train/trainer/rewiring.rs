//! Connections that change between two steps of a run: pruned and regrown, or moved to where documents are; each is logged.

use serde_json::json;

use super::{Event, Trainer};
use crate::classifier::Regrow;
use crate::config::RewireInit;
use crate::error::Result;
use crate::train::dry_run::prune_rule;
use crate::train::step::TrainedBatch;

impl Trainer<'_> {
    /// Prunes and regrows after the steps that the calendar names; `trained`: the batch of the last step.
    pub(super) fn rewire_if_due(
        &mut self,
        trained: &TrainedBatch,
        observer: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let step = self.progress.step;
        let config = self.o.config;
        let Some(prune) = self.calendar.prune_after(step, config) else { return Ok(()) };
        let bound = match config.rewire.init {
            RewireInit::Zero => 0.0,
            RewireInit::Random => config.classifier.init_scale / (config.classifier.fan_in as f64).sqrt(),
        };
        let keep_second_moment = config.rewire.keep_second_moment;
        let regrow = Regrow { bound: bound as f32, step: step as u32, keep_second_moment };
        let Some(counts) = self.model.rewire(self.o.devices, config, prune, regrow, trained)? else {
            return Ok(());
        };
        let [rewirings, pruned, again] = &mut self.progress.rewired;
        *rewirings += 1;
        *pruned += counts.pruned;
        *again += counts.pruned_again;
        let (rule, value) = prune_rule(prune);
        self.o.folder.log(&json!({
            "event": "rewire", "step": step, "pruned": counts.pruned, "pruned_again": counts.pruned_again,
            "regrown": counts.regrown, "connections": counts.connections, "turnover": counts.turnover(), rule: value,
        }))?;
        observer(Event::Rewired { step, counts });
        Ok(())
    }

    /// Before the first step of the epochs after the first. A run that goes on from there does it once more, which moves
    /// nothing.
    pub(super) fn follow_documents_if_due(
        &mut self,
        epoch: u32,
        observer: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let step = self.progress.step;
        let begins = step.is_multiple_of(self.calendar.steps_per_epoch);
        if !begins || !(1..=self.o.config.rewire.by_documents).contains(&epoch) {
            return Ok(());
        }
        let (train, documents) = (&self.o.dataset.train, self.o.config.train.batch_size);
        let mut report = |done, total| observer(Event::FollowingDocuments { done, total });
        let followed = self.model.follow_documents(self.o.devices, train, documents, &mut report)?;
        let Some(counts) = followed else { return Ok(()) };
        if counts.pruned > 0 {
            self.o.folder.log(&json!({
                "event": "rewire_by_documents", "step": step, "moved": counts.pruned,
                "connections": counts.connections, "turnover": counts.turnover(),
            }))?;
            observer(Event::Rewired { step, counts });
        }
        Ok(())
    }
}
