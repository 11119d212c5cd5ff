//! What lies on the encoder: intermediate layer, classifier and auxiliary head, as their keys work together.

use super::{Config, EncoderKind, Freeze, FreezeName, HeadKind};
use crate::error::{Error, Result};

/// Labels that may share a row of indices.
const GROUPS: [usize; 5] = [1, 8, 16, 32, 64];

impl Config {
    /// Width of the intermediate layer; none: the classifier sees the encoder's features.
    #[must_use]
    pub fn intermediate_width(&self) -> Option<usize> {
        match self.classifier.head {
            HeadKind::Bottleneck => Some(self.classifier.fan_in),
            HeadKind::FanIn | HeadKind::Dense => Some(self.intermediate.width).filter(|width| *width > 0),
        }
    }

    /// Whether the run has an auxiliary objective.
    #[must_use]
    pub fn has_auxiliary(&self) -> bool {
        self.auxiliary.weight > 0.0
    }

    /// Checks the fan-in against what the classifier will see, given the features of the encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when a label would have more connections than there are.
    pub fn check_fan_in(&self, features: usize) -> Result<()> {
        let fan_in = self.classifier.fan_in;
        if self.classifier.head != HeadKind::FanIn || fan_in <= self.intermediate_width().unwrap_or(features)
        {
            return Ok(());
        }
        let seen = match self.intermediate_width() {
            Some(width) => format!("{width} outputs of the intermediate layer"),
            None => format!("{features} features that the encoder gives"),
        };
        Err(Error::config("classifier.fan_in", format!("{fan_in} is more than the {seen}")))
    }

    /// Checks groups of labels, intermediate layer and auxiliary objective.
    pub(super) fn check_heads(&self) -> Result<()> {
        self.check_groups()?;
        if self.classifier.head == HeadKind::Bottleneck && self.intermediate.width > 0 {
            let message = "leave it at 0 with classifier.head = \"bottleneck\", whose intermediate layer is as wide as \
                           classifier.fan_in";
            return Err(Error::config("intermediate.width", message));
        }
        let a = &self.auxiliary;
        if !(0.0..=1.0).contains(&a.weight) {
            return Err(Error::config("auxiliary.weight", format!("must be from 0 to 1, is {}", a.weight)));
        }
        if a.cluster_size == 0 {
            return Err(Error::config("auxiliary.cluster_size", "must be at least 1, is 0"));
        }
        if !self.has_auxiliary() {
            return Ok(());
        }
        if a.cutoff_epoch == 0 {
            let message =
                "must be at least 1, is 0; without an auxiliary objective, set auxiliary.weight = 0";
            return Err(Error::config("auxiliary.cutoff_epoch", message));
        }
        if a.cutoff_epoch > self.train.epochs {
            let message =
                format!("{} is beyond the run, which has {} epochs", a.cutoff_epoch, self.train.epochs);
            return Err(Error::config("auxiliary.cutoff_epoch", message));
        }
        let e = &self.encoder;
        let frozen = e.kind == EncoderKind::Features
            || (e.kind == EncoderKind::Transformer && e.freeze == Freeze::Named(FreezeName::All));
        if frozen {
            let message =
                "an auxiliary objective trains the encoder, but this one is not trained; set it to 0";
            return Err(Error::config("auxiliary.weight", message));
        }
        Ok(())
    }

    fn check_groups(&self) -> Result<()> {
        let group = self.classifier.group;
        if !GROUPS.contains(&group) {
            let message = format!("must be 1, 8, 16, 32 or 64, is {group}");
            return Err(Error::config("classifier.group", message));
        }
        if group > 1 && self.classifier.head != HeadKind::FanIn {
            let message =
                "only labels of the fan_in head share their features; leave it at 1 with another head";
            return Err(Error::config("classifier.group", message));
        }
        if group > 1 && self.classifier.grouping.is_empty() {
            let message = "must be frequency, random, text or a file of clusters, is empty";
            return Err(Error::config("classifier.grouping", message));
        }
        Ok(())
    }
}
