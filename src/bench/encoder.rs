//! One training step of a transformer encoder with random weights: forward, backward, AdamW, dropout 0.1.

use super::timer::time;
use super::{Row, Work};
use crate::config::Config;
use crate::data::{Batch, Split};
use crate::device::{Device, Recording};
use crate::encoder::{Encoder, Pooling, States, Transformer, TransformerOptions};
use crate::error::{Error, Result};
use crate::kernels::activation::Activation;
use crate::kernels::dropout::Dropout;
use crate::kernels::dropout_rows;
use crate::kernels::products::{MatmulPrecision, ProductOptions, Products};
use crate::kernels::storage::Storage;
use crate::optimize::Rule;
use crate::pretrained::{Architecture, Family};
use crate::random::{Purpose, unit, words};
use crate::train::{Feed, FeedSizes};

/// As BERT's uncased vocabulary.
const VOCABULARY: usize = 30_522;
/// Different batches, which take turns.
const BATCHES: usize = 4;

/// A well-known size of encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncoderShape {
    /// 2 layers of 128.
    Tiny,
    /// 6 layers of 384: MiniLM.
    Minilm,
    /// 12 layers of 768: BERT-base.
    Bert,
}

/// The encoder that is measured.
#[derive(Clone, Copy, Debug)]
pub struct EncoderSizes {
    /// Layers and widths.
    pub shape: EncoderShape,
    /// Documents of a step.
    pub batch: usize,
    /// Tokens of the longest document.
    pub tokens: usize,
    /// Lengths as titles have them, log-normal around 12 tokens, instead of all of the longest.
    pub short: bool,
}

impl EncoderSizes {
    pub(super) fn describe(&self) -> String {
        let lengths = if self.short { "short documents up to" } else { "documents of" };
        let shape = format!("{:?}", self.shape).to_lowercase();
        format!("encoder {shape}, {} {lengths} {} tokens", self.batch, self.tokens)
    }

    fn architecture(&self) -> Architecture {
        let (hidden, layers, heads) = match self.shape {
            EncoderShape::Tiny => (128, 2, 2),
            EncoderShape::Minilm => (384, 6, 12),
            EncoderShape::Bert => (768, 12, 12),
        };
        Architecture {
            family: Family::Bert,
            vocabulary: VOCABULARY,
            hidden,
            layers,
            heads,
            intermediate: 4 * hidden,
            positions: 512,
            first_position: 0,
            token_types: 2,
            activation: Activation::Gelu,
            norm_epsilon: 1e-12,
            hidden_dropout: 0.1,
            attention_dropout: 0.1,
        }
    }

    fn length(&self, document: usize) -> usize {
        if !self.short {
            return self.tokens;
        }
        let [u, v, ..] = random(document, 1 << 20);
        let normal = (-2.0 * (1.0 - f64::from(unit(u))).ln()).sqrt()
            * (std::f64::consts::TAU * f64::from(unit(v))).cos();
        ((normal * 0.5 + 12_f64.ln()).exp().round() as usize).clamp(3.min(self.tokens), self.tokens)
    }

    /// Documents for all batches.
    fn documents(&self) -> Split {
        let token = |document, place| 1000 + random(document, place)[0] % (VOCABULARY as u32 - 1000);
        Split::from_documents((0..BATCHES * self.batch).map(|document| {
            let tokens: Vec<u32> = (0..self.length(document)).map(|place| token(document, place)).collect();
            (tokens, vec![])
        }))
    }
}

fn random(i: usize, j: usize) -> [u32; 4] {
    words(1, Purpose::Synth, 0, i as u32, j as u32)
}

/// The row of the encoder's step.
pub(super) fn measure(
    device: &Device,
    sizes: &EncoderSizes,
    precision: MatmulPrecision,
    seconds: f64,
) -> Result<Row> {
    if sizes.batch == 0 || sizes.tokens == 0 || sizes.tokens > 512 {
        return Err(Error::Usage(
            "the encoder's documents have 1 to 512 tokens, and a step at least one".into(),
        ));
    }
    let split = sizes.documents();
    let feed_sizes = FeedSizes::of_split(&split, sizes.batch, sizes.batch);
    let architecture = sizes.architecture();
    let options = TransformerOptions {
        architecture,
        pooling: Pooling::Mean,
        hidden_dropout: architecture.hidden_dropout as f32,
        attention_dropout: architecture.attention_dropout as f32,
        frozen_stages: 0,
        recompute: false,
        clip_norm: 0.0,
        train: true,
        max_batch: sizes.batch,
        max_tokens: feed_sizes.micro_tokens,
        max_unique: feed_sizes.tokens,
        seed: 1,
        states: States { rule: Rule::AdamW, moments: Storage::F32 },
        products: Products::choose(device, &ProductOptions { precision, ..ProductOptions::default() })?,
    };
    let encoder = Transformer::new(device, options)?;
    encoder.start_from_scratch(device)?;
    let feed = Feed::new(device, feed_sizes, 0)?;
    let optimizer = Config::with_settings(&[])?.optimizer.encoder.optimizer(1000);
    let count = sizes.batch * architecture.hidden;
    let gradient = device.upload("gradient", &vec![1.0 / count as f32; count])?.whole();
    let batches: Vec<Batch> = (0..BATCHES)
        .map(|number| {
            let rows: Vec<u32> = (0..sizes.batch).map(|i| (number * sizes.batch + i) as u32).collect();
            Batch::assemble(&split, &rows, sizes.batch)
        })
        .collect();

    let mut step = 0;
    let mut row = time("encoder step", seconds, || {
        let mut recording = Recording::new();
        let fed = feed.record(&mut recording, &batches[step % BATCHES], &|_| Vec::new());
        encoder.forward(&mut recording, &fed.tokens, Some(step as u64));
        if let Some(to) = encoder.feature_gradient() {
            recording.launch(dropout_rows::launch(count, Dropout::OFF, &gradient, &to));
        }
        encoder.backward(&mut recording, &fed.tokens, step as u64);
        encoder.update(&mut recording, &fed.tokens, optimizer.rates(step as u64), step as u64);
        device.submit(recording)?;
        step += 1;
        device.wait()
    })?;
    // Three products of each matrix; attention itself is a few per cent of them at these lengths.
    let tokens = batches.iter().map(Batch::tokens).sum::<usize>() as f64 / BATCHES as f64;
    let matrices = (architecture.layers * 12 * architecture.hidden * architecture.hidden) as f64;
    row.work = Some(Work { multiply_adds: 3.0 * tokens * matrices, ..Work::default() });
    row.documents_per_second = Some(sizes.batch as f64 / (row.milliseconds / 1e3));
    Ok(row)
}
