//! What a fixed fan-in layer is made of, and what goes into a step of it.

use crate::device::{Device, Slice};
use crate::kernels::fan_in_dlogits::Loss;
use crate::kernels::fan_in_step::can_keep;
use crate::kernels::lists::Lists;
use crate::kernels::optimizer::{Rates, Rule};
use crate::kernels::storage::{Indices, Precision, Storage};
use crate::kernels::{Fetch, columns_of, fan_in_step_textures, fits_texture};

/// Logit gradients of a block take at most so many bytes.
pub const WORKSPACE_BYTES: usize = 64 << 20;

/// Rows of indices of an index of narrow lists are a multiple of this: whatever the fan-in, its lists begin where slices may.
pub(super) const NARROW_UNIT: usize = 128;

/// Fewest connections of a feature in an index of narrow lists: a word for each feature, where its list begins, is then half a byte
/// a connection at most.
const CONNECTIONS_OF_A_FEATURE: usize = 8;

/// What a layer is made of.
#[derive(Clone, Copy, Debug)]
pub struct FanInOptions {
    /// Labels, L.
    pub labels: usize,
    /// Features, D; at most 65,536, since indices have 16 bits.
    pub features: usize,
    /// Connections of a label, F.
    pub fan_in: usize,
    /// Consecutive labels that share a row of indices; 1: every label has its own.
    pub group: usize,
    /// Largest batch of a training step.
    pub max_batch: usize,
    /// Update rule; it decides which states are kept.
    pub rule: Rule,
    /// How weights and their states are stored, and where indices may point: to any feature, or in strata of the
    /// `features` here.
    pub precision: Precision,
    /// Whether biases are trained.
    pub train_bias: bool,
    /// Starting weights are uniform within ± this / √F (SPARTEX: 1).
    pub init_scale: f32,
    /// Starting bias.
    pub bias_init: f32,
    /// Seed of the run.
    pub seed: u64,
    /// Upper limit of labels in a block; 0: what the device allows.
    pub max_block_rows: usize,
    /// What becomes of the inverted index, where the features' gradient walks one.
    pub inverted_index: InvertedIndex,
}

/// What becomes of the lists that say, for each feature, which connections look at it: 2 bytes a connection, or 4. GPUs walk them
/// where rows are free. Rebuilt lists are the same; on real GPUs sums over them may be added in another order, since a block may have
/// several chunks then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvertedIndex {
    /// On software Vulkan rebuilt where they are large, otherwise kept.
    #[default]
    Auto,
    /// Kept, and rebuilt when indices change.
    Kept,
    /// Rebuilt in every step, for a run of labels at a time, in scratch.
    Rebuilt,
}

impl FanInOptions {
    /// How the kernels of a step fetch on a device: from textures where that is faster and the layer's sizes allow.
    #[must_use]
    pub fn fetch(&self, device: &Device) -> Fetch {
        let fetch = Fetch::of(device);
        let textures = fits_texture(device, self.features, columns_of(self.max_batch))
            && self.group == 1
            && self.precision.indices == Indices::Free
            && self.precision.features == Storage::F32
            && (can_keep(self.fan_in) || self.max_batch <= fan_in_step_textures::MAX_BATCH);
        if textures { Fetch::Textures } else { fetch }
    }

    /// Whether lists of connections that are kept take 16 bits a connection: where each feature has so many connections in an
    /// index that where its lists begin is little beside them.
    pub(super) fn has_narrow_lists(&self, device: &Device) -> bool {
        let rows = Lists::narrow_index_rows(self.fan_in);
        device.has_narrow_lists()
            && self.precision.indices == Indices::Free
            && rows.is_multiple_of(NARROW_UNIT)
            && rows * self.fan_in >= CONNECTIONS_OF_A_FEATURE * self.features
    }
}

/// Positives of a batch: (label, sample) pairs of u32, sorted by label, then sample.
#[derive(Clone, Debug)]
pub struct Positives {
    /// Number of pairs.
    pub count: usize,
    /// Where they lie.
    pub pairs: Slice,
}

/// What one step multiplies loss and gradient with, and where the loss goes.
#[derive(Clone, Copy, Debug)]
pub struct StepScale {
    /// Of the gradient.
    pub gradient: f32,
    /// Of the loss that is reported.
    pub loss: f32,
    /// Place in the ring of losses.
    pub place: usize,
}

/// One training step: what goes in and where the results go.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// Samples, B.
    pub batch: usize,
    /// Loss over every (sample, label) pair.
    pub loss: Loss,
    /// What loss and gradient are multiplied with.
    pub scale: StepScale,
    /// Number of the step, from 0; with the seed it decides how narrow weights are rounded.
    pub step: u64,
    /// Of the optimizer.
    pub rates: Rates,
    /// The positives of the batch.
    pub positives: &'a Positives,
    /// Features, \[D, columns\].
    pub x: &'a Slice,
    /// Gets the gradient of the features added, \[D, columns\].
    pub dx: &'a Slice,
    /// The ring of losses.
    pub losses: &'a Slice,
}
