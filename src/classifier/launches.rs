//! The layer's step where it is no single pass: launch after launch, in chunks of labels.

use super::block::LabelBlock;
use super::chunk::{Chunk, rows_of};
use super::cut::Cut;
use super::inverted::Rebuilt;
use super::options::{FanInOptions, Step, StepScale};
use super::strata::StrataGradient;
use crate::device::{Buffer, Device, DeviceKind, Launch, Recording, Slice};
use crate::error::Result;
use crate::kernels::fan_in_dlogits::Block;
use crate::kernels::fan_in_feature_gradient;
use crate::kernels::fan_in_step::{self, StepOptions};
use crate::kernels::lists::Windows;
use crate::kernels::storage::Indices;
use crate::kernels::{
    Fetch, bias_update, column_sum, columns_of, fan_in_group_gradient, fan_in_group_logits,
    fan_in_group_update, loss_sum,
};

/// Losses that are added up by columns before one workgroup adds the rest: sixty-four for each of its lanes.
const LOSS_LANES: usize = 4096;

/// Scratch of a step.
pub(super) struct Launches {
    pub(super) cut: Cut,
    /// Logit gradients of a chunk, [rows, columns].
    pub(super) dlogits: Buffer,
    /// How the labels of a chunk take their step.
    scratch: StepScratch,
    /// Losses of a chunk's labels, or of tiles of them.
    pub(super) label_loss: Buffer,
    /// Sums of losses, where there are many.
    loss_sums: Option<Buffer>,
    /// Gradients of the features from the windows of a chunk, where it has several, [windows, D, columns].
    partial: Option<Buffer>,
    /// What the gradient of stratified rows needs instead.
    by_stratum: Option<StrataGradient>,
    /// Where the inverted index is rebuilt, if it is not kept.
    rebuilt: Option<Rebuilt>,
}

/// What a step keeps of a chunk besides its logit gradients.
enum StepScratch {
    /// One launch changes the weights too: as they were before the step.
    Before(Buffer),
    /// Groups of labels, a launch for each of their products: what they send back, [rows / group, F, columns], unless
    /// rows are stratified.
    Groups(Option<Buffer>),
}

/// Whether what groups send back is summed up for each of their connections.
pub(super) fn sums_by_group(device: &Device, options: &FanInOptions) -> bool {
    has_group_steps(device, options) && options.precision.indices == Indices::Free
}

/// Whether labels take their step in groups.
fn has_group_steps(device: &Device, options: &FanInOptions) -> bool {
    options.group > 1 && device.has_group_kernels()
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
        let by_group = has_group_steps(device, options);
        let shape = Block {
            rows,
            first_label: 0,
            fan_in: options.fan_in,
            group: options.group,
            batch: options.max_batch,
            precision: options.precision,
        };
        // Growth by gradient has a loss for each label here.
        let losses = if by_group { fan_in_group_logits::losses(shape).max(rows) } else { rows };
        let scratch = if by_group {
            let sent = bytes(rows.div_ceil(options.group) * options.fan_in * columns);
            let sums = sums_by_group(device, options);
            StepScratch::Groups(sums.then(|| device.allocate("gradients by group", sent)).transpose()?)
        } else {
            StepScratch::Before(device.allocate("weights before the step", bytes(rows * words))?)
        };
        let windows = if options.precision.indices == Indices::Free { cut.windows.of(rows) } else { 1 };
        let partial = bytes(windows * options.features * columns);
        let dlogits = match options.fetch(device) {
            Fetch::Textures => device.allocate_texture("logit gradients", [rows, columns])?,
            _ => device.allocate("logit gradients", bytes(rows * columns))?,
        };
        Ok(Self {
            cut,
            dlogits,
            scratch,
            label_loss: device.allocate("label losses", bytes(losses))?,
            loss_sums: (device.kind() != DeviceKind::SoftwareGpu && losses > LOSS_LANES)
                .then(|| device.allocate("sums of label losses", bytes(LOSS_LANES)))
                .transpose()?,
            partial: match windows {
                1 => None,
                _ => Some(device.allocate("partial feature gradients", partial)?),
            },
            by_stratum: StrataGradient::allocate(device, options, rows, columns)?,
            rebuilt: Rebuilt::allocate(device, cut, Block { rows: block_rows, ..shape }, options)?,
        })
    }

    /// Whether labels that share the features of their connections take their step together.
    pub(super) fn steps_in_groups(&self) -> bool {
        matches!(self.scratch, StepScratch::Groups(_))
    }

    /// Records the step of a block.
    pub(super) fn record(
        &self,
        recording: &mut Recording,
        block: &LabelBlock,
        features: usize,
        options: &StepOptions,
        step: &Step<'_>,
    ) {
        let context = StepContext { options: *options, features, step };
        for first in (0..block.shape.rows).step_by(self.cut.chunk_rows) {
            let chunk = Chunk::new(block, first, self.cut.chunk_rows, step.batch);
            if let Some(rebuilt) = &self.rebuilt {
                rebuilt.record_before(recording, &chunk, features);
            }
            match &self.scratch {
                StepScratch::Before(before) => self.record_labels(recording, &context, &chunk, before),
                StepScratch::Groups(sent) => self.record_groups(recording, &context, &chunk, sent.as_ref()),
            }
        }
    }

    /// Adds `count` losses of a chunk to the step's place in the ring. One workgroup does that, so many are first added up
    /// by columns: its lanes would wait for thousands of numbers, one after the other.
    fn record_losses(&self, recording: &mut Recording, context: &StepContext<'_>, count: usize) {
        let StepScale { place, loss: scale, .. } = context.step.scale;
        let mut done = 0;
        if let Some(sums) = self.loss_sums.as_ref().filter(|_| count > LOSS_LANES) {
            let rows = count / LOSS_LANES;
            done = rows * LOSS_LANES;
            let (losses, sums) = (rows_of(&self.label_loss, 0, done, 1), sums.whole());
            recording.launch(column_sum::launch(rows, LOSS_LANES, &losses, &sums, false));
            recording.launch(loss_sum::launch(LOSS_LANES, place, scale, &sums, context.step.losses));
        }
        if done < count {
            let rest = rows_of(&self.label_loss, done, count - done, 1);
            recording.launch(loss_sum::launch(count - done, place, scale, &rest, context.step.losses));
        }
    }

    /// A launch for all that is the labels' own, and those of the features' gradient.
    fn record_labels(
        &self,
        recording: &mut Recording,
        context: &StepContext<'_>,
        chunk: &Chunk<'_>,
        before: &Buffer,
    ) {
        let (shape, step) = (chunk.shape, context.step);
        let fetch = context.options.fetch;
        let dlogits = if fetch == Fetch::Textures { self.dlogits.whole() } else { self.dlogits_of(shape) };
        let indices = chunk.indices();
        let before = before.whole().front((shape.rows * shape.weight_words() * 4) as u64);
        recording.launch(fan_in_step::launch(
            shape,
            &context.options,
            [step.x, &indices, &step.positives.pairs],
            chunk.changed().each_ref(),
            [&dlogits, &before, &rows_of(&self.label_loss, 0, shape.rows, 1)],
        ));
        self.record_losses(recording, context, shape.rows);
        if let Some(gradient) = &self.by_stratum {
            gradient.record(recording, shape, [&dlogits, &before, &indices, step.dx]);
        }
        self.record_lists(recording, context, chunk, |windows, [offsets, connections, sums]| {
            let bindings = [&dlogits, &before, offsets, connections, sums];
            fan_in_feature_gradient::launch(shape, context.features, windows, fetch, bindings)
        });
    }

    /// Labels in groups: three dense products, the weights' step last.
    fn record_groups(
        &self,
        recording: &mut Recording,
        context: &StepContext<'_>,
        chunk: &Chunk<'_>,
        sent: Option<&Buffer>,
    ) {
        let (shape, step, options) = (chunk.shape, context.step, &context.options);
        let (dlogits, indices) = (self.dlogits_of(shape), chunk.indices());
        let [weights, bias, first, second, bias_first, bias_second] = chunk.changed();
        let losses = fan_in_group_logits::losses(shape);
        let tile_loss = rows_of(&self.label_loss, 0, losses, 1);
        recording.launch(fan_in_group_logits::launch(
            shape,
            options.loss,
            options.scale,
            options.positives,
            [step.x, &weights, &indices, &bias, &step.positives.pairs, &dlogits, &tile_loss],
        ));
        self.record_losses(recording, context, losses);
        if options.train_bias {
            let biases = [&dlogits, &bias, &bias_first, &bias_second];
            recording.launch(bias_update::launch(shape, options.rule, options.rates, biases));
        }
        if let Some(gradient) = &self.by_stratum {
            gradient.record(recording, shape, [&dlogits, &weights, &indices, step.dx]);
        }
        if let Some(sent) = sent {
            let bytes = shape.index_rows() * shape.fan_in * columns_of(shape.batch) * 4;
            let sent = sent.whole().front(bytes as u64);
            recording.launch(fan_in_group_gradient::launch(shape, [&weights, &dlogits, &sent]));
            self.record_lists(recording, context, chunk, |windows, [offsets, connections, sums]| {
                let bindings = [&sent, offsets, connections, sums];
                let (features, fetch) = (context.features, options.fetch);
                fan_in_feature_gradient::launch_summed(shape, features, windows, fetch, bindings)
            });
        }
        let bindings = ([step.x, &indices, &dlogits], [&weights, &first, &second]);
        recording.launch(fan_in_group_update::launch(shape, options, bindings.0, bindings.1));
    }

    fn dlogits_of(&self, shape: Block) -> Slice {
        self.dlogits.whole().front((shape.rows * columns_of(shape.batch) * 4) as u64)
    }

    /// The features' gradient by the inverted indices of a chunk's windows, if it has them: `launch` gets the windows,
    /// their offsets and connections, and where the sums go.
    fn record_lists(
        &self,
        recording: &mut Recording,
        context: &StepContext<'_>,
        chunk: &Chunk<'_>,
        launch: impl FnOnce(Windows, [&Slice; 3]) -> Launch,
    ) {
        let (index, begin) = match (&chunk.block.inverted, &self.rebuilt) {
            (Some(kept), _) => (kept, 0),
            (None, Some(rebuilt)) => (&rebuilt.index, rebuilt.begin_of(chunk)),
            // Rows are stratified.
            (None, None) => return,
        };
        let (shape, dx, windows) = (chunk.shape, context.step.dx, index.windows);
        let [offsets, connections] = chunk.lists(index, begin);
        let count = windows.of(shape.rows);
        let partial = self.partial.as_ref().filter(|_| count > 1);
        let area = context.features * columns_of(shape.batch);
        let sums =
            partial.map_or_else(|| dx.clone(), |partial| partial.whole().front((count * area * 4) as u64));
        recording.launch(launch(windows, [&offsets, &connections, &sums]));
        if partial.is_some() {
            recording.launch(column_sum::launch(count, area, &sums, dx, true));
        }
    }
}

/// What all chunks of a step have in common.
struct StepContext<'a> {
    options: StepOptions,
    features: usize,
    step: &'a Step<'a>,
}
