//! A dense layer between the encoder's features, after their dropout, and the classifier (SPARTEX's intermediate or
//! penultimate layer). It works on transposed features: [D, columns] in, [P, columns] out.

use super::{Parameter, States};
use crate::device::{Buffer, Device, Recording, Slice};
use crate::error::Result;
use crate::kernels::activation::{self, Activation};
use crate::kernels::fan_in_dlogits::Block;
use crate::kernels::matmul::Layout;
use crate::kernels::products::{Epilogue, Operand, Product, Products};
use crate::kernels::storage::{Precision, Rounding, Storage};
use crate::kernels::{bias_update, columns_of, row_bias};
use crate::optimize::{Rates, Rule};
use crate::random::{Purpose, unit, words};

/// What the layer is made of.
#[derive(Clone, Copy, Debug)]
pub struct IntermediateOptions {
    /// Features of the encoder, D.
    pub features: usize,
    /// Its outputs, P.
    pub width: usize,
    /// What follows the products; none: nothing.
    pub activation: Option<Activation>,
    /// Largest batch.
    pub max_batch: usize,
    /// Whether it is trained.
    pub train: bool,
    /// Update rule; it decides which states are kept.
    pub rule: Rule,
    /// Seed of the run.
    pub seed: u64,
}

/// The layer on a device.
pub struct Intermediate {
    options: IntermediateOptions,
    /// Weight [P, D] and bias \[P\].
    parameters: [Parameter; 2],
    /// Before the activation, [P, columns].
    before: Buffer,
    /// After it, if there is one.
    activated: Option<Buffer>,
    backward: Option<Backward>,
    products: Products,
}

/// Gradients, where it is trained.
struct Backward {
    /// Of the output, [P, columns].
    output: Buffer,
    /// Of what the activation takes, if there is one.
    before: Option<Buffer>,
    /// Of the weight, [P, D].
    weight: Buffer,
}

impl Intermediate {
    /// Allocates the layer; weight and bias start uniform within ± 1 / √D, as those of `torch.nn.Linear`.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when it does not fit.
    pub fn new(device: &Device, options: IntermediateOptions, products: Products) -> Result<Self> {
        let IntermediateOptions { features, width, activation, train, .. } = options;
        let states = train.then_some(States { rule: options.rule, moments: Storage::F32 });
        let parameter =
            |name: &str, shape| Parameter::allocate(device, format!("intermediate.{name}"), shape, states);
        let parameters = [parameter("weight", vec![width, features])?, parameter("bias", vec![width])?];
        if !device.only_plans() {
            let bound = 1.0 / (features as f32).sqrt();
            for (stream, tensor) in parameters.iter().enumerate() {
                tensor.write(device, &uniform(options.seed, stream as u32, tensor.len(), bound))?;
            }
        }
        let bytes = (width * columns_of(options.max_batch) * 4) as u64;
        let outputs = |what: &str| device.allocate(&format!("intermediate {what}"), bytes);
        let backward = if train {
            Some(Backward {
                output: outputs("gradient of the outputs")?,
                before: activation.map(|_| outputs("gradient before activation")).transpose()?,
                weight: device
                    .allocate("intermediate gradient of the weight", (width * features * 4) as u64)?,
            })
        } else {
            None
        };
        Ok(Self {
            before: outputs("results")?,
            activated: activation.map(|_| outputs("results after activation")).transpose()?,
            backward,
            parameters,
            products,
            options,
        })
    }

    /// Outputs, P.
    #[must_use]
    pub fn width(&self) -> usize {
        self.options.width
    }

    /// Weight [P, D] and bias \[P\].
    #[must_use]
    pub fn parameters(&self) -> &[Parameter; 2] {
        &self.parameters
    }

    /// The front of a buffer of outputs: [P, columns] of a batch.
    fn columns(&self, buffer: &Buffer, batch: usize) -> Slice {
        buffer.range(0, (self.width() * columns_of(batch) * 4) as u64)
    }

    fn backward(&self) -> &Backward {
        self.backward.as_ref().expect("a layer that is trained has room for its gradients")
    }

    /// Records act(W · x + bias), [P, columns], of `x` [D, columns]; zero beyond the batch.
    pub fn record_forward(&self, recording: &mut Recording, batch: usize, x: &Slice) -> Slice {
        let (width, columns) = (self.width(), columns_of(batch));
        let [weight, bias] = self.parameters.each_ref().map(|parameter| Slice::from(&parameter.values));
        let before = self.columns(&self.before, batch);
        let product = Product {
            sizes: [width, columns, self.options.features],
            layout: Layout::Nn,
            a: &weight,
            b: x,
            c: &before,
            epilogue: Epilogue::None,
            gradient: None,
        };
        self.products.record(recording, product);
        recording.launch(row_bias::launch(width, batch, &bias, &before));
        match (self.options.activation, &self.activated) {
            (Some(activation), Some(activated)) => {
                let activated = self.columns(activated, batch);
                recording.launch(activation::forward(activation, width * columns, &before, &activated));
                activated
            }
            _ => before,
        }
    }

    /// Where the gradient of the output is to be put before [`Intermediate::record_backward`], [P, columns].
    ///
    /// # Panics
    /// When the layer was made not to be trained.
    #[must_use]
    pub fn output_gradient(&self, batch: usize) -> Slice {
        self.columns(&self.backward().output, batch)
    }

    /// Gradient of what the activation takes.
    fn gradient_before(&self, batch: usize) -> Slice {
        match &self.backward().before {
            Some(before) => self.columns(before, batch),
            None => self.output_gradient(batch),
        }
    }

    /// Records the backward pass of the batch that [`Intermediate::record_forward`] was last recorded for with `x`: the
    /// gradient of the features is added to `dx` [D, columns], where somebody wants it.
    pub fn record_backward(&self, recording: &mut Recording, batch: usize, x: &Slice, dx: Option<&Slice>) {
        let (width, features, columns) = (self.width(), self.options.features, columns_of(batch));
        let dbefore = self.gradient_before(batch);
        if let Some(activation) = self.options.activation {
            let (before, doutput) = (self.columns(&self.before, batch), self.output_gradient(batch));
            let count = width * columns;
            recording.launch(activation::backward(activation, count, &before, &doutput, &dbefore, None));
        }
        let dweight = Slice::from(&self.backward().weight);
        let product = Product {
            sizes: [width, features, columns],
            layout: Layout::Nt,
            a: &dbefore,
            b: x,
            c: &dweight,
            epilogue: Epilogue::None,
            gradient: Some(Operand::A),
        };
        self.products.record(recording, product);
        let Some(dx) = dx else { return };
        let weight = Slice::from(&self.parameters[0].values);
        let product = Product {
            sizes: [features, columns, width],
            layout: Layout::Tn,
            a: &weight,
            b: &dbefore,
            c: dx,
            epilogue: Epilogue::Accumulate,
            gradient: Some(Operand::B),
        };
        self.products.record(recording, product);
    }

    /// Records one optimizer step with the gradients of the last backward pass; the bias does not decay.
    pub fn record_update(&self, recording: &mut Recording, batch: usize, rates: Rates) {
        let (rule, [weight, bias]) = (self.options.rule, &self.parameters);
        let dweight = Slice::from(&self.backward().weight);
        weight.record_step(recording, &dweight, rates, (Rounding::default(), 0));
        let [values, first, second] = [&bias.values, &bias.first, &bias.second].map(Slice::from);
        let rows = Block {
            rows: self.width(),
            first_label: 0,
            fan_in: self.options.features,
            group: 1,
            batch,
            precision: Precision::default(),
        };
        let update = [&self.gradient_before(batch), &values, &first, &second];
        recording.launch(bias_update::launch(rows, rule, rates, update));
    }
}

/// `count` numbers, uniform within ± `bound`, of a stream of the seed.
fn uniform(seed: u64, stream: u32, count: usize, bound: f32) -> Vec<f32> {
    // The encoders draw with step 0.
    let four = |i: usize| words(seed, Purpose::EncoderInit, 1, i as u32, stream);
    let mut values: Vec<f32> =
        (0..count.div_ceil(4)).flat_map(four).map(|word| bound * (2.0 * unit(word) - 1.0)).collect();
    values.truncate(count);
    values
}
