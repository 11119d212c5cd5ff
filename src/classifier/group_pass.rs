//! The step of labels in groups as one pass, on software Vulkan: a launch takes a chunk of groups through all of it, in
//! runs of groups side by side, each a single subgroup.

use super::block::LabelBlock;
use super::chunk::{Chunk, rows_of};
use super::cut::{SOFTWARE_ITERATIONS, UNIT};
use super::options::{FanInOptions, Step, WORKSPACE_BYTES};
use crate::device::{Buffer, Device, DeviceKind, Recording};
use crate::error::Result;
use crate::kernels::fan_in_dlogits::Block;
use crate::kernels::fan_in_group_step::{self, Tiles};
use crate::kernels::fan_in_step::StepOptions;
use crate::kernels::storage::Storage;
use crate::kernels::{Fetch, column_sum, columns_of, fits_texture, loss_sum, positive_bits};

/// Runs of groups side by side: what they send back to the features is added up in so many partial sums.
const PARTS: usize = 16;

/// Scratch of a step.
pub(super) struct GroupPass {
    /// Labels of a chunk, in whole groups.
    chunk_rows: usize,
    /// How its work is shared out.
    tiles: Tiles,
    /// Which samples are positive for the labels of a chunk, [rows, words].
    bits: Buffer,
    /// Logit gradients of a group and sums of its weights' gradients, [`PARTS`, [`Tiles::scratch`]].
    dlogits: Buffer,
    /// Losses of a chunk, [rows / group, columns / 8].
    losses: Buffer,
    /// Gradients of the features, [`PARTS`, D, columns].
    partial: Buffer,
}

/// The groups of a chunk and how their work is shared out, where a step of such a layer is one pass: the loops of software
/// Vulkan end early, and a lane must reach the end of its groups.
fn chunk_groups(device: &Device, options: &FanInOptions) -> Option<(usize, Tiles)> {
    let FanInOptions { group, fan_in, max_batch, precision, features, .. } = *options;
    // Many features and large batches would make the partial sums larger than a binding may be.
    let partial = PARTS * features * columns_of(max_batch) * 4;
    if device.kind() != DeviceKind::SoftwareGpu || group == 1 || partial > WORKSPACE_BYTES {
        return None;
    }
    let block = Block { rows: group, first_label: 0, fan_in, group, batch: max_batch, precision };
    let tiles = Tiles::of(device, block, GroupPass::fetch(device, options))?;
    let of_part = SOFTWARE_ITERATIONS / tiles.rounds_of_a_group(block);
    let groups = PARTS * of_part / UNIT * UNIT;
    (groups > 0).then_some((groups, tiles))
}

impl GroupPass {
    /// For blocks of at most `block_rows` labels; none where the step is to be launched part by part.
    pub(super) fn allocate(
        device: &Device,
        options: &FanInOptions,
        block_rows: usize,
    ) -> Result<Option<Self>> {
        let Some((groups, tiles)) = chunk_groups(device, options) else { return Ok(None) };
        let chunk_rows = groups * options.group;
        let (rows, columns) = (chunk_rows.min(block_rows), columns_of(options.max_batch));
        let groups = rows.div_ceil(options.group);
        let allocate = |label: &str, numbers: usize| device.allocate(label, (numbers * 4) as u64);
        let FanInOptions { group, fan_in, max_batch, precision, .. } = *options;
        let block = Block { rows, first_label: 0, fan_in, group, batch: max_batch, precision };
        Ok(Some(Self {
            chunk_rows,
            tiles,
            bits: allocate("positives of a chunk", rows * positive_bits::words(columns))?,
            dlogits: allocate("logit gradients", PARTS * tiles.scratch(block))?,
            losses: allocate("label losses", groups * columns / 8)?,
            partial: allocate("partial feature gradients", PARTS * options.features * columns)?,
        }))
    }

    /// How its kernel fetches on a device.
    pub(super) fn fetch(device: &Device, options: &FanInOptions) -> Fetch {
        let fetch = Fetch::of(device);
        let textures = fetch == Fetch::DearPairs
            && fits_texture(device, options.features, columns_of(options.max_batch))
            && options.precision.features == Storage::F32;
        if textures { Fetch::Textures } else { fetch }
    }

    /// How often a step fetches for each connection and sample.
    pub(super) fn fetches(&self, options: &FanInOptions) -> f64 {
        self.tiles.fetches(options.group, options.fan_in)
    }

    /// Records the step of all blocks.
    pub(super) fn record(
        &self,
        recording: &mut Recording,
        blocks: &[LabelBlock],
        options: &FanInOptions,
        launch: &StepOptions,
        step: &Step<'_>,
    ) {
        let area = options.features * columns_of(step.batch);
        let partial = self.partial.whole().front((PARTS * area * 4) as u64);
        recording.clear(partial.clone());
        for block in blocks {
            for first in (0..block.shape.rows).step_by(self.chunk_rows) {
                let chunk = Chunk::new(block, first, self.chunk_rows, step.batch);
                self.record_chunk(recording, &chunk, options.features, launch, step);
            }
        }
        recording.launch(column_sum::launch(PARTS, area, &partial, step.dx, true));
    }

    fn record_chunk(
        &self,
        recording: &mut Recording,
        chunk: &Chunk<'_>,
        features: usize,
        launch: &StepOptions,
        step: &Step<'_>,
    ) {
        let shape = chunk.shape;
        let columns = columns_of(step.batch);
        let words = positive_bits::words(columns);
        let bits = rows_of(&self.bits, 0, shape.rows, words);
        let pairs = [&step.positives.pairs, &bits];
        let count = step.positives.count;
        recording.launch(positive_bits::launch(shape.rows, shape.first_label, columns, count, pairs));
        let losses = fan_in_group_step::losses(shape);
        let of_groups = rows_of(&self.losses, 0, losses, 1);
        let parts = PARTS.min(shape.index_rows());
        let dlogits = rows_of(&self.dlogits, 0, parts, self.tiles.scratch(shape));
        let partial = rows_of(&self.partial, 0, parts * features, columns);
        recording.launch(fan_in_group_step::launch(
            shape,
            launch,
            (features, parts, self.tiles),
            [step.x, &chunk.indices(), &bits],
            chunk.changed().each_ref(),
            [&dlogits, &partial, &of_groups],
        ));
        recording.launch(loss_sum::launch(
            losses,
            step.scale.place,
            step.scale.loss,
            &of_groups,
            step.losses,
        ));
    }
}
