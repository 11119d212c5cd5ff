//! A dense layer for the first labels and a fixed fan-in layer for the rest (HASTE, arXiv 2606.01117): where rows are
//! ordered by frequency, the most frequent labels see all features and the tail stays sparse.

use super::dense::Dense;
use super::fan_in::FanIn;
use super::options::Step;
use crate::device::{Recording, Slice};
use crate::error::{Error, Result};
use crate::kernels::columns_of;

/// Features of which a part begins at a multiple of this begin where a binding may: columns are a multiple of 16.
pub const PRIVATE_UNIT: usize = 4;

/// Both layers on a device: rows 0 to K of the labels are dense, the others fixed fan-in.
pub struct Mixed {
    /// Of the first K labels.
    pub dense: Dense,
    /// Of the others, which it numbers from K on; its indices count its own features from 0.
    pub tail: FanIn,
    /// Features of both, D.
    features: usize,
}

impl Mixed {
    /// Puts a layer of L - K labels behind a dense one of K labels. Where both look at fewer than all `features`, the
    /// dense one looks at the first of them and the tail at the rest.
    ///
    /// # Errors
    /// [`Error::Usage`] when the layers' features are neither all of them nor parts that make up all, or the parts do not
    /// begin where a binding may.
    pub fn new(dense: Dense, mut tail: FanIn, features: usize) -> Result<Self> {
        let parts = [dense.options.features, tail.options.features];
        let private = parts[0] + parts[1] == features && parts[0].is_multiple_of(PRIVATE_UNIT);
        if parts != [features; 2] && !private {
            return Err(Error::Usage(format!(
                "a dense part of {} features and a tail of {} do not share {features}, of which the dense part takes a \
                 multiple of {PRIVATE_UNIT}",
                parts[0], parts[1]
            )));
        }
        tail.begin_at(dense.options.labels);
        Ok(Self { dense, tail, features })
    }

    /// Labels, L.
    #[must_use]
    pub fn labels(&self) -> usize {
        self.dense.options.labels + self.tail.options.labels
    }

    /// Features, D.
    #[must_use]
    pub fn features(&self) -> usize {
        self.features
    }

    /// What each part sees of `x` [D, columns], or adds to a gradient of this shape: all of it, or rows of its own.
    #[must_use]
    pub fn views(&self, x: &Slice, batch: usize) -> [Slice; 2] {
        let [dense, tail] = [self.dense.options.features, self.tail.options.features];
        let bytes = |features: usize| (features * columns_of(batch) * 4) as u64;
        [x.range(0, bytes(dense)), x.range(bytes(self.features - tail), bytes(tail))]
    }

    /// Records one training step over all labels: see [`Dense::record_step`] and [`FanIn::record_step`].
    pub(super) fn record_step(&self, recording: &mut Recording, step: &Step<'_>) {
        let [x, dx] = [step.x, step.dx].map(|slice| self.views(slice, step.batch));
        self.dense.record_step(recording, &Step { x: &x[0], dx: &dx[0], ..*step });
        self.tail.record_step(recording, &Step { x: &x[1], dx: &dx[1], ..*step });
    }
}
