//! The BERT family: post-norm transformer encoders over packed sequences, forward and backward by hand.
//!
//! Each part of a layer has one file with both directions side by side. No padded token is ever computed, and no
//! dropout mask is stored: masks are functions of (seed, step, place), drawn again in the backward pass.

mod activations;
mod attention;
mod embeddings;
mod feed_forward;
mod parameters;

use crate::device::{Buffer, Device, Recording, Slice};
use crate::encoder::{Encoder, PackedTokens, Parameter, States};
use crate::error::{Error, Result};
use crate::kernels::dropout::Dropout;
use crate::kernels::pool::{self, Place, PoolKind};
use crate::kernels::products::Products;
use crate::kernels::storage::Rounding;
use crate::kernels::{clip_factor, scale_by, square_sum};
use crate::optimize::Rates;
use crate::pretrained::Architecture;
use activations::Activations;
pub use parameters::PREFIX;
use parameters::Parameters;

/// How the tokens of a document become its features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Mean over the tokens of the last layer, special tokens included.
    Mean,
    /// The first token of the last so many layers, the last one first (the paper's `last_nhidden_conlast`).
    First(usize),
}

/// What a transformer is made of.
#[derive(Clone, Debug)]
pub struct TransformerOptions {
    /// Sizes and constants.
    pub architecture: Architecture,
    /// From tokens to features.
    pub pooling: Pooling,
    /// Probability to drop a number of the embeddings and of each sublayer's output.
    pub hidden_dropout: f32,
    /// Probability to drop an attention weight.
    pub attention_dropout: f32,
    /// Stages that are not trained, of the embeddings (the first) and the layers.
    pub frozen_stages: usize,
    /// Keep only each layer's input and compute the rest again in the backward pass.
    pub recompute: bool,
    /// Largest global norm of the gradient; 0: no limit.
    pub clip_norm: f32,
    /// Whether it is trained; without, nothing is kept for a backward pass.
    pub train: bool,
    /// Largest batch.
    pub max_batch: usize,
    /// Most tokens in a micro-batch.
    pub max_tokens: usize,
    /// Most different tokens in a training batch.
    pub max_unique: usize,
    /// Seed of the run.
    pub seed: u64,
    /// The optimizer's states of each trained tensor.
    pub states: States,
    /// How matrices are multiplied.
    pub products: Products,
}

/// The encoder on a device.
pub struct Transformer {
    o: TransformerOptions,
    parameters: Parameters,
    activations: Activations,
    /// [max_batch, D].
    features: Buffer,
    dfeatures: Buffer,
    /// Partial sums of the squares of the gradients, and the factor that limits their norm.
    partials: Buffer,
    clip: Buffer,
}

/// One micro-batch on its way through the encoder.
struct Pass<'a> {
    batch: &'a PackedTokens,
    /// Its number, which keeps its dropout apart from the others'.
    number: usize,
    /// The optimizer step, in training.
    step: Option<u64>,
    /// Backward: add to the gradients of the micro-batches before it.
    accumulate: bool,
}

impl Transformer {
    /// Allocates an encoder of zeros; [`Transformer::start_from_scratch`] or a file gives it values.
    ///
    /// # Errors
    /// [`Error::Config`] when the pooling wants more layers than there are; [`Error::Device`] when it does not fit.
    pub fn new(device: &Device, options: TransformerOptions) -> Result<Self> {
        let o = options;
        if let Pooling::First(layers) = o.pooling
            && layers > o.architecture.layers
        {
            let message = format!("{layers} is more than the model's {} layers", o.architecture.layers);
            return Err(Error::config("encoder.pooled_layers", message));
        }
        let parameters = Parameters::allocate(device, &o)?;
        let activations = Activations::allocate(device, &o)?;
        let features = (o.max_batch * width(&o) * 4) as u64;
        let trained = if o.train { features } else { 0 };
        Ok(Self {
            features: device.allocate("encoder's features", features)?,
            dfeatures: device.allocate("gradient of the encoder's features", trained)?,
            partials: device.allocate(
                "partial sums of squares of gradients",
                (parameters.list.len() * square_sum::PARTS * 4) as u64,
            )?,
            clip: device.allocate("clipping factor", 16)?,
            parameters,
            activations,
            o,
        })
    }

    /// Starting values as BERT's: matrices and embeddings normal with deviation 0.02, norms 1, everything else 0.
    ///
    /// # Errors
    /// [`Error::Device`] when the device is lost.
    pub fn start_from_scratch(&self, device: &Device) -> Result<()> {
        self.parameters.start_from_scratch(device, self.o.seed)
    }

    /// Output of the last layer for the last micro-batch, [T, H] f32.
    #[must_use]
    pub fn last_hidden_state(&self) -> &Buffer {
        &self.activations.outputs[self.o.architecture.layers]
    }

    /// The gradient of a parameter after a backward pass, for tests and reports: \[shape\], that of the word embeddings
    /// for the rows of the batch's different tokens. None where it is frozen.
    #[must_use]
    pub fn gradient(&self, parameter: usize) -> Option<&Buffer> {
        self.parameters.gradients[parameter].as_ref()
    }

    fn record_forward(&self, recording: &mut Recording, pass: &Pass<'_>) {
        self.embeddings_forward(recording, pass);
        for layer in 0..self.o.architecture.layers {
            self.layer_forward(recording, pass, layer);
            self.pool_forward(recording, pass, layer + 1);
        }
    }

    fn layer_forward(&self, recording: &mut Recording, pass: &Pass<'_>, layer: usize) {
        self.attention_forward(recording, pass, layer);
        self.feed_forward_forward(recording, pass, layer);
    }

    /// Where the output of a stage (0: the embeddings, then the layers) goes among the features, if it does.
    fn pooled_place(&self, pass: &Pass<'_>, stage: usize) -> Option<(PoolKind, Place)> {
        let (hidden, from_the_top) = (self.o.architecture.hidden, self.o.architecture.layers - stage);
        let (kind, pooled) = match self.o.pooling {
            Pooling::Mean => (PoolKind::Mean, 1),
            Pooling::First(layers) => (PoolKind::First, layers),
        };
        let place = Place {
            first_row: pass.batch.first_row,
            width: width(&self.o),
            first_column: from_the_top * hidden,
        };
        (from_the_top < pooled).then_some((kind, place))
    }

    fn pool_forward(&self, recording: &mut Recording, pass: &Pass<'_>, stage: usize) {
        let Some((kind, place)) = self.pooled_place(pass, stage) else { return };
        let batch = pass.batch;
        let output = Slice::from(&self.activations.outputs[stage]);
        let features = Slice::from(&self.features);
        let hidden = self.o.architecture.hidden;
        let (documents, tokens) = (batch.documents, batch.count);
        recording.launch(pool::forward(
            kind,
            documents,
            tokens,
            hidden,
            place,
            &batch.offsets,
            &output,
            &features,
        ));
    }

    /// Adds what the pooling of a stage contributes to the gradient of its output, or begins it.
    fn pool_backward(&self, recording: &mut Recording, pass: &Pass<'_>, stage: usize) {
        let Some((kind, place)) = self.pooled_place(pass, stage) else { return };
        let batch = pass.batch;
        let (dfeatures, dy) = (Slice::from(&self.dfeatures), Slice::from(&self.activations.backward.grad));
        let (documents, tokens) = (batch.documents, batch.count);
        let accumulate = stage < self.o.architecture.layers;
        recording.launch(pool::backward(
            kind,
            documents,
            tokens,
            self.o.architecture.hidden,
            place,
            &batch.offsets,
            &dfeatures,
            &dy,
            accumulate,
        ));
    }

    fn record_backward(&self, recording: &mut Recording, pass: &Pass<'_>) {
        let layers = self.o.architecture.layers;
        for layer in (0..layers).rev() {
            let stage = layer + 1;
            if stage < self.o.frozen_stages {
                return;
            }
            if self.o.recompute && stage < layers {
                self.layer_forward(recording, pass, layer);
            }
            self.pool_backward(recording, pass, stage);
            self.feed_forward_backward(recording, pass, layer);
            self.attention_backward(recording, pass, layer);
        }
        if self.o.frozen_stages == 0 {
            self.embeddings_backward(recording, pass);
        }
    }

    /// Dropout at a place of the network: 0 is the features' own, which comes after the encoder.
    fn dropout(&self, pass: &Pass<'_>, probability: f32, place: usize) -> Dropout {
        let places = 2 + 3 * self.o.architecture.layers;
        match pass.step {
            Some(step) => Dropout {
                probability,
                seed: self.o.seed,
                step: step as u32,
                stream: (place + pass.number * places) as u32,
            },
            None => Dropout::OFF,
        }
    }

    fn hidden_dropout(&self, pass: &Pass<'_>, place: usize) -> Dropout {
        self.dropout(pass, self.o.hidden_dropout, place)
    }

    /// Scales all gradients so that their global norm is at most the limit; the host never learns it.
    fn clip(&self, recording: &mut Recording, unique: usize) {
        let gradients: Vec<(usize, &Buffer)> = self.parameters.counted_gradients(unique).collect();
        let (partials, clip) = (Slice::from(&self.partials), Slice::from(&self.clip));
        for (place, (count, gradient)) in gradients.iter().enumerate() {
            recording.launch(square_sum::launch(*count, &(*gradient).into(), &partials, place));
        }
        let count = gradients.len() * square_sum::PARTS;
        recording.launch(clip_factor::launch(count, self.o.clip_norm, &partials, &clip));
        for (count, gradient) in gradients {
            recording.launch(scale_by::launch(count, &clip, &gradient.into()));
        }
    }
}

/// Features of a document.
fn width(o: &TransformerOptions) -> usize {
    match o.pooling {
        Pooling::Mean => o.architecture.hidden,
        Pooling::First(layers) => layers * o.architecture.hidden,
    }
}

impl Encoder for Transformer {
    fn features(&self) -> usize {
        width(&self.o)
    }

    fn forward_one(
        &self,
        recording: &mut Recording,
        batch: &[PackedTokens],
        number: usize,
        step: Option<u64>,
    ) -> Slice {
        self.record_forward(recording, &Pass { batch: &batch[number], number, step, accumulate: false });
        (&self.features).into()
    }

    fn feature_gradient(&self) -> Option<Slice> {
        let trained = self.o.train && self.o.frozen_stages <= self.o.architecture.layers;
        trained.then(|| (&self.dfeatures).into())
    }

    /// The last micro-batch's activations are still there and it begins the gradients; the others' are computed again.
    fn backward_one(&self, recording: &mut Recording, batch: &[PackedTokens], number: usize, step: u64) {
        if self.feature_gradient().is_none() {
            return;
        }
        let again = number + 1 < batch.len();
        let pass = Pass { batch: &batch[number], number, step: Some(step), accumulate: again };
        if again {
            self.record_forward(recording, &pass);
        }
        self.record_backward(recording, &pass);
    }

    fn update(&self, recording: &mut Recording, batch: &[PackedTokens], rates: Rates, step: u64) {
        let unique = batch[0].unique;
        if self.o.clip_norm > 0.0 {
            self.clip(recording, unique);
        }
        let rounding = Rounding::new(self.o.seed, step);
        for (i, tensor) in self.parameters.list.iter().enumerate() {
            let Some(gradient) = &self.parameters.gradients[i] else { continue };
            let (gradient, random) = (Slice::from(gradient), (rounding, i));
            if i == self.parameters.embeddings.word {
                let rows = [&gradient, &batch[0].unique_tokens];
                tensor.record_table_step(recording, rows, unique, rates, random);
            } else {
                tensor.record_step(recording, &gradient, rates, random);
            }
        }
    }

    fn parameters(&self) -> &[Parameter] {
        &self.parameters.list
    }

    fn chosen_kernels(&self) -> String {
        format!("matrix products: {}", self.o.products.describe())
    }

    fn describe(&self) -> serde_json::Value {
        let pooling = match self.o.pooling {
            Pooling::Mean => serde_json::json!({"kind": "mean"}),
            Pooling::First(layers) => serde_json::json!({"kind": "cls", "layers": layers}),
        };
        serde_json::json!({
            "kind": "transformer",
            "pooling": pooling,
            "architecture": self.o.architecture.to_config_json(),
        })
    }
}
