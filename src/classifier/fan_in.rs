//! The fixed fan-in layer: its tensors in blocks, and one training step as a sweep over them.

use super::block::LabelBlock;
use super::cut::{Cut, software_rows};
use super::group_pass::GroupPass;
use super::inverted;
use super::launches::{Launches, sums_by_group};
use super::options::{FanInOptions, Step, WORKSPACE_BYTES};
use super::rewire::record_random_growth;
use super::strata;
use crate::device::{Buffer, Device, DeviceKind, Recording, Slice};
use crate::error::{Error, Result};
use crate::kernels::fan_in_dlogits::{self, Block};
use crate::kernels::fan_in_step::StepOptions;
use crate::kernels::rewire_regrow::Growth;
use crate::kernels::storage::{Indices, Rounding, Storage};
use crate::kernels::{
    Fetch, columns_of, fan_in_group_logits, fan_in_step, fan_in_sweep, feature_texture, half_features,
};

/// The layer on a device.
pub struct FanIn {
    /// What it is made of.
    pub options: FanInOptions,
    /// Its labels, in order.
    pub blocks: Vec<LabelBlock>,
    workspace: Workspace,
    /// The features of a step as its kernels want them, if not as they come.
    copy: Option<FeatureCopy>,
    fetch: Fetch,
}

/// Features of a step in another layout.
enum FeatureCopy {
    /// In 16 bits: in pairs, or as f32 for the one pass.
    Halves(Buffer),
    /// In a texture.
    Texture(Buffer),
}

/// Scratch of a step.
enum Workspace {
    /// One pass: partial gradients of the features.
    OnePass { partial: Buffer },
    /// One pass over groups of labels, chunk after chunk.
    Groups(GroupPass),
    /// Launch after launch.
    Launches(Launches),
}

impl FanIn {
    /// Allocates the layer and wires it: F different indices in each row, weights uniform within ± scale / √F.
    ///
    /// # Errors
    /// [`Error::Config`] when the fan-in is 0 or exceeds the features, or there are more than 65,536 features;
    /// [`Error::Usage`] when strata are of other features; [`Error::Device`] when it does not fit.
    pub fn new(device: &Device, options: FanInOptions) -> Result<Self> {
        let layer = Self::allocate(device, options)?;
        let mut recording = Recording::new();
        let counts = device.allocate("rewiring counts", 16)?;
        // Every slot of the largest block; smaller ones take the front of it.
        let words = layer.blocks.iter().map(|block| block.regrown.bytes() / 4).max().unwrap_or(0);
        let all = device.allocate("wiring mask", words * 4)?;
        if !device.only_plans() {
            device.write(&all, 0, bytemuck::cast_slice(&vec![u32::MAX; words as usize]))?;
        }
        for block in &layer.blocks {
            let growth = Growth {
                features: options.features,
                bound: options.init_scale / (options.fan_in as f32).sqrt(),
                seed: options.seed,
                step: 0,
                first_wiring: true,
                states: options.rule.states(),
            };
            let bindings =
                [&all, &block.regrown, &block.weights, &block.indices, &block.first, &block.second, &counts]
                    .map(Slice::from);
            record_random_growth(&mut recording, device, block.shape, growth, bindings.each_ref());
            recording.clear(&block.regrown);
            if !device.only_plans() {
                let bias = vec![options.bias_init; block.shape.rows];
                device.write(&block.bias, 0, bytemuck::cast_slice(&bias))?;
            }
        }
        device.submit(recording)?;
        layer.rebuild_inverted(device)?;
        Ok(layer)
    }

    /// Allocates the layer with everything zero, to be filled from a file.
    ///
    /// # Errors
    /// As [`FanIn::new`].
    pub fn allocate(device: &Device, options: FanInOptions) -> Result<Self> {
        if options.fan_in == 0 || options.fan_in > options.features {
            let FanInOptions { fan_in, features, .. } = options;
            return Err(Error::config(
                "classifier.fan_in",
                format!("must be between 1 and the {features} features that the encoder gives, is {fan_in}"),
            ));
        }
        Self::allocate_with_duplicates(device, options)
    }

    /// [`FanIn::allocate`] for contents whose rows may repeat an index, so that the fan-in may exceed the features.
    ///
    /// # Errors
    /// As [`FanIn::new`], but for the fan-in.
    pub fn allocate_with_duplicates(device: &Device, options: FanInOptions) -> Result<Self> {
        let FanInOptions { labels, features, fan_in, group, precision, .. } = options;
        if features > 1 << 16 {
            let message =
                format!("{features} features do not fit the classifier's 16-bit indices; at most 65536");
            return Err(Error::config("encoder.dim", message));
        }
        if labels == 0 || labels >= 1 << 31 {
            return Err(Error::Usage(format!(
                "a classifier needs between 1 and 2^31 - 1 labels, not {labels}"
            )));
        }
        strata::check(&options)?;
        let free = precision.indices == Indices::Free;
        let columns = columns_of(options.max_batch);
        let mut row_words = precision.weight_words(fan_in).max(precision.indices.rows(fan_in).words());
        if options.rule.states() > 0 {
            row_words = row_words.max(precision.moment_words(fan_in));
        }
        if !device.runs_fused() && free {
            // An inverted index has at most a word for a connection; rebuilt or narrow it leaves the blocks as they are.
            row_words = row_words.max(fan_in);
        }
        let mut rows = device.max_buffer_bytes() as usize / (row_words * 4);
        if !device.runs_fused() {
            rows = rows.min(WORKSPACE_BYTES / (columns * 4));
        }
        if device.kind() == DeviceKind::SoftwareGpu {
            let listed = software_rows(fan_in, features)?;
            rows = rows.min(if free { listed } else { strata::software_rows(features, columns) });
        }
        if options.max_block_rows > 0 {
            rows = rows.min(options.max_block_rows);
        }
        let rows = (rows / group * group).max(group);
        let largest = rows.min(labels);
        let pass = GroupPass::allocate(device, &options, largest)?;
        let fetch = if pass.is_some() { GroupPass::fetch(device, &options) } else { options.fetch(device) };
        let cut = (!device.runs_fused() && pass.is_none()).then(|| {
            let (by_group, narrow) = (sums_by_group(device, &options), options.has_narrow_lists(device));
            Cut::choose(device.kind(), &options, largest, by_group, narrow)
        });
        let blocks = (0..labels)
            .step_by(rows)
            .map(|first_label| {
                let rows = rows.min(labels - first_label);
                let shape = Block { rows, first_label, fan_in, group, batch: 0, precision };
                // Stratified rows need no inverted index: what a slot sends back has its own stratum.
                let kept = cut.filter(|cut| free && cut.rebuilt_rows.is_none()).map(|cut| cut.windows);
                LabelBlock::allocate(device, shape, options.rule, kept)
            })
            .collect::<Result<Vec<_>>>()?;
        let workspace = match (cut, pass) {
            (_, Some(pass)) => Workspace::Groups(pass),
            (Some(cut), None) => Workspace::Launches(Launches::allocate(device, cut, &options, largest)?),
            (None, None) => {
                let bytes = fan_in_sweep::partial_bytes(largest, features, options.max_batch);
                Workspace::OnePass { partial: device.allocate("partial feature gradients", bytes)? }
            }
        };
        let copy = match precision.features {
            Storage::F32 if fetch == Fetch::Textures => {
                let copy = device.allocate_texture("features in a texture", [features, columns])?;
                Some(FeatureCopy::Texture(copy))
            }
            Storage::F32 => None,
            _ => {
                let bytes = features * columns * if device.runs_fused() { 4 } else { 2 };
                Some(FeatureCopy::Halves(device.allocate("features in 16 bits", bytes as u64)?))
            }
        };
        Ok(Self { options, blocks, workspace, copy, fetch })
    }

    /// Makes its labels the rows from `first` on of a larger layer: positives, filters and rankings number them so.
    /// Contents and logits that are read or written whole begin with its own first label.
    pub(super) fn begin_at(&mut self, first: usize) {
        let before = self.first_label();
        for block in &mut self.blocks {
            block.shape.first_label = block.shape.first_label - before + first;
        }
    }

    /// The number of its first label: 0, unless it is the tail of a larger layer.
    pub(super) fn first_label(&self) -> usize {
        self.blocks.first().map_or(0, |block| block.shape.first_label)
    }

    /// Records one training step over all labels: the loss is added to its place in the ring, the gradient of the
    /// features to `dx`, and weights and biases take one optimizer step.
    pub fn record_step(&self, recording: &mut Recording, step: &Step<'_>) {
        let x = self.record_copy(recording, step);
        let step = &Step { x: x.as_ref().unwrap_or(step.x), ..*step };
        let launch = self.step_options(step);
        match &self.workspace {
            Workspace::OnePass { partial } => {
                self.blocks.iter().for_each(|block| self.record_one_pass(recording, block, step, partial));
            }
            Workspace::Groups(pass) => {
                pass.record(recording, &self.blocks, &self.options, &launch, step);
            }
            Workspace::Launches(launches) => {
                let features = self.options.features;
                self.blocks
                    .iter()
                    .for_each(|block| launches.record(recording, block, features, &launch, step));
            }
        }
    }

    /// The features of a step in the layout that its kernels want, where that is another.
    fn record_copy(&self, recording: &mut Recording, step: &Step<'_>) -> Option<Slice> {
        let features = self.options.features;
        let (launch, copy) = match self.copy.as_ref()? {
            FeatureCopy::Halves(halves) => {
                let packed = !matches!(self.workspace, Workspace::OnePass { .. });
                let (count, halves) = (features * columns_of(step.batch), halves.whole());
                (half_features::launch(count, packed, step.x, &halves), halves)
            }
            FeatureCopy::Texture(copy) => {
                let copy = copy.whole();
                (feature_texture::launch(features, step.batch, step.x, &copy), copy)
            }
        };
        recording.launch(launch);
        Some(copy)
    }

    /// What the kernels of a step compute with.
    fn step_options(&self, step: &Step<'_>) -> StepOptions {
        StepOptions {
            loss: step.loss,
            scale: step.scale.gradient,
            positives: step.positives.count,
            rule: self.options.rule,
            rates: step.rates,
            rounding: Rounding::new(self.options.seed, step.step),
            train_bias: self.options.train_bias,
            fetch: self.fetch,
        }
    }

    /// How often a step fetches, for each connection and sample, a feature or what its gradient is made of: for the logit,
    /// for the gradient of the weight unless that feature was kept, and for the gradient of the feature. Labels in groups
    /// fetch together.
    #[must_use]
    pub fn fetches_of_a_step(&self) -> f64 {
        match &self.workspace {
            Workspace::Groups(pass) => return pass.fetches(&self.options),
            // What a group looks at is gathered once, and its gradient is added once.
            Workspace::OnePass { .. } if self.options.group > 1 => return 2.0 / self.options.group as f64,
            Workspace::Launches(launches) if launches.steps_in_groups() => {
                return 3.0 / fan_in_group_logits::TILE as f64 + 1.0 / self.options.group as f64;
            }
            _ => {}
        }
        let kept = self.fetch != Fetch::Cheap && fan_in_step::can_keep(self.options.fan_in);
        if kept { 2.0 } else { 3.0 }
    }

    fn record_one_pass(
        &self,
        recording: &mut Recording,
        block: &LabelBlock,
        step: &Step<'_>,
        partial: &Buffer,
    ) {
        let bindings = vec![
            step.x.clone(),
            (&block.indices).into(),
            step.positives.pairs.clone(),
            (&block.weights).into(),
            (&block.bias).into(),
            (&block.first).into(),
            (&block.second).into(),
            (&block.bias_first).into(),
            (&block.bias_second).into(),
            partial.whole(),
            step.dx.clone(),
            step.losses.clone(),
        ];
        let params = fan_in_sweep::params(
            block.with_batch(step.batch),
            self.options.features,
            step.positives.count,
            step.loss,
            step.scale.gradient,
            step.scale.loss,
            step.scale.place,
            self.options.rule,
            step.rates,
            Rounding::new(self.options.seed, step.step),
            self.options.train_bias,
        );
        recording.fused(&fan_in_sweep::FUSED, bindings, params, Vec::new());
    }

    /// Where a step that is launched part by part keeps the logit gradients and losses of so many labels.
    pub(super) fn step_scratch(&self) -> Option<([Buffer; 2], usize)> {
        match &self.workspace {
            Workspace::OnePass { .. } | Workspace::Groups(_) => None,
            // A texture is of no use to others.
            Workspace::Launches(_) if self.fetch == Fetch::Textures => None,
            Workspace::Launches(Launches { cut, dlogits, label_loss, .. }) => {
                Some(([dlogits.clone(), label_loss.clone()], cut.chunk_rows))
            }
        }
    }

    /// Builds the inverted indices anew, where the feature gradient walks them: after every change of indices.
    ///
    /// # Errors
    /// [`Error::Device`] when memory runs out or the device is lost.
    pub fn rebuild_inverted(&self, device: &Device) -> Result<()> {
        inverted::build(device, &self.blocks, self.options.features, self.fetch)
    }

    /// Logits of every label, [B, L], for small layers and tests. `x` is [D, columns].
    ///
    /// # Errors
    /// [`Error::Device`] when memory runs out or the device is lost.
    pub fn logits(&self, device: &Device, batch: usize, x: &Slice) -> Result<Vec<f32>> {
        let columns = columns_of(batch);
        let mut out = vec![0.0; batch * self.options.labels];
        let nothing = device.allocate("no positives", 16)?;
        for block in &self.blocks {
            let shape = block.with_batch(batch);
            let logits = device.allocate("logits", (shape.rows * columns * 4) as u64)?;
            let label_loss = device.allocate("label losses", (shape.rows * 4) as u64)?;
            let bindings = [&block.weights, &block.indices, &block.bias, &nothing, &logits, &label_loss]
                .map(Slice::from);
            let [weights, indices, bias, nothing, out_slice, label_loss] = bindings.each_ref();
            let mut recording = Recording::new();
            let bindings = [x, weights, indices, bias, nothing, out_slice, label_loss];
            recording.launch(fan_in_dlogits::launch(shape, None, 0.0, 0, bindings));
            device.submit(recording)?;
            let values: Vec<f32> = device.read_vec(&logits, shape.rows * columns)?;
            for (row, values) in values.chunks_exact(columns).enumerate() {
                for (sample, value) in values[..batch].iter().enumerate() {
                    out[sample * self.options.labels + shape.first_label - self.first_label() + row] = *value;
                }
            }
        }
        Ok(out)
    }
}
