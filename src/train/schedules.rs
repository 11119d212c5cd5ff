//! What changes from step to step: an optimizer for each part, and the weight of the auxiliary loss.

use super::calendar::Calendar;
use crate::config::Config;
use crate::optimize::{Optimizer, auxiliary_weight};

/// The schedules of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedules {
    /// Of the encoder.
    pub encoder: Optimizer,
    /// Of the intermediate layer.
    pub intermediate: Optimizer,
    /// Of the classifier.
    pub classifier: Optimizer,
    /// Of the auxiliary head.
    pub auxiliary: Optimizer,
    /// s₀: weight of the auxiliary loss at the first step.
    pub auxiliary_start: f64,
    /// Optimizer steps until the auxiliary objective ends; 0: there is none.
    pub auxiliary_steps: u64,
}

impl Schedules {
    /// The schedules of a config.
    #[must_use]
    pub fn new(config: &Config, calendar: &Calendar) -> Self {
        let total = calendar.total_steps();
        let o = &config.optimizer;
        Self {
            encoder: o.encoder.optimizer(total),
            intermediate: o.intermediate.optimizer(total),
            classifier: o.classifier.optimizer(total),
            auxiliary: o.auxiliary.optimizer(total),
            auxiliary_start: config.auxiliary.weight,
            auxiliary_steps: calendar.auxiliary_steps(),
        }
    }

    /// s of the total loss (1 − s) · main + s · auxiliary at `step`, from 0 (SPARTEX §2.3): a cosine from s₀ to 0; none
    /// once the auxiliary objective has ended.
    #[must_use]
    pub fn auxiliary_weight(&self, step: u64) -> Option<f64> {
        (step < self.auxiliary_steps)
            .then(|| auxiliary_weight(self.auxiliary_start, step, self.auxiliary_steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two epochs of three steps, counted in optimizer steps: ½ · 0.4 · (1 + cos(π t / 6)).
    #[test]
    fn the_auxiliary_weight_falls_to_its_cutoff() {
        let settings = [
            "auxiliary.weight=0.4",
            "auxiliary.cutoff_epoch=2",
            "train.epochs=4",
            "train.batch_size=5",
            "train.accumulate=2",
        ];
        let config = Config::with_settings(&settings.map(str::to_owned)).unwrap();
        let schedules = Schedules::new(&config, &Calendar::new(&config, 25));
        assert_eq!(schedules.auxiliary_steps, 6);
        assert_eq!(schedules.auxiliary_weight(0), Some(0.4));
        assert!((schedules.auxiliary_weight(2).unwrap() - 0.3).abs() < 1e-12);
        assert!((schedules.auxiliary_weight(5).unwrap() - 0.026_794_919_243_112_28).abs() < 1e-12);
        assert_eq!(schedules.auxiliary_weight(6), None);
        let off = Config::with_settings(&[]).unwrap();
        assert_eq!(Schedules::new(&off, &Calendar::new(&off, 25)).auxiliary_weight(0), None);
    }
}
