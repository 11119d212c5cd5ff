//! Bag of tokens: mean of the embeddings, LayerNorm, optional hidden layers with GELU.

use super::parameter::normal;
use super::{Encoder, PackedTokens, Parameter, States};
use crate::device::{Buffer, Device, Recording, Slice};
use crate::error::{Error, Result};
use crate::kernels::activation::{self, Activation};
use crate::kernels::matmul::Layout;
use crate::kernels::products::{Epilogue, Operand, Product, Products};
use crate::kernels::storage::Rounding;
use crate::kernels::{
    bag_forward, column_sum, embedding_gradient, layer_norm, layer_norm_backward, layer_norm_parameters,
};
use crate::optimize::Rates;

/// What a bag of tokens is made of.
#[derive(Clone, Debug)]
pub struct BagOptions {
    /// Tokens in the vocabulary, V.
    pub vocabulary: usize,
    /// Width of the embeddings, H.
    pub dim: usize,
    /// Widths of the hidden layers; the last is the number of features. Without any, H is.
    pub hidden: Vec<usize>,
    /// Added to the variance by LayerNorm.
    pub norm_epsilon: f32,
    /// Starting embeddings are normal with deviation this / √H.
    pub init_scale: f32,
    /// Largest batch.
    pub max_batch: usize,
    /// Most different tokens in a training batch.
    pub max_unique: usize,
    /// Seed of the run.
    pub seed: u64,
    /// The optimizer's states of each tensor.
    pub states: States,
}

/// The encoder on a device.
pub struct Bag {
    options: BagOptions,
    /// Embedding, γ, β, then weight and bias of each hidden layer.
    parameters: Vec<Parameter>,
    /// Gradients of `parameters`; that of the embedding has only the rows of the batch's tokens.
    gradients: Vec<Buffer>,
    pooled: Buffer,
    stats: Buffer,
    /// Output of LayerNorm, then of each hidden layer; [B, width].
    outputs: Vec<Buffer>,
    /// Hidden layers before GELU.
    before_gelu: Vec<Buffer>,
    /// Gradients of `pooled`, of `outputs`.
    dpooled: Buffer,
    doutputs: Vec<Buffer>,
    dbefore_gelu: Vec<Buffer>,
    products: Products,
}

impl Bag {
    /// Allocates the encoder with starting values: embeddings normal with deviation scale / √H, hidden weights
    /// with 1 / √width of their input, γ = 1, everything else 0.
    ///
    /// # Errors
    /// [`Error::Config`] when a width is 0; [`Error::Device`] when it does not fit.
    pub fn new(device: &Device, options: BagOptions) -> Result<Self> {
        let widths = [&[options.dim], &options.hidden[..]].concat();
        if widths.contains(&0) {
            return Err(Error::config("encoder.dim", "widths of the encoder must be at least 1"));
        }
        let mut parameters = vec![
            parameter(device, &options, "encoder.embedding.weight", vec![options.vocabulary, options.dim])?,
            parameter(device, &options, "encoder.norm.weight", vec![options.dim])?,
            parameter(device, &options, "encoder.norm.bias", vec![options.dim])?,
        ];
        parameters[1].write(device, &vec![1.0; options.dim])?;
        for (i, pair) in widths.windows(2).enumerate() {
            let name = |what: &str| format!("encoder.hidden.{i}.{what}");
            parameters.push(parameter(device, &options, &name("weight"), vec![pair[1], pair[0]])?);
            parameters.push(parameter(device, &options, &name("bias"), vec![pair[1]])?);
        }
        let matrices =
            parameters.iter().enumerate().filter(|(_, p)| p.shape.len() == 2 && !device.only_plans());
        for (stream, tensor) in matrices {
            let scale = if stream == 0 { options.init_scale } else { 1.0 };
            let deviation = scale / (tensor.shape[1] as f32).sqrt();
            let values = normal(options.seed, stream as u32, tensor.len(), deviation);
            tensor.write(device, &values)?;
        }
        let gradient_bytes = |tensor: &Parameter| match tensor.shape[..] {
            [vocabulary, dim] if vocabulary == options.vocabulary && tensor.name.contains("embedding") => {
                options.max_unique.min(vocabulary) * dim * 4
            }
            _ => tensor.len() * 4,
        };
        let rows = |label: &str, width: usize| device.allocate(label, (options.max_batch * width * 4) as u64);
        let all = |label: &str, widths: &[usize]| {
            widths.iter().map(|width| rows(label, *width)).collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            gradients: parameters
                .iter()
                .map(|p| device.allocate(&format!("gradient of {}", p.name), gradient_bytes(p) as u64))
                .collect::<Result<_>>()?,
            pooled: rows("pooled embeddings", options.dim)?,
            stats: rows("norm statistics", 2)?,
            outputs: all("encoder outputs", &widths)?,
            before_gelu: all("hidden before GELU", &options.hidden)?,
            dpooled: rows("gradient of pooled embeddings", options.dim)?,
            doutputs: all("gradient of encoder outputs", &widths)?,
            dbefore_gelu: all("gradient of hidden before GELU", &options.hidden)?,
            products: Products::floor(),
            parameters,
            options,
        })
    }

    fn width(&self, layer: usize) -> usize {
        if layer == 0 { self.options.dim } else { self.options.hidden[layer - 1] }
    }

    fn values(&self, parameter: usize) -> Slice {
        (&self.parameters[parameter].values).into()
    }

    fn gradient(&self, parameter: usize) -> Slice {
        (&self.gradients[parameter]).into()
    }
}

fn parameter(device: &Device, options: &BagOptions, name: &str, shape: Vec<usize>) -> Result<Parameter> {
    Parameter::allocate(device, name.to_owned(), shape, Some(options.states))
}

/// A bag's activations are small: it takes a batch in one piece.
fn whole(batch: &[PackedTokens]) -> &PackedTokens {
    assert_eq!(batch.len(), 1, "a bag of tokens takes a batch in one micro-batch");
    &batch[0]
}

impl Encoder for Bag {
    fn features(&self) -> usize {
        self.width(self.options.hidden.len())
    }

    fn forward_one(
        &self,
        recording: &mut Recording,
        batch: &[PackedTokens],
        _number: usize,
        _step: Option<u64>,
    ) -> Slice {
        let batch = whole(batch);
        let (rows, dim) = (batch.documents, self.options.dim);
        let pooled = Slice::from(&self.pooled);
        let bindings = [&self.values(0), &batch.tokens, &batch.offsets, &pooled];
        recording.launch(bag_forward::launch(rows, batch.count, dim, bindings));
        let (normed, stats) = (Slice::from(&self.outputs[0]), Slice::from(&self.stats));
        let bindings = [&pooled, &self.values(1), &self.values(2), &normed, &stats];
        recording.launch(layer_norm::launch(rows, dim, self.options.norm_epsilon, bindings));
        for layer in 0..self.options.hidden.len() {
            let (k, n) = (self.width(layer), self.width(layer + 1));
            let (input, before) = (Slice::from(&self.outputs[layer]), Slice::from(&self.before_gelu[layer]));
            let (weight, bias) = (self.values(3 + 2 * layer), self.values(4 + 2 * layer));
            let activated = Slice::from(&self.outputs[layer + 1]);
            let epilogue =
                Epilogue::BiasActivation { bias: &bias, activation: Activation::Gelu, activated: &activated };
            let (sizes, [a, b, c]) = ([rows, n, k], [&input, &weight, &before]);
            let product = Product { sizes, layout: Layout::Nt, a, b, c, epilogue, gradient: None };
            self.products.record(recording, product);
        }
        (&self.outputs[self.options.hidden.len()]).into()
    }

    fn feature_gradient(&self) -> Option<Slice> {
        Some((&self.doutputs[self.options.hidden.len()]).into())
    }

    fn backward_one(&self, recording: &mut Recording, batch: &[PackedTokens], _number: usize, _step: u64) {
        let batch = whole(batch);
        let (rows, dim) = (batch.documents, self.options.dim);
        for layer in (0..self.options.hidden.len()).rev() {
            let (k, n) = (self.width(layer), self.width(layer + 1));
            let [before, dbefore] = [&self.before_gelu[layer], &self.dbefore_gelu[layer]].map(Slice::from);
            let [input, dinput, doutput] =
                [&self.outputs[layer], &self.doutputs[layer], &self.doutputs[layer + 1]].map(Slice::from);
            recording.launch(activation::backward(
                Activation::Gelu,
                rows * n,
                &before,
                &doutput,
                &dbefore,
                None,
            ));
            let (dweight, dbias) = (self.gradient(3 + 2 * layer), self.gradient(4 + 2 * layer));
            let gradient = |sizes, layout, b, c| {
                let epilogue = Epilogue::None;
                Product { sizes, layout, a: &dbefore, b, c, epilogue, gradient: Some(Operand::A) }
            };
            self.products.record(recording, gradient([n, k, rows], Layout::Tn, &input, &dweight));
            recording.launch(column_sum::launch(rows, n, &dbefore, &dbias, false));
            let weight = self.values(3 + 2 * layer);
            self.products.record(recording, gradient([rows, k, n], Layout::Nn, &weight, &dinput));
        }
        let [pooled, stats, dnormed, dpooled] =
            [&self.pooled, &self.stats, &self.doutputs[0], &self.dpooled].map(Slice::from);
        let (dgamma, dbeta) = (self.gradient(1), self.gradient(2));
        let bindings = [&pooled, &stats, &dnormed, &dgamma, &dbeta];
        recording.launch(layer_norm_parameters::launch(rows, dim, bindings, false));
        let bindings = [&pooled, &stats, &self.values(1), &dnormed, &dpooled];
        recording.launch(layer_norm_backward::launch(rows, dim, bindings));
        let gradient = self.gradient(0);
        let bindings = [&dpooled, &batch.offsets, &batch.bucket_offsets, &batch.bucket_rows, &gradient];
        recording.launch(embedding_gradient::launch(batch.unique, batch.count, dim, bindings));
    }

    fn update(&self, recording: &mut Recording, batch: &[PackedTokens], rates: Rates, step: u64) {
        let batch = whole(batch);
        let rounding = Rounding::new(self.options.seed, step);
        for (i, tensor) in self.parameters.iter().enumerate() {
            let (gradient, random) = (self.gradient(i), (rounding, i));
            if i == 0 {
                let rows = [&gradient, &batch.unique_tokens];
                tensor.record_table_step(recording, rows, batch.unique, rates, random);
            } else {
                tensor.record_step(recording, &gradient, rates, random);
            }
        }
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn describe(&self) -> serde_json::Value {
        serde_json::json!({
            "kind": "bag",
            "dim": self.options.dim,
            "norm_epsilon": self.options.norm_epsilon,
            "hidden": self.options.hidden,
            "vocabulary": self.options.vocabulary,
        })
    }
}
