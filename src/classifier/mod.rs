//! The output layer: fixed fan-in weights over the encoder's features, its training sweep, rewiring and ranking.

mod block;
mod contents;
mod fan_in;
mod rank;
mod rewire;
mod select;

pub use crate::kernels::fan_in_dlogits::Loss;
pub use block::LabelBlock;
pub use contents::Contents;
pub use fan_in::{FanIn, FanInOptions, Positives, Step, StepScale};
pub use rank::{Ranked, Ranker};
pub use rewire::{Prune, Regrow, RewireCounts};
