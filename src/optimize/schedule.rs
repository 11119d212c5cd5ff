//! How learning rate, rewiring threshold and auxiliary weight change over the run.

use std::f64::consts::PI;

/// Cosine from `start` at step 0 to `end` at step `total` and after.
#[must_use]
pub fn cosine(start: f64, end: f64, step: u64, total: u64) -> f64 {
    let share = step.min(total) as f64 / total.max(1) as f64;
    end + 0.5 * (start - end) * (1.0 + (PI * share).cos())
}

/// Factor of the learning rate: a linear rise over `warmup` steps, then a cosine to 0 at `total`
/// (transformers' `get_cosine_schedule_with_warmup`). The first step of a warm-up has factor 0.
#[must_use]
pub fn learning_rate_factor(step: u64, warmup: u64, total: u64) -> f64 {
    if step < warmup {
        return step as f64 / warmup as f64;
    }
    let share = (step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
    (0.5 * (1.0 + (PI * share).cos())).max(0.0)
}

/// Threshold of rewiring (SPARTEX, appendix C): a cosine from `start` to `end` over `total` steps.
#[must_use]
pub fn rewire_threshold(start: f64, end: f64, step: u64, total: u64) -> f64 {
    cosine(start, end, step, total)
}

/// Weight of the auxiliary loss: a cosine from `start` to 0 over `total` steps.
#[must_use]
pub fn auxiliary_weight(start: f64, step: u64, total: u64) -> f64 {
    cosine(start, 0.0, step, total)
}

/// A learning-rate schedule with its lengths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// Factor 1 after the warm-up.
    Constant {
        /// Steps of linear rise.
        warmup: u64,
    },
    /// [`learning_rate_factor`].
    Cosine {
        /// Steps of linear rise.
        warmup: u64,
        /// Optimizer steps of the whole run.
        total: u64,
    },
}

impl Schedule {
    /// Factor of the learning rate at optimizer step `step`, from 0.
    #[must_use]
    pub fn factor(&self, step: u64) -> f64 {
        match *self {
            Self::Constant { warmup } if step < warmup => step as f64 / warmup as f64,
            Self::Constant { .. } => 1.0,
            Self::Cosine { warmup, total } => learning_rate_factor(step, warmup, total),
        }
    }
}
