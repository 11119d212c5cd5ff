//! How good a ranking is: P, nDCG, R, hits and their propensity-scored forms at 1 to 5, averages over labels, slices by
//! training frequency, and filtered pairs.

mod filter;
mod label_counts;
mod metrics;
mod propensity;
mod report;
mod slices;

pub use filter::Filter;
pub use label_counts::{LabelAverages, LabelCount, LabelCounts};
pub use metrics::{DEPTH, Metrics, PerReported, REPORTED, Ranking};
pub use propensity::{Propensities, inverse_propensities};
pub use slices::{Cuts, SLICES, Slice};
