//! The layer's step where it is no single pass: launch after launch, in chunks of labels.
//!
//! Labels lie at two scales. A chunk is what is launched at once: its logit gradients and its weights as they were before
//! the step are kept until the features' gradient has read them. A window is what an inverted index is about: the
//! features' gradient of a window is a sum of its own, and the windows' sums are added in order.

use super::block::LabelBlock;
use super::fan_in::{FanInOptions, Step, WORKSPACE_BYTES};
use super::strata::StrataGradient;
use crate::device::{Buffer, Device, DeviceKind, Recording, Slice};
use crate::error::{Error, Result};
use crate::kernels::fan_in_dlogits::Block;
use crate::kernels::fan_in_feature_gradient::{self, Windows};
use crate::kernels::fan_in_step::{self, StepOptions};
use crate::kernels::inverted_index::{self, MAX_INDEX_ROWS};
use crate::kernels::storage::{Indices, Rounding};
use crate::kernels::{column_sum, columns_of, loss_sum};

/// Rows of labels and of indices that are a multiple of this begin where slices may.
const UNIT: usize = 64;

/// Lanes that the features' gradient shall have on a real GPU. D · B / 4 of them, one for four samples of a feature, are
/// 12,288 for a small encoder, a tenth of what a large GPU holds at once (132 processors of 2,048 lanes on an H200), so
/// labels are cut into windows until there are about so many.
const WANTED_LANES: usize = 1 << 17;

/// Bytes of logit gradients in a chunk on software Vulkan. They are fetched back at random, which takes a quarter of the
/// time from the processor's second cache (docs/rejected.md). There are lanes enough in one window.
const SOFTWARE_CHUNK_BYTES: usize = 512 << 10;

/// Iterations of an invocation that are surely computed on software Vulkan, whose loops end after 65,535 and say nothing.
const SOFTWARE_ITERATIONS: usize = 40_000;

/// Most labels in a block on software Vulkan: a feature's list of connections, rows · F / D on average, must stay well
/// below what its loops can do, and so must the F² / 2 comparisons of a slot that is wired when nearly all features are
/// in use.
pub(super) fn software_rows(fan_in: usize, features: usize) -> Result<usize> {
    if fan_in * fan_in / 2 > SOFTWARE_ITERATIONS {
        return Err(Error::Device(format!(
            "a fan-in of {fan_in} is more than software Vulkan computes correctly (its loops end early); use --device cpu"
        )));
    }
    Ok((SOFTWARE_ITERATIONS * features / fan_in).max(1))
}

/// How blocks are cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Labels of a chunk, unless the block has fewer; a multiple of [`UNIT`] groups.
    pub(super) chunk_rows: usize,
    /// Windows, of which a chunk has whole ones.
    pub(super) windows: Windows,
}

impl Cut {
    /// For blocks of at most `block_rows` labels.
    pub(super) fn choose(kind: DeviceKind, options: &FanInOptions, block_rows: usize) -> Self {
        let columns = columns_of(options.max_batch);
        let unit = UNIT * options.group;
        let units = |rows: usize| (rows / unit * unit).max(unit);
        // Slices of offsets begin where slices may, too.
        let offset_words = (options.features + 1).next_multiple_of(UNIT);
        if kind == DeviceKind::SoftwareGpu {
            let rows = units(SOFTWARE_CHUNK_BYTES / (columns * 4));
            return Self { chunk_rows: rows, windows: Windows { rows, offset_words } };
        }
        let area = options.features * columns;
        let wanted = (WANTED_LANES / (area / 4)).clamp(1, (WORKSPACE_BYTES / (area * 4)).max(1));
        let rows = block_rows.div_ceil(wanted).next_multiple_of(unit).min(MAX_INDEX_ROWS * options.group);
        Self { chunk_rows: block_rows.next_multiple_of(rows), windows: Windows { rows, offset_words } }
    }
}

/// Scratch of a step.
pub(super) struct Launches {
    pub(super) cut: Cut,
    /// Logit gradients of a chunk, [rows, columns].
    pub(super) dlogits: Buffer,
    /// Weights of a chunk as they were before the step.
    before: Buffer,
    /// Losses of a block's labels.
    pub(super) label_loss: Buffer,
    /// Gradients of the features from the windows of a chunk, where it has several, [windows, D, columns].
    partial: Option<Buffer>,
    /// What the gradient of stratified rows needs instead.
    by_stratum: Option<StrataGradient>,
}

impl Launches {
    pub(super) fn allocate(
        device: &Device,
        cut: Cut,
        options: &FanInOptions,
        block_rows: usize,
    ) -> Result<Self> {
        let (rows, columns) = (cut.chunk_rows.min(block_rows), columns_of(options.max_batch));
        let words = options.precision.weight_words(options.fan_in);
        let bytes = |count: usize| (count * 4) as u64;
        let windows = if options.precision.indices == Indices::Free { cut.windows.of(rows) } else { 1 };
        let partial = bytes(windows * options.features * columns);
        Ok(Self {
            cut,
            dlogits: device.allocate("logit gradients", bytes(rows * columns))?,
            before: device.allocate("weights before the step", bytes(rows * words))?,
            label_loss: device.allocate("label losses", bytes(block_rows))?,
            partial: match windows {
                1 => None,
                _ => Some(device.allocate("partial feature gradients", partial)?),
            },
            by_stratum: StrataGradient::allocate(device, options, rows, columns)?,
        })
    }

    /// Records the step of a block.
    pub(super) fn record(
        &self,
        recording: &mut Recording,
        device: DeviceKind,
        block: &LabelBlock,
        options: &FanInOptions,
        step: &Step<'_>,
    ) {
        let software = device == DeviceKind::SoftwareGpu;
        let features = options.features;
        for first in (0..block.shape.rows).step_by(self.cut.chunk_rows) {
            let chunk = Chunk::new(block, first, self.cut.chunk_rows, step.batch);
            let shape = chunk.shape;
            let [dlogits, before] = [&self.dlogits, &self.before].map(Buffer::whole);
            let dlogits = dlogits.front((shape.rows * columns_of(shape.batch) * 4) as u64);
            let before = before.front((shape.rows * shape.weight_words() * 4) as u64);
            let (indices, changed) = (chunk.indices(), chunk.changed());
            recording.launch(fan_in_step::launch(
                shape,
                &StepOptions {
                    loss: step.loss,
                    scale: step.scale.gradient,
                    positives: step.positives.count,
                    rule: options.rule,
                    rates: step.rates,
                    rounding: Rounding::new(options.seed, step.step),
                    train_bias: options.train_bias,
                    keep: software,
                },
                [step.x, &indices, &step.positives.pairs],
                changed.each_ref(),
                [&dlogits, &before, &rows_of(&self.label_loss, first, shape.rows, 1)],
            ));
            if let Some(gradient) = &self.by_stratum {
                gradient.record(recording, shape, [&dlogits, &before, &indices, step.dx]);
            }
            let Some(inverted) = &block.inverted else { continue };
            let windows = inverted.windows;
            let [offsets, connections] = chunk.lists(windows, [&inverted.offsets, &inverted.connections]);
            let count = windows.of(shape.rows);
            let partial = self.partial.as_ref().filter(|_| count > 1);
            let area = features * columns_of(shape.batch);
            let sums = partial
                .map_or_else(|| step.dx.clone(), |partial| partial.whole().front((count * area * 4) as u64));
            let bindings = [&dlogits, &before, &offsets, &connections, &sums];
            recording.launch(fan_in_feature_gradient::launch(shape, features, windows, software, bindings));
            if partial.is_some() {
                recording.launch(column_sum::launch(count, area, &sums, step.dx, true));
            }
        }
        let label_loss = rows_of(&self.label_loss, 0, block.shape.rows, 1);
        let (place, scale) = (step.scale.place, step.scale.loss);
        recording.launch(loss_sum::launch(block.shape.rows, place, scale, &label_loss, step.losses));
    }
}

/// Records the inverted indices of a block's windows; `table` is scratch.
pub(super) fn record_inverted(
    recording: &mut Recording,
    block: &LabelBlock,
    features: usize,
    table: &Buffer,
) {
    let Some(inverted) = &block.inverted else { return };
    for first in (0..block.shape.rows).step_by(inverted.windows.rows) {
        let window = Chunk::new(block, first, inverted.windows.rows, 0);
        let [offsets, connections] =
            window.lists(inverted.windows, [&inverted.offsets, &inverted.connections]);
        let bindings = [&window.indices(), &table.whole(), &offsets, &connections];
        for launch in inverted_index::launches(window.shape, features, bindings) {
            recording.launch(launch);
        }
    }
}

/// `count` rows of `words` words from row `first` on.
fn rows_of(buffer: &Buffer, first: usize, count: usize, words: usize) -> Slice {
    buffer.range((first * words * 4) as u64, (count * words * 4) as u64)
}

/// A run of a block's labels.
struct Chunk<'a> {
    block: &'a LabelBlock,
    first: usize,
    shape: Block,
}

impl<'a> Chunk<'a> {
    fn new(block: &'a LabelBlock, first: usize, rows: usize, batch: usize) -> Self {
        let rows = rows.min(block.shape.rows - first);
        let shape = Block { rows, first_label: block.shape.first_label + first, batch, ..block.shape };
        Self { block, first, shape }
    }

    fn indices(&self) -> Slice {
        let first = self.first / self.shape.group;
        rows_of(&self.block.indices, first, self.shape.index_rows(), self.shape.index_words())
    }

    /// Weights, biases and the states of both, whatever of them there is.
    fn changed(&self) -> [Slice; 6] {
        let LabelBlock { weights, bias, first, second, bias_first, bias_second, .. } = self.block;
        let rows = |buffer: &Buffer, words: usize| {
            // What stands for a state that the rule does not have is less than a row for each label.
            let has = buffer.bytes() >= (self.block.shape.rows * words * 4) as u64;
            if has { rows_of(buffer, self.first, self.shape.rows, words) } else { buffer.whole() }
        };
        let (weight_words, moment_words) = (self.shape.weight_words(), self.shape.moment_words());
        [
            rows(weights, weight_words),
            rows(bias, 1),
            rows(first, moment_words),
            rows(second, moment_words),
            rows(bias_first, 1),
            rows(bias_second, 1),
        ]
    }

    /// The chunk's rows of offsets and its lists of connections.
    fn lists(&self, windows: Windows, [offsets, connections]: [&Buffer; 2]) -> [Slice; 2] {
        let (first, count) = (self.first / windows.rows, windows.of(self.shape.rows));
        let first_index_row = self.first / self.shape.group;
        [
            rows_of(offsets, first, count, windows.offset_words),
            rows_of(connections, first_index_row, self.shape.index_rows(), self.shape.fan_in),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::optimizer::Rule;

    fn options(fan_in: usize, group: usize, features: usize, max_batch: usize) -> FanInOptions {
        FanInOptions {
            labels: 1,
            features,
            fan_in,
            group,
            max_batch,
            rule: Rule::AdamW,
            precision: Default::default(),
            train_bias: true,
            init_scale: 1.0,
            bias_init: 0.0,
            seed: 0,
            max_block_rows: 0,
        }
    }

    const KINDS: [DeviceKind; 3] = [DeviceKind::SoftwareGpu, DeviceKind::Cpu, DeviceKind::DiscreteGpu];

    #[test]
    fn chunks_and_windows_begin_where_slices_may_and_hold_whole_groups() {
        for kind in KINDS {
            for (group, block_rows) in [(1, 7), (1, 131_072), (8, 131_072), (64, 100_000), (1000, 64_000)] {
                for (features, batch) in [(3, 1), (768, 64), (768, 1000), (65_536, 512)] {
                    let cut = Cut::choose(kind, &options(2, group, features, batch), block_rows);
                    let case = format!("{kind:?}, groups of {group}, {block_rows} rows: {cut:?}");
                    let Windows { rows, offset_words } = cut.windows;
                    assert_eq!(rows % (UNIT * group), 0, "{case}");
                    assert_eq!(cut.chunk_rows % rows, 0, "{case}");
                    assert!(rows / group <= MAX_INDEX_ROWS, "{case}");
                    assert!(offset_words > features && offset_words % UNIT == 0, "{case}");
                }
            }
        }
    }

    #[test]
    fn large_gpus_get_lanes_and_software_its_cache() {
        // 262,144 rows of 64 columns are 64 MiB of logit gradients.
        let of = |kind| Cut::choose(kind, &options(32, 1, 768, 64), 262_144);
        let gpu = of(DeviceKind::DiscreteGpu);
        assert!(gpu.chunk_rows >= 262_144);
        // Ten windows of 12,288 lanes.
        assert_eq!((gpu.windows.of(262_144), gpu.windows.rows), (10, 26_240));
        let software = of(DeviceKind::SoftwareGpu);
        assert_eq!((software.chunk_rows, software.windows.rows), (2048, 2048));
    }

    #[test]
    fn software_loops_end_before_their_limit() {
        for (fan_in, features) in [(1, 1), (32, 768), (128, 1024), (200, 200)] {
            let rows = software_rows(fan_in, features).unwrap();
            assert!(rows * fan_in / features <= SOFTWARE_ITERATIONS, "{fan_in} of {features}");
        }
        assert!(software_rows(283, 65_536).is_err());
    }
}
