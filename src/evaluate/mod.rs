//! How good a ranking is: P, nDCG, R, hits and their propensity-scored forms at 1 to 5, and filtered pairs.

mod filter;
mod metrics;
mod propensity;

pub use filter::Filter;
pub use metrics::{DEPTH, Metrics, Ranking};
pub use propensity::inverse_propensities;
