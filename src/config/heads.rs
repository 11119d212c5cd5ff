//! What lies on the encoder: intermediate layer, classifier and auxiliary head, as their keys work together.

use super::{Config, EncoderKind, Freeze, FreezeName, HeadKind, Pattern};
use crate::classifier::PRIVATE_UNIT;
use crate::error::{Error, Result};

/// Labels that may share a row of indices.
pub(crate) const GROUPS: [usize; 5] = [1, 8, 16, 32, 64];

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

    /// Labels of the dense part of a classifier whose tail is sparse, K of `labels`; 0: there is none.
    #[must_use]
    pub fn dense_labels(&self, labels: usize) -> usize {
        match self.classifier.dense_labels {
            0.0 => 0,
            share if share < 1.0 => ((labels as f64 * share) as usize).max(1),
            count => count as usize,
        }
    }

    /// Checks that the dense part leaves labels to the tail.
    ///
    /// # Errors
    /// [`Error::Config`] when it does not.
    pub fn check_dense_labels(&self, labels: usize) -> Result<()> {
        let dense = self.dense_labels(labels);
        if dense == 0 || dense < labels {
            return Ok(());
        }
        let message = format!(
            "{dense} dense labels leave none of {labels} to the sparse tail; for a classifier that is dense throughout, \
             say classifier.head = \"dense\""
        );
        Err(Error::config("classifier.dense_labels", message))
    }

    /// Checks the fan-in against what the classifier will see, given the features of the encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when a label would have more connections than there are.
    pub fn check_fan_in(&self, features: usize) -> Result<()> {
        let fan_in = self.classifier.fan_in;
        let seen = self.intermediate_width().unwrap_or(features);
        let private = self.classifier.dense_features;
        if private > 0 && fan_in + private > seen {
            let left = seen.saturating_sub(private);
            let message = format!(
                "{private} of {seen} features leave {left} to the sparse labels, fewer than the {fan_in} of classifier.fan_in"
            );
            return Err(Error::config("classifier.dense_features", message));
        }
        if self.classifier.head != HeadKind::FanIn || fan_in <= seen {
            return Ok(());
        }
        let seen = match self.intermediate_width() {
            Some(width) => format!("{width} outputs of the intermediate layer"),
            None => format!("{features} features that the encoder gives"),
        };
        let why = match self.classifier.pattern {
            Pattern::Free => "",
            Pattern::Stratified => {
                "; with classifier.pattern = \"stratified\" each connection needs a feature of its own"
            }
        };
        Err(Error::config("classifier.fan_in", format!("{fan_in} is more than the {seen}{why}")))
    }

    /// Checks groups of labels, dense labels, intermediate layer and auxiliary objective.
    pub(super) fn check_heads(&self) -> Result<()> {
        self.check_groups()?;
        self.check_dense_part()?;
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

    fn check_dense_part(&self) -> Result<()> {
        let (labels, features) = (self.classifier.dense_labels, self.classifier.dense_features);
        let fits = (0.0..1.0).contains(&labels) || (labels.fract() == 0.0 && (1.0..2e9).contains(&labels));
        if !fits {
            let message =
                format!("must be 0 (none), a share below 1, or a whole number of labels, is {labels}");
            return Err(Error::config("classifier.dense_labels", message));
        }
        if labels > 0.0 && self.classifier.head != HeadKind::FanIn {
            let message = "only the fan_in head has a dense part; leave it at 0 with another head";
            return Err(Error::config("classifier.dense_labels", message));
        }
        if features > 0 && labels == 0.0 {
            let message = "needs dense labels to belong to; set classifier.dense_labels, or leave it at 0";
            return Err(Error::config("classifier.dense_features", message));
        }
        if !features.is_multiple_of(PRIVATE_UNIT) {
            let message = format!("must be a multiple of {PRIVATE_UNIT}, is {features}");
            return Err(Error::config("classifier.dense_features", message));
        }
        Ok(())
    }

    fn check_groups(&self) -> Result<()> {
        if self.classifier.pattern != Pattern::Free && self.classifier.head != HeadKind::FanIn {
            let message = "only the fan_in head has connections to place; leave it at free with another head";
            return Err(Error::config("classifier.pattern", message));
        }
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
