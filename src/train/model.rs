//! Encoder and classifier put together: one training step, one ranking.

use super::feed::{Fed, Feed, FeedSizes};
use crate::classifier::{FanIn, FanInOptions, Ranked, Ranker, Step, StepScale};
use crate::config::{Config, EncoderInit, EncoderKind, Reduction};
use crate::data::Batch;
use crate::device::{Buffer, Device, Recording, Slice, Ticket};
use crate::encoder::{Bag, BagOptions, Encoder, Features, Pooling, Transformer, TransformerOptions};
use crate::error::{Error, Result};
use crate::kernels::columns_of;
use crate::kernels::dropout::Dropout;
use crate::kernels::products::{ProductOptions, Products};
use crate::kernels::storage::Precision;
use crate::kernels::{dropout_columns, dropout_columns_backward};
use crate::optimize::Optimizer;
use crate::pretrained::Architecture;

/// Losses of steps that are still on their way back.
const LOSS_RING: usize = 64;

/// What the data or the files decide about an encoder.
#[derive(Clone, Copy, Debug)]
pub enum EncoderSizes {
    /// A bag of tokens.
    Bag {
        /// Tokens in the vocabulary.
        vocabulary: usize,
    },
    /// Precomputed features of this width.
    Features(usize),
    /// A transformer.
    Transformer {
        /// Sizes and constants.
        architecture: Architecture,
        /// From tokens to features.
        pooling: Pooling,
    },
}

/// What a model must have room for.
#[derive(Clone, Copy, Debug)]
pub struct ModelSizes {
    /// The encoder.
    pub encoder: EncoderSizes,
    /// Labels.
    pub labels: usize,
    /// Documents of the largest training step; 0 for a model that only ranks.
    pub train_batch: usize,
    /// The largest batch of training and ranking.
    pub feed: FeedSizes,
    /// Starting bias of the labels.
    pub bias_init: f32,
    /// Upper limit of labels in a block; 0: what the device allows.
    pub max_block_rows: usize,
}

/// The model on a device.
pub struct Model {
    /// From tokens to features.
    pub encoder: Box<dyn Encoder>,
    /// From features to labels.
    pub classifier: FanIn,
    /// Documents that the encoder takes at once.
    pub micro_batch: usize,
    feed: Feed,
    x: Buffer,
    dx: Buffer,
    losses: Buffer,
}

/// A step on its way; the loss comes back later.
pub struct StepOutcome {
    /// Documents of the step.
    pub documents: usize,
    loss: Ticket,
}

/// Documents that the encoder takes at once: all of a step, or one of the batches that it accumulates.
#[must_use]
pub fn micro_batch(config: &Config) -> usize {
    match config.encoder.kind {
        EncoderKind::Bag | EncoderKind::Features => usize::MAX,
        EncoderKind::Transformer => config.train.batch_size,
    }
}

impl StepOutcome {
    /// Waits for the step's loss, reduced as the config says.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device is lost.
    pub fn loss(self, device: &Device) -> Result<f32> {
        Ok(bytemuck::pod_read_unaligned(&device.collect(self.loss)?))
    }
}

impl Model {
    /// Allocates a model with its starting values.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for values that cannot work together; [`crate::Error::Device`] when it does not fit.
    pub fn new(device: &Device, config: &Config, sizes: ModelSizes) -> Result<Self> {
        Self::build(device, config, sizes, FanIn::new)
    }

    /// Allocates a model whose classifier is to be filled from a file.
    ///
    /// # Errors
    /// As [`Model::new`].
    pub fn allocate(device: &Device, config: &Config, sizes: ModelSizes) -> Result<Self> {
        Self::build(device, config, sizes, FanIn::allocate)
    }

    fn build(
        device: &Device,
        config: &Config,
        sizes: ModelSizes,
        classifier: fn(&Device, FanInOptions) -> Result<FanIn>,
    ) -> Result<Self> {
        let encoder = build_encoder(device, config, sizes)?;
        let features = encoder.features();
        if config.classifier.fan_in > features {
            let (fan_in, key) = (config.classifier.fan_in, "classifier.fan_in");
            let message = format!("{fan_in} is more than the {features} features that the encoder gives");
            return Err(Error::config(key, message));
        }
        let options = FanInOptions {
            labels: sizes.labels,
            features,
            fan_in: config.classifier.fan_in,
            group: 1,
            max_batch: sizes.train_batch.max(1),
            rule: config.optimizer.classifier.optimizer(1).rule,
            precision: Precision { weights: config.classifier.weights, moments: config.classifier.moments },
            train_bias: config.classifier.bias,
            init_scale: config.classifier.init_scale as f32,
            bias_init: sizes.bias_init,
            seed: config.train.seed,
            max_block_rows: sizes.max_block_rows,
        };
        let feature_width = if let EncoderSizes::Features(width) = sizes.encoder { width } else { 0 };
        let bytes = (features * columns_of(sizes.feed.documents) * 4) as u64;
        Ok(Self {
            classifier: classifier(device, options)?,
            encoder,
            micro_batch: micro_batch(config),
            feed: Feed::new(device, sizes.feed, feature_width)?,
            x: device.allocate("features", bytes)?,
            dx: device.allocate("gradient of the features", bytes)?,
            losses: device.allocate("losses", (LOSS_RING * 4) as u64)?,
        })
    }

    /// x [D, columns] of a batch of this size: the front of the buffer.
    fn columns(&self, buffer: &Buffer, batch: usize) -> Slice {
        buffer.range(0, (self.encoder.features() * columns_of(batch) * 4) as u64)
    }

    /// One optimizer step, the `step`-th from 0, on all micro-batches of it together; returns as soon as it is queued.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device fails.
    pub fn train_step(
        &self,
        device: &Device,
        config: &Config,
        [encoder_optimizer, classifier_optimizer]: [&Optimizer; 2],
        batch: &Batch,
        step: u64,
    ) -> Result<StepOutcome> {
        let mut recording = Recording::new();
        let fed = self.feed.record(&mut recording, batch, &|_| Vec::new());
        let features = self.encoder.features();
        let (x, dx) = (self.columns(&self.x, batch.len()), self.columns(&self.dx, batch.len()));
        let dropout = Dropout {
            probability: config.encoder.dropout as f32,
            seed: config.train.seed,
            step: step as u32,
            stream: 0,
        };
        let pooled = self.encoder.forward(&mut recording, &fed.tokens, Some(step));
        recording.launch(dropout_columns::launch(batch.len(), features, dropout, &pooled, &x));

        let place = (step % LOSS_RING as u64) as usize;
        let loss_slot = self.losses.range((place * 4) as u64, 4);
        recording.clear(dx.clone());
        recording.clear(loss_slot.clone());
        let scale = self.scale(config, batch.len());
        let step_of_classifier = Step {
            batch: batch.len(),
            loss: config.classifier.loss,
            scale: StepScale { gradient: scale, loss: scale, place },
            step,
            rates: classifier_optimizer.rates(step),
            positives: &fed.positives,
            x: &x,
            dx: &dx,
            losses: &self.losses.whole(),
        };
        self.classifier.record_step(&mut recording, &step_of_classifier);

        if let Some(dfeatures) = self.encoder.feature_gradient() {
            recording.launch(dropout_columns_backward::launch(
                batch.len(),
                features,
                dropout,
                &dx,
                &dfeatures,
            ));
            self.encoder.backward(&mut recording, &fed.tokens, step);
            self.encoder.update(&mut recording, &fed.tokens, encoder_optimizer.rates(step));
        }
        let loss = recording.read_back(&loss_slot);
        device.submit(recording)?;
        Ok(StepOutcome { documents: batch.len(), loss })
    }

    /// What the reduction multiplies the sum of all losses with.
    fn scale(&self, config: &Config, batch: usize) -> f32 {
        let labels = self.classifier.options.labels as f64;
        let micro_batches = batch.div_ceil(config.train.batch_size) as f64;
        (1.0 / match config.classifier.reduction {
            Reduction::DocumentMean => batch as f64,
            Reduction::Sum => micro_batches,
            Reduction::Mean => batch as f64 * labels,
        }) as f32
    }

    /// Ranks the labels of a batch; `filter` gives the labels to leave out for a document of the batch.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device fails.
    pub fn rank(
        &self,
        device: &Device,
        ranker: &Ranker,
        batch: &Batch,
        filter: &dyn Fn(usize) -> Vec<u32>,
    ) -> Result<Ranked> {
        let mut recording = Recording::new();
        let Fed { tokens, filter, .. } = self.feed.record(&mut recording, batch, filter);
        let x = self.columns(&self.x, batch.len());
        let pooled = self.encoder.forward(&mut recording, &tokens, None);
        let features = self.encoder.features();
        recording.launch(dropout_columns::launch(batch.len(), features, Dropout::OFF, &pooled, &x));
        let [offsets, labels] = filter.each_ref();
        let ranked = ranker.record(&mut recording, &self.classifier, batch.len(), &x, [offsets, labels]);
        device.submit(recording)?;
        Ok(ranked)
    }
}

fn product_options(config: &Config) -> ProductOptions {
    let names = config.train.kernels_off.split(',').map(str::trim).filter(|name| !name.is_empty());
    ProductOptions {
        off: names.map(str::to_owned).collect(),
        deterministic: config.train.deterministic,
        cache: Some(config.cache_folder()),
        measure_software: false,
    }
}

/// An encoder of zeros, or of random numbers where the config says so.
pub(super) fn build_encoder(device: &Device, config: &Config, sizes: ModelSizes) -> Result<Box<dyn Encoder>> {
    Ok(match sizes.encoder {
        EncoderSizes::Bag { vocabulary } => Box::new(Bag::new(
            device,
            BagOptions {
                vocabulary,
                dim: config.encoder.dim,
                hidden: config.encoder.hidden.clone(),
                norm_epsilon: config.encoder.norm_epsilon as f32,
                init_scale: config.encoder.init_scale as f32,
                max_batch: sizes.feed.documents,
                max_unique: sizes.feed.tokens,
                seed: config.train.seed,
                rule: config.optimizer.encoder.optimizer(1).rule,
            },
        )?),
        EncoderSizes::Features(width) => Box::new(Features::new(width)),
        EncoderSizes::Transformer { architecture, pooling } => {
            Box::new(transformer(device, config, sizes, architecture, pooling)?)
        }
    })
}

/// The transformer of a model: trained where a training step has documents.
fn transformer(
    device: &Device,
    config: &Config,
    sizes: ModelSizes,
    architecture: Architecture,
    pooling: Pooling,
) -> Result<Transformer> {
    let e = &config.encoder;
    let train = sizes.train_batch > 0;
    let options = TransformerOptions {
        architecture,
        pooling,
        hidden_dropout: e.hidden_dropout.or(architecture.hidden_dropout),
        attention_dropout: e.attention_dropout.or(architecture.attention_dropout),
        frozen_stages: e.freeze.stages(architecture.layers),
        recompute: e.recompute,
        clip_norm: config.train.clip_norm as f32,
        train,
        max_batch: sizes.feed.documents,
        max_tokens: sizes.feed.micro_tokens,
        max_unique: sizes.feed.tokens,
        seed: config.train.seed,
        rule: config.optimizer.encoder.optimizer(1).rule,
        products: Products::choose(device, &product_options(config))?,
    };
    let transformer = Transformer::new(device, options)?;
    if train && e.init == EncoderInit::Scratch && !device.only_plans() {
        transformer.start_from_scratch(device)?;
    }
    Ok(transformer)
}
