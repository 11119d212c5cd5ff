//! Growth by gradient (RigL, Evci et al. 2020) without a dense gradient: a pruned slot draws some features at random and
//! takes the one on which the loss of the last batch leans most.

use super::block::LabelBlock;
use super::cut::SOFTWARE_CHUNK_BYTES;
use super::fan_in::FanIn;
use super::options::Positives;
use crate::device::{Buffer, Device, DeviceKind, Recording, Slice};
use crate::error::Result;
use crate::kernels::columns_of;
use crate::kernels::fan_in_dlogits::{self, Block, Loss};
use crate::kernels::rewire_gradient::{self, slots_at_once};
use crate::kernels::rewire_mask::mask_words;
use crate::kernels::rewire_regrow::Growth;

/// Labels of a chunk are a multiple of this: their rows then begin where slices may.
const CHUNK_ROWS: usize = 64;

/// Scratch of growth by gradient: logit gradients and losses of a chunk of labels. A layer whose steps are launched one
/// after the other lends its own, if they are buffers.
pub struct GrowthWorkspace {
    dlogits: Buffer,
    label_loss: Buffer,
    /// Labels of a chunk.
    rows: usize,
}

impl GrowthWorkspace {
    /// Scratch for a layer, at most `bytes` of logit gradients, rounded up to 64 labels.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when it does not fit.
    pub fn new(device: &Device, layer: &FanIn, bytes: usize) -> Result<Self> {
        let largest = layer.blocks.iter().map(|block| block.shape.rows).max().unwrap_or(0);
        if let Some(([dlogits, label_loss], rows)) = layer.step_scratch() {
            return Ok(Self { dlogits, label_loss, rows: rows.min(largest) });
        }
        let software = device.kind() == DeviceKind::SoftwareGpu;
        let bytes = if software { bytes.min(SOFTWARE_CHUNK_BYTES) } else { bytes };
        let columns = columns_of(layer.options.max_batch);
        let unit = CHUNK_ROWS * layer.options.group;
        let rows = (bytes / (columns * 4) / unit * unit).max(unit).min(largest);
        Ok(Self {
            dlogits: device.allocate("logit gradients", (rows * columns * 4) as u64)?,
            label_loss: device.allocate("label losses", (rows * 4) as u64)?,
            rows,
        })
    }
}

/// The batch whose gradient decides what grows, and how many features a slot chooses from.
#[derive(Clone, Copy)]
pub struct GrowthBatch<'a> {
    /// Scratch.
    pub workspace: &'a GrowthWorkspace,
    /// Features that a slot chooses from, 1 to [`rewire_gradient::MAX_CANDIDATES`].
    pub candidates: usize,
    /// Samples, B.
    pub batch: usize,
    /// Loss over every (sample, label) pair.
    pub loss: Loss,
    /// The positives of the batch.
    pub positives: &'a Positives,
    /// Features, \[D, columns\].
    pub x: &'a Slice,
}

impl FanIn {
    /// Records the choice of new indices for the slots of `mask` in a block. The logit gradients are those of the
    /// weights as they are now, before anything is pruned.
    pub(super) fn record_growth(
        &self,
        recording: &mut Recording,
        block: &LabelBlock,
        mask: &Buffer,
        growth: Growth,
        (guide, device): (&GrowthBatch<'_>, &Device),
    ) {
        let GrowthBatch { workspace, candidates, batch, loss, positives, x } = *guide;
        let Block { fan_in, group, .. } = block.shape;
        let software = device.kind() == DeviceKind::SoftwareGpu;
        for first in (0..block.shape.rows).step_by(workspace.rows.max(1)) {
            let rows = workspace.rows.min(block.shape.rows - first);
            let shape = Block { rows, first_label: block.shape.first_label + first, batch, ..block.shape };
            let part = |buffer: &Buffer, first: usize, rows: usize, row_words: usize| {
                buffer.range((first * row_words * 4) as u64, (rows * row_words * 4) as u64)
            };
            let index_part =
                |buffer: &Buffer, words: usize| part(buffer, first / group, shape.index_rows(), words);
            let weights = part(&block.weights, first, rows, shape.weight_words());
            let bias = part(&block.bias, first, rows, 1);
            let indices = index_part(&block.indices, shape.index_words());
            let mask = index_part(mask, mask_words(fan_in));
            let dlogits = part(&workspace.dlogits, 0, rows, columns_of(batch));
            let label_loss = part(&workspace.label_loss, 0, rows, 1);
            // Only the order of magnitudes counts, so no reduction scales them.
            let bindings = [x, &weights, &indices, &bias, &positives.pairs, &dlogits, &label_loss];
            recording.launch(fan_in_dlogits::launch(shape, Some(loss), 1.0, positives.count, bindings));
            let slots = slots_at_once(shape, growth.features, candidates, software);
            let bindings = [&mask, x, &dlogits, &indices];
            for launch in rewire_gradient::launches(shape, growth, candidates, slots, bindings) {
                recording.launch(launch);
            }
        }
    }
}
