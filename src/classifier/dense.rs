//! A dense linear layer over all features, in blocks of labels: what the fixed fan-in layer is compared with, and the
//! auxiliary head over clusters of labels (SPARTEX §2.3).

use rayon::prelude::*;

use super::options::Step;
use crate::device::{Buffer, Device, DeviceKind, Recording, Slice};
use crate::error::{Error, Result};
use crate::kernels::fan_in_dlogits::Block;
use crate::kernels::matmul::Layout;
use crate::kernels::optimizer::Rule;
use crate::kernels::products::{Epilogue, Operand, Product, Products};
use crate::kernels::storage::{Precision, StateStorage};
use crate::kernels::{bias_update, columns_of, label_loss, loss_sum, optimizer_step};
use crate::random::{Purpose, unit, words};

/// Logits of a block, their gradients, and the gradient of its weights take at most so many bytes each.
const WORKSPACE_BYTES: usize = 64 << 20;

/// Most labels in a block on software Vulkan, whose loops end after 65,535 iterations: the gradient of the features
/// walks all labels of a block.
const SOFTWARE_ROWS: usize = 40_000;

/// Which of a model's layers a dense layer is: it decides names and random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenseRole {
    /// The output layer.
    Classifier,
    /// The auxiliary head.
    Auxiliary,
    /// The frequent labels of an output layer whose tail is sparse.
    Frequent,
}

impl DenseRole {
    /// What the names of its buffers and tensors begin with.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Classifier => "classifier",
            Self::Auxiliary => "auxiliary",
            Self::Frequent => "classifier.dense",
        }
    }
}

/// What a dense layer is made of.
#[derive(Clone, Copy, Debug)]
pub struct DenseOptions {
    /// Which layer it is.
    pub role: DenseRole,
    /// Labels, L, or clusters of labels, C.
    pub labels: usize,
    /// Features, D.
    pub features: usize,
    /// Largest batch of a training step; 0: it only ranks.
    pub max_batch: usize,
    /// Update rule; it decides which states are kept.
    pub rule: Rule,
    /// Whether biases are trained.
    pub train_bias: bool,
    /// Starting weights are uniform within ± this / √D.
    pub init_scale: f32,
    /// Starting bias.
    pub bias_init: f32,
    /// Seed of the run.
    pub seed: u64,
    /// Upper limit of labels in a block; 0: what the device allows.
    pub max_block_rows: usize,
}

/// The tensors of a run of labels.
pub struct DenseBlock {
    /// Sizes, the fan-in being all features; its `batch` is set anew for each launch.
    pub shape: Block,
    /// [rows, D] f32.
    pub weights: Buffer,
    /// \[rows\] f32.
    pub bias: Buffer,
    /// First state of the weights, [rows, D] f32, or 16 bytes where the optimizer has none.
    pub first: Buffer,
    /// Second state of the weights.
    pub second: Buffer,
    /// First state of the biases, \[rows\] f32.
    pub bias_first: Buffer,
    /// Second state of the biases.
    pub bias_second: Buffer,
}

/// The layer on a device.
pub struct Dense {
    /// What it is made of.
    pub options: DenseOptions,
    /// Its labels, in order.
    pub blocks: Vec<DenseBlock>,
    products: Products,
    workspace: Option<Workspace>,
}

/// Scratch of a step, for the largest block.
struct Workspace {
    /// [rows, columns], without bias.
    logits: Buffer,
    /// [rows, columns].
    dlogits: Buffer,
    /// \[rows\].
    label_loss: Buffer,
    /// [rows, D].
    dweights: Buffer,
}

impl DenseBlock {
    fn allocate(device: &Device, shape: Block, role: DenseRole, rule: Rule) -> Result<Self> {
        let (weights, biases) = ((shape.rows * shape.fan_in * 4) as u64, (shape.rows * 4) as u64);
        let named = |what: &str, bytes: u64| device.allocate(&format!("{} {what}", role.name()), bytes);
        let state = |what: &str, number: usize, bytes: u64| {
            named(what, if rule.states() >= number { bytes } else { 0 })
        };
        Ok(Self {
            shape,
            weights: named("weights", weights)?,
            bias: named("bias", biases)?,
            first: state("first moment", 1, weights)?,
            second: state("second moment", 2, weights)?,
            bias_first: state("bias first moment", 1, biases)?,
            bias_second: state("bias second moment", 2, biases)?,
        })
    }

    /// The block's sizes with a batch.
    #[must_use]
    pub fn with_batch(&self, batch: usize) -> Block {
        Block { batch, ..self.shape }
    }
}

impl Dense {
    /// Allocates the layer with weights uniform within ± scale / √D.
    ///
    /// # Errors
    /// [`Error::Usage`] when there are no labels or too many; [`Error::Device`] when it does not fit.
    pub fn new(device: &Device, options: DenseOptions, products: Products) -> Result<Self> {
        let layer = Self::allocate(device, options, products)?;
        if device.only_plans() {
            return Ok(layer);
        }
        for block in &layer.blocks {
            device.write(
                &block.weights,
                0,
                bytemuck::cast_slice(&starting_weights(&options, block.shape)),
            )?;
            let bias = vec![options.bias_init; block.shape.rows];
            device.write(&block.bias, 0, bytemuck::cast_slice(&bias))?;
        }
        Ok(layer)
    }

    /// Allocates the layer with everything zero, to be filled from a file.
    ///
    /// # Errors
    /// As [`Dense::new`].
    pub fn allocate(device: &Device, options: DenseOptions, products: Products) -> Result<Self> {
        let DenseOptions { role, labels, features, rule, .. } = options;
        if labels == 0 || labels >= 1 << 31 {
            return Err(Error::Usage(format!(
                "a dense layer needs between 1 and 2^31 - 1 labels, not {labels}"
            )));
        }
        let rows = block_rows(device, &options);
        let blocks = (0..labels)
            .step_by(rows)
            .map(|first_label| {
                let rows = rows.min(labels - first_label);
                let shape = Block {
                    rows,
                    first_label,
                    fan_in: features,
                    group: 1,
                    batch: 0,
                    precision: Precision::default(),
                };
                DenseBlock::allocate(device, shape, role, rule)
            })
            .collect::<Result<Vec<_>>>()?;
        let workspace = if options.max_batch > 0 {
            Some(Workspace::new(device, rows.min(labels), &options)?)
        } else {
            None
        };
        Ok(Self { options, blocks, products, workspace })
    }

    /// Records one training step over all labels: the loss is added to its place in the ring, the gradient of the
    /// features to `dx`, and weights and biases take one optimizer step.
    ///
    /// # Panics
    /// When the layer was made to rank only.
    pub fn record_step(&self, recording: &mut Recording, step: &Step<'_>) {
        let workspace = self.workspace.as_ref().expect("a layer that is trained has room for its logits");
        for block in &self.blocks {
            self.record_block(recording, block, step, workspace);
        }
    }

    fn record_block(
        &self,
        recording: &mut Recording,
        block: &DenseBlock,
        step: &Step<'_>,
        scratch: &Workspace,
    ) {
        let (rule, shape) = (self.options.rule, block.with_batch(step.batch));
        let (rows, features, columns) = (shape.rows, shape.fan_in, columns_of(step.batch));
        let Step { loss, scale, rates, positives, x, dx, losses, .. } = *step;
        let [weights, bias, first, second, bias_first, bias_second] =
            [&block.weights, &block.bias, &block.first, &block.second, &block.bias_first, &block.bias_second]
                .map(Slice::from);
        let label_loss = scratch.label_loss.whole();
        let [logits, dlogits] =
            [&scratch.logits, &scratch.dlogits].map(|buffer| buffer.range(0, (rows * columns * 4) as u64));
        let dweights = scratch.dweights.range(0, (rows * features * 4) as u64);

        self.record_logits(recording, shape, &weights, x, &logits);
        let bindings = [&logits, &bias, &positives.pairs, &dlogits, &label_loss];
        recording.launch(label_loss::launch(shape, Some(loss), scale.gradient, positives.count, bindings));
        recording.launch(loss_sum::launch(rows, scale.place, scale.loss, &label_loss, losses));
        self.products.record(
            recording,
            Product {
                sizes: [features, columns, rows],
                layout: Layout::Tn,
                a: &weights,
                b: &dlogits,
                c: dx,
                epilogue: Epilogue::Accumulate,
                gradient: Some(Operand::B),
            },
        );
        self.products.record(
            recording,
            Product {
                sizes: [rows, features, columns],
                layout: Layout::Nt,
                a: &dlogits,
                b: x,
                c: &dweights,
                epilogue: Epilogue::None,
                gradient: Some(Operand::A),
            },
        );
        let update = [&dweights, &weights, &first, &second];
        recording.launch(optimizer_step::launch(
            rows * features,
            rule,
            rates,
            StateStorage::default(),
            update,
        ));
        if self.options.train_bias {
            let update = [&dlogits, &bias, &bias_first, &bias_second];
            recording.launch(bias_update::launch(shape, rule, rates, update));
        }
    }

    /// Records `logits` [rows, columns] of a run of labels, without their biases, from `weights` [rows, D] and `x`
    /// [D, columns].
    pub(super) fn record_logits(
        &self,
        recording: &mut Recording,
        shape: Block,
        weights: &Slice,
        x: &Slice,
        logits: &Slice,
    ) {
        let product = Product {
            sizes: [shape.rows, columns_of(shape.batch), shape.fan_in],
            layout: Layout::Nn,
            a: weights,
            b: x,
            c: logits,
            epilogue: Epilogue::None,
            gradient: None,
        };
        self.products.record(recording, product);
    }

    /// The tiers that compute its products, for the record of a run.
    #[must_use]
    pub fn chosen_kernels(&self) -> String {
        self.products.describe()
    }
}

impl Workspace {
    fn new(device: &Device, rows: usize, options: &DenseOptions) -> Result<Self> {
        let (columns, name) = (columns_of(options.max_batch), options.role.name());
        let rows_of = |what: &str, width: usize| {
            device.allocate(&format!("{what} of the {name} layer"), (rows * width * 4) as u64)
        };
        Ok(Self {
            logits: rows_of("logits", columns)?,
            dlogits: rows_of("logit gradients", columns)?,
            label_loss: rows_of("label losses", 1)?,
            dweights: rows_of("weight gradients", options.features)?,
        })
    }
}

/// Labels in a block: below the device's largest binding, and such that the scratch of a step stays bounded.
fn block_rows(device: &Device, options: &DenseOptions) -> usize {
    let row_bytes = options.features * 4;
    let mut rows = device.max_buffer_bytes() as usize / row_bytes;
    if options.max_batch > 0 {
        rows =
            rows.min(WORKSPACE_BYTES / row_bytes).min(WORKSPACE_BYTES / (columns_of(options.max_batch) * 4));
    }
    if device.kind() == DeviceKind::SoftwareGpu {
        rows = rows.min(SOFTWARE_ROWS);
    }
    if options.max_block_rows > 0 {
        rows = rows.min(options.max_block_rows);
    }
    rows.max(1)
}

/// [rows, D] of a block, uniform within ± scale / √D: a function of the seed, the label and the feature alone.
fn starting_weights(options: &DenseOptions, shape: Block) -> Vec<f32> {
    let bound = options.init_scale / (options.features as f32).sqrt();
    let mut weights = vec![0.0; shape.rows * shape.fan_in];
    weights.par_chunks_mut(shape.fan_in).enumerate().for_each(|(row, weights)| {
        let label = (shape.first_label + row) as u32;
        for (quad, weights) in weights.chunks_mut(4).enumerate() {
            // The step of the generator, which a start does not have, tells the layers apart.
            let layer = options.role as u32;
            let drawn = words(options.seed, Purpose::ClassifierInit, layer, label, quad as u32);
            weights.iter_mut().zip(drawn).for_each(|(w, word)| *w = bound * (2.0 * unit(word) - 1.0));
        }
    });
    weights
}

impl Dense {
    /// Logits of every label, [B, L], for small layers and tests. `x` is [D, columns].
    ///
    /// # Errors
    /// [`Error::Device`] when memory runs out or the device is lost.
    pub fn logits(&self, device: &Device, batch: usize, x: &Slice) -> Result<Vec<f32>> {
        let columns = columns_of(batch);
        let mut out = vec![0.0; batch * self.options.labels];
        let nothing = device.allocate("no positives", 16)?.whole();
        for block in &self.blocks {
            let shape = block.with_batch(batch);
            let bytes = (shape.rows * columns * 4) as u64;
            let [logits, with_bias] = [device.allocate("logits", bytes)?, device.allocate("logits", bytes)?];
            let label_loss = device.allocate("label losses", (shape.rows * 4) as u64)?.whole();
            let mut recording = Recording::new();
            self.record_logits(&mut recording, shape, &(&block.weights).into(), x, &logits.whole());
            let (logits, bias, sums) = (logits.whole(), Slice::from(&block.bias), with_bias.whole());
            let bindings = [&logits, &bias, &nothing, &sums, &label_loss];
            recording.launch(label_loss::launch(shape, None, 0.0, 0, bindings));
            device.submit(recording)?;
            let values: Vec<f32> = device.read_vec(&with_bias, shape.rows * columns)?;
            for (row, values) in values.chunks_exact(columns).enumerate() {
                for (sample, value) in values[..batch].iter().enumerate() {
                    out[sample * self.options.labels + shape.first_label + row] = *value;
                }
            }
        }
        Ok(out)
    }

    /// Overwrites weights [L, D] and biases \[L\], row-major. Optimizer states stay.
    ///
    /// # Errors
    /// [`Error::Usage`] when a length does not fit the layer; [`Error::Device`].
    pub fn set_contents(&self, device: &Device, weights: &[f32], bias: &[f32]) -> Result<()> {
        let (labels, features) = (self.options.labels, self.options.features);
        let (wanted, given) = ([labels * features, labels], [weights.len(), bias.len()]);
        if wanted != given {
            return Err(Error::Usage(format!(
                "the layer needs {wanted:?} weights and biases, not {given:?}"
            )));
        }
        for block in &self.blocks {
            let Block { first_label, rows, .. } = block.shape;
            let weights = &weights[first_label * features..][..rows * features];
            device.write(&block.weights, 0, bytemuck::cast_slice(weights))?;
            device.write(&block.bias, 0, bytemuck::cast_slice(&bias[first_label..][..rows]))?;
        }
        Ok(())
    }

    /// Reads weights [L, D] and biases \[L\] back.
    ///
    /// # Errors
    /// [`Error::Device`] when the device is lost.
    pub fn contents(&self, device: &Device) -> Result<(Vec<f32>, Vec<f32>)> {
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for block in &self.blocks {
            let Block { rows, fan_in, .. } = block.shape;
            weights.extend(device.read_vec::<f32>(&block.weights, rows * fan_in)?);
            biases.extend(device.read_vec::<f32>(&block.bias, rows)?);
        }
        Ok((weights, biases))
    }
}
