//! Optimizers and schedules: from what the config says to the numbers of one step. Knows no parameters.

mod schedule;

pub use crate::kernels::optimizer::{Rates, Rule};
pub use schedule::{Schedule, auxiliary_weight, cosine, learning_rate_factor, rewire_threshold};

use crate::error::{Error, Result};

/// A rule, its constants and its schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimizer {
    /// Update rule.
    pub rule: Rule,
    /// Learning rate at the schedule's factor 1.
    pub learning_rate: f64,
    /// Weight decay λ: coupled for SGD and Adam, decoupled for AdamW.
    pub weight_decay: f64,
    /// β₁, or the momentum of SGD.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε, added to the root.
    pub epsilon: f64,
    /// How the learning rate changes.
    pub schedule: Schedule,
}

impl Optimizer {
    /// Checks that the numbers can train something; `section` names the config section in the error.
    ///
    /// # Errors
    /// [`Error::Config`] with the key and what is allowed.
    pub fn check(&self, section: &str) -> Result<()> {
        // Finite as the kernels have it, in f32.
        let positive = (self.learning_rate as f32).is_finite() && self.learning_rate as f32 > 0.0;
        let checks = [
            (positive, "lr", self.learning_rate, "must be a number above 0 (of f32)"),
            (
                (self.weight_decay as f32).is_finite() && self.weight_decay >= 0.0,
                "weight_decay",
                self.weight_decay,
                "must be 0 or more",
            ),
            ((0.0..1.0).contains(&self.beta1), "beta1 or momentum", self.beta1, "must be in [0, 1)"),
            ((0.0..1.0).contains(&self.beta2), "beta2", self.beta2, "must be in [0, 1)"),
            (self.epsilon.is_finite() && self.epsilon > 0.0, "epsilon", self.epsilon, "must be above 0"),
        ];
        match checks.iter().find(|(holds, ..)| !holds) {
            Some((_, key, value, allowed)) => {
                Err(Error::config(format!("{section}.{key}"), format!("{allowed}, is {value}")))
            }
            None => Ok(()),
        }
    }

    /// The learning rate at `step`, from 0.
    #[must_use]
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        self.learning_rate * self.schedule.factor(step)
    }

    /// What the kernels need at optimizer step `step`, from 0, at the schedule's learning rate.
    #[must_use]
    pub fn rates(&self, step: u64) -> Rates {
        self.rates_at(step, self.learning_rate_at(step))
    }

    /// [`Optimizer::rates`] at a given learning rate. All in f64, rounded once: in f32, 1 − β₂ is already wrong by
    /// 1.3e-5.
    #[must_use]
    pub fn rates_at(&self, step: u64, learning_rate: f64) -> Rates {
        let steps = (step + 1).min(i32::MAX as u64) as i32;
        let adam = matches!(self.rule, Rule::Adam | Rule::AdamW);
        let correction = |beta: f64| if adam { 1.0 - beta.powi(steps) } else { 1.0 };
        let decoupled = self.rule == Rule::AdamW;
        Rates {
            rate: (learning_rate / correction(self.beta1)) as f32,
            decay: if decoupled { 0.0 } else { self.weight_decay as f32 },
            keep: if decoupled { (1.0 - learning_rate * self.weight_decay) as f32 } else { 1.0 },
            beta1: self.beta1 as f32,
            one_minus_beta1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            one_minus_beta2: (1.0 - self.beta2) as f32,
            epsilon: self.epsilon as f32,
            root_scale: (1.0 / correction(self.beta2).sqrt()) as f32,
        }
    }
}
