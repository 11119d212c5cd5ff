//! A run of labels: everything label-sized lives in such blocks, each below the adapter's binding limit.

use crate::device::{Buffer, Device};
use crate::error::Result;
use crate::kernels::fan_in_dlogits::Block;
use crate::kernels::lists::Windows;
use crate::kernels::optimizer::Rule;
use crate::kernels::rewire_mask::mask_words;

/// The tensors of a run of labels.
pub struct LabelBlock {
    /// Sizes; its `batch` is set anew for each launch.
    pub shape: Block,
    /// [rows, F], each row from a word on, stored as `shape.precision` says.
    pub weights: Buffer,
    /// [rows / group, index words], each row from a word on, stored as `shape.indices()` says.
    pub indices: Buffer,
    /// \[rows\] f32.
    pub bias: Buffer,
    /// First state of the weights, [rows, F], stored likewise, or 16 bytes where the optimizer has none.
    pub first: Buffer,
    /// Second state of the weights.
    pub second: Buffer,
    /// First state of the biases, \[rows\] f32.
    pub bias_first: Buffer,
    /// Second state of the biases.
    pub bias_second: Buffer,
    /// Slots that the last rewiring regrew, a bit each.
    pub regrown: Buffer,
    /// The inverted index, where the feature gradient walks one that is kept.
    pub inverted: Option<Inverted>,
}

/// Feature → connections, in runs of labels.
pub struct Inverted {
    /// How the block is cut.
    pub windows: Windows,
    /// [indices, offset words] u32, of which D + 1 are used.
    pub offsets: Buffer,
    /// [rows / group · F] in 16 or 32 bits.
    pub connections: Buffer,
}

impl Inverted {
    /// For the labels of `shape`.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when it does not fit.
    pub fn allocate(device: &Device, name: &str, shape: Block, windows: Windows) -> Result<Self> {
        let lists = windows.lists;
        let offsets = lists.of(shape.rows) * lists.offset_words;
        let connections = lists.words(shape.index_rows() * shape.fan_in);
        Ok(Self {
            windows,
            offsets: device.allocate(&format!("{name} offsets"), (offsets * 4) as u64)?,
            connections: device.allocate(name, (connections * 4) as u64)?,
        })
    }
}

impl LabelBlock {
    /// Allocates the block's tensors, all zero; the inverted index where it is `kept`, of such windows.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when they do not fit.
    pub fn allocate(device: &Device, shape: Block, rule: Rule, kept: Option<Windows>) -> Result<Self> {
        let weights = (shape.rows * shape.weight_words() * 4) as u64;
        let moments = (shape.rows * shape.moment_words() * 4) as u64;
        let biases = (shape.rows * 4) as u64;
        let state = |label: &str, number: usize, bytes: u64| {
            device.allocate(label, if rule.states() >= number { bytes } else { 0 })
        };
        Ok(Self {
            shape,
            weights: device.allocate("classifier weights", weights)?,
            indices: device
                .allocate("classifier indices", (shape.index_rows() * shape.index_words() * 4) as u64)?,
            bias: device.allocate("classifier bias", biases)?,
            first: state("classifier first moment", 1, moments)?,
            second: state("classifier second moment", 2, moments)?,
            bias_first: state("classifier bias first moment", 1, biases)?,
            bias_second: state("classifier bias second moment", 2, biases)?,
            regrown: device
                .allocate("regrown slots", (shape.index_rows() * mask_words(shape.fan_in) * 4) as u64)?,
            inverted: kept
                .map(|windows| Inverted::allocate(device, "inverted index", shape, windows))
                .transpose()?,
        })
    }

    /// The block's sizes with a batch.
    #[must_use]
    pub fn with_batch(&self, batch: usize) -> Block {
        Block { batch, ..self.shape }
    }
}
