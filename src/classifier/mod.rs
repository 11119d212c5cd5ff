//! The output layer: fixed fan-in weights over the encoder's features, its training sweep, rewiring and ranking; the dense
//! layer it is compared with; and a layer whose most frequent labels are dense.

mod block;
mod chunk;
mod contents;
mod cut;
mod dense;
mod fan_in;
mod group_pass;
mod grow;
mod grow_documents;
mod head;
mod inverted;
mod launches;
mod mixed;
mod options;
mod rank;
mod rewire;
mod select;
mod strata;

pub use crate::kernels::fan_in_dlogits::Loss;
pub use block::LabelBlock;
pub use contents::Contents;
pub use dense::{Dense, DenseBlock, DenseOptions, DenseRole};
pub use fan_in::FanIn;
pub use grow::{GrowthBatch, GrowthWorkspace};
pub use head::Head;
pub use mixed::{Mixed, PRIVATE_UNIT};
pub use options::{FanInOptions, InvertedIndex, Positives, Step, StepScale, WORKSPACE_BYTES};
pub use rank::{Ranked, Ranker};
pub use rewire::{Prune, Regrow, RewireCounts};
