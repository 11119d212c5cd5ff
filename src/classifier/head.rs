//! The output layer of a model: fixed fan-in, or dense.

use super::dense::Dense;
use super::fan_in::{FanIn, Step};
use crate::device::{Device, Recording};
use crate::error::Result;

/// From features to labels.
pub enum Head {
    /// A fixed number of connections a label.
    FanIn(FanIn),
    /// All features.
    Dense(Dense),
}

impl Head {
    /// The fixed fan-in layer, if it is one: only that is rewired.
    #[must_use]
    pub fn fan_in(&self) -> Option<&FanIn> {
        match self {
            Self::FanIn(layer) => Some(layer),
            Self::Dense(_) => None,
        }
    }

    /// The dense layer, if it is one.
    #[must_use]
    pub fn dense(&self) -> Option<&Dense> {
        match self {
            Self::FanIn(_) => None,
            Self::Dense(layer) => Some(layer),
        }
    }

    /// Labels, L.
    #[must_use]
    pub fn labels(&self) -> usize {
        match self {
            Self::FanIn(layer) => layer.options.labels,
            Self::Dense(layer) => layer.options.labels,
        }
    }

    /// Features that it looks at, D.
    #[must_use]
    pub fn features(&self) -> usize {
        match self {
            Self::FanIn(layer) => layer.options.features,
            Self::Dense(layer) => layer.options.features,
        }
    }

    /// Connections of a label: F, or all D.
    #[must_use]
    pub fn connections(&self) -> usize {
        match self {
            Self::FanIn(layer) => layer.options.fan_in,
            Self::Dense(layer) => layer.options.features,
        }
    }

    /// Consecutive rows that share a row of indices; 1 where none do.
    #[must_use]
    pub fn group(&self) -> usize {
        match self {
            Self::FanIn(layer) => layer.options.group,
            Self::Dense(_) => 1,
        }
    }

    /// Labels of the largest block.
    pub(super) fn largest_block(&self) -> usize {
        match self {
            Self::FanIn(layer) => layer.blocks.iter().map(|block| block.shape.rows).max(),
            Self::Dense(layer) => layer.blocks.iter().map(|block| block.shape.rows).max(),
        }
        .unwrap_or(0)
    }

    /// Records one training step over all labels: see [`FanIn::record_step`] and [`Dense::record_step`].
    pub fn record_step(&self, recording: &mut Recording, step: &Step<'_>) {
        match self {
            Self::FanIn(layer) => layer.record_step(recording, step),
            Self::Dense(layer) => layer.record_step(recording, step),
        }
    }

    /// After its tensors were read from a file: see [`FanIn::rebuild_inverted`].
    ///
    /// # Errors
    /// [`crate::Error::Device`] when memory runs out or the device is lost.
    pub fn loaded(&self, device: &Device) -> Result<()> {
        match self {
            Self::FanIn(layer) => layer.rebuild_inverted(device),
            Self::Dense(_) => Ok(()),
        }
    }
}
