//! The output layer of a model: fixed fan-in, dense, or dense for the first labels and fixed fan-in for the rest.

use super::dense::Dense;
use super::fan_in::FanIn;
use super::mixed::Mixed;
use super::options::Step;
use crate::device::{Device, Recording, Slice};
use crate::error::Result;

/// From features to labels.
pub enum Head {
    /// A fixed number of connections a label.
    FanIn(FanIn),
    /// All features.
    Dense(Dense),
    /// All features for the first labels, a fixed number of connections for each of the others.
    Mixed(Mixed),
}

impl Head {
    /// The fixed fan-in layer, or the part that is one: only that is rewired.
    #[must_use]
    pub fn fan_in(&self) -> Option<&FanIn> {
        match self {
            Self::FanIn(layer) => Some(layer),
            Self::Dense(_) => None,
            Self::Mixed(layer) => Some(&layer.tail),
        }
    }

    /// The dense layer, or the part that is one.
    #[must_use]
    pub fn dense(&self) -> Option<&Dense> {
        match self {
            Self::FanIn(_) => None,
            Self::Dense(layer) => Some(layer),
            Self::Mixed(layer) => Some(&layer.dense),
        }
    }

    /// Labels, L.
    #[must_use]
    pub fn labels(&self) -> usize {
        match self {
            Self::FanIn(layer) => layer.options.labels,
            Self::Dense(layer) => layer.options.labels,
            Self::Mixed(layer) => layer.labels(),
        }
    }

    /// Features that it looks at, D.
    #[must_use]
    pub fn features(&self) -> usize {
        match self {
            Self::FanIn(layer) => layer.options.features,
            Self::Dense(layer) => layer.options.features,
            Self::Mixed(layer) => layer.features(),
        }
    }

    /// Connections of a label: F, or all D where no label has fewer.
    #[must_use]
    pub fn connections(&self) -> usize {
        match self {
            Self::FanIn(layer) => layer.options.fan_in,
            Self::Dense(layer) => layer.options.features,
            Self::Mixed(layer) => layer.tail.options.fan_in,
        }
    }

    /// Consecutive rows that share a row of indices; 1 where none do.
    #[must_use]
    pub fn group(&self) -> usize {
        self.fan_in().map_or(1, |layer| layer.options.group)
    }

    /// Whether the place of a label among the rows matters, so that rows may be in another order than labels.
    #[must_use]
    pub fn has_row_order(&self) -> bool {
        self.group() > 1 || matches!(self, Self::Mixed(_))
    }

    /// What the dense part and the fixed fan-in part see of `x` [D, columns].
    pub(super) fn views(&self, x: &Slice, batch: usize) -> [Slice; 2] {
        match self {
            Self::FanIn(_) | Self::Dense(_) => [x.clone(), x.clone()],
            Self::Mixed(layer) => layer.views(x, batch),
        }
    }

    /// What the fixed fan-in part sees of `x` [D, columns].
    #[must_use]
    pub fn seen_by_fan_in(&self, x: &Slice, batch: usize) -> Slice {
        let [_, tail] = self.views(x, batch);
        tail
    }

    /// Records one training step over all labels: see [`FanIn::record_step`] and [`Dense::record_step`].
    pub fn record_step(&self, recording: &mut Recording, step: &Step<'_>) {
        match self {
            Self::FanIn(layer) => layer.record_step(recording, step),
            Self::Dense(layer) => layer.record_step(recording, step),
            Self::Mixed(layer) => layer.record_step(recording, step),
        }
    }

    /// After its tensors were read from a file: see [`FanIn::rebuild_inverted`].
    ///
    /// # Errors
    /// [`crate::Error::Device`] when memory runs out or the device is lost.
    pub fn loaded(&self, device: &Device) -> Result<()> {
        self.fan_in().map_or(Ok(()), |layer| layer.rebuild_inverted(device))
    }
}
