//! Encoder and classifier put together: one training step, one ranking.

use super::devices::{Devices, run_and_fetch};
use super::feed::{Fed, Feed, FeedSizes};
use super::heads::Heads;
use super::row_order::{RankedLabels, RowOrder};
use super::schedules::Schedules;
use crate::classifier::{
    Dense, GrowthBatch, GrowthWorkspace, Head, Loss, Positives, Prune, Ranker, Regrow, RewireCounts, Step,
    StepScale, WORKSPACE_BYTES,
};
use crate::config::{Config, EncoderInit, EncoderKind, Normalisation, Reduction, RewireGrowth, RewireMode};
use crate::data::Batch;
use crate::device::{Buffer, Device, Recording, Slice, Ticket};
use crate::encoder::{
    Bag, BagOptions, Encoder, Features, Intermediate, Pooling, States, Transformer, TransformerOptions,
};
use crate::error::Result;
use crate::kernels::columns_of;
use crate::kernels::dropout::Dropout;
use crate::kernels::products::{ProductOptions, Products};
use crate::kernels::{dropout_columns, dropout_columns_backward};
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

/// What the data decide about an auxiliary head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AuxiliarySizes {
    /// Clusters of labels, C.
    pub clusters: usize,
    /// Starting bias of the clusters.
    pub bias_init: f32,
}

/// What a model must have room for.
#[derive(Clone, Copy, Debug)]
pub struct ModelSizes {
    /// The encoder.
    pub encoder: EncoderSizes,
    /// Labels.
    pub labels: usize,
    /// The auxiliary head, if there is one.
    pub auxiliary: Option<AuxiliarySizes>,
    /// Documents of the largest training step; 0 for a model that only ranks.
    pub train_batch: usize,
    /// The largest batch of training and ranking.
    pub feed: FeedSizes,
    /// Starting bias of the labels.
    pub bias_init: f32,
    /// Upper limit of labels in a block; 0: what the device allows.
    pub max_block_rows: usize,
}

/// The model on a device, or on two.
pub struct Model {
    /// From tokens to features.
    pub encoder: Box<dyn Encoder>,
    /// Between features and classifier.
    pub intermediate: Option<Intermediate>,
    /// From features to labels.
    pub classifier: Head,
    /// From features to clusters of labels, in training.
    pub auxiliary: Option<Dense>,
    /// Which label each row of the classifier is; none: row l is label l.
    pub row_order: Option<RowOrder>,
    /// Documents that the encoder takes at once.
    pub micro_batch: usize,
    feed: Feed,
    /// Where rewiring grows by gradient.
    growth: Option<GrowthWorkspace>,
    /// On the device of the encoder.
    below: FeatureBuffers,
    /// On the device of the classifier: the same ones where both are one.
    above: FeatureBuffers,
    /// A ring of pairs: the main loss and the auxiliary one.
    losses: Buffer,
    heads_kernels: String,
}

/// Room for the features of a batch and their gradient, [D, columns] f32.
#[derive(Clone)]
struct FeatureBuffers {
    x: Buffer,
    dx: Buffer,
}

/// What the parts of a training step have in common.
struct StepParts<'s> {
    config: &'s Config,
    schedules: &'s Schedules,
    documents: usize,
    step: u64,
    fed: &'s Fed,
    dropout: Dropout,
    /// Place of the step's losses in the ring.
    place: usize,
}

/// A step on its way; the loss comes back later.
pub struct StepOutcome {
    /// Documents of the step.
    pub documents: usize,
    auxiliary: bool,
    batch: TrainedBatch,
    losses: Ticket,
}

/// The losses of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepLosses {
    /// The main loss, reduced as the config says.
    pub main: f32,
    /// The auxiliary loss, while there is one.
    pub auxiliary: Option<f32>,
}

/// The batch of the last training step, as it still lies on the device.
#[derive(Clone, Debug)]
pub struct TrainedBatch {
    documents: usize,
    positives: Positives,
    /// What the classifier saw, [H, columns].
    seen: Slice,
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
    /// What was trained on; good until the next batch is fed.
    #[must_use]
    pub fn batch(&self) -> TrainedBatch {
        self.batch.clone()
    }

    /// Waits for the step's main loss, reduced as the config says.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device is lost.
    pub fn loss<'d>(self, devices: impl Into<Devices<'d>>) -> Result<f32> {
        Ok(self.losses(devices)?.main)
    }

    /// Waits for the step's losses.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device is lost.
    pub fn losses<'d>(self, devices: impl Into<Devices<'d>>) -> Result<StepLosses> {
        let losses = devices.into().classifier.collect(self.losses)?;
        let [main, auxiliary] = bytemuck::pod_read_unaligned(&losses);
        Ok(StepLosses { main, auxiliary: self.auxiliary.then_some(auxiliary) })
    }
}

impl FeatureBuffers {
    fn new(device: &Device, features: usize, documents: usize) -> Result<Self> {
        let bytes = (features * columns_of(documents) * 4) as u64;
        Ok(Self {
            x: device.allocate("features", bytes)?,
            dx: device.allocate("gradient of the features", bytes)?,
        })
    }
}

impl Model {
    /// Allocates a model with its starting values.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for values that cannot work together; [`crate::Error::Device`] when it does not fit.
    pub fn new<'d>(devices: impl Into<Devices<'d>>, config: &Config, sizes: ModelSizes) -> Result<Self> {
        Self::build(devices.into(), config, sizes, true)
    }

    /// Allocates a model whose classifier is to be filled from a file.
    ///
    /// # Errors
    /// As [`Model::new`].
    pub fn allocate<'d>(devices: impl Into<Devices<'d>>, config: &Config, sizes: ModelSizes) -> Result<Self> {
        Self::build(devices.into(), config, sizes, false)
    }

    fn build(devices: Devices<'_>, config: &Config, sizes: ModelSizes, start: bool) -> Result<Self> {
        let encoder = build_encoder(devices.encoder, config, sizes)?;
        let features = encoder.features();
        let heads = Heads::build(devices.classifier, config, sizes, features, start)?;
        let feature_width = if let EncoderSizes::Features(width) = sizes.encoder { width } else { 0 };
        let cluster_positives = if heads.auxiliary.is_some() { sizes.feed.positives } else { 0 };
        let by_gradient =
            config.rewire.growth == RewireGrowth::Gradient && config.rewire.mode != RewireMode::Off;
        let growth = match heads.classifier.fan_in() {
            Some(layer) if by_gradient && sizes.train_batch > 0 => {
                Some(GrowthWorkspace::new(devices.classifier, layer, WORKSPACE_BYTES)?)
            }
            _ => None,
        };
        let feed = Feed::on(devices, FeedSizes { cluster_positives, ..sizes.feed }, feature_width)?;
        let below = FeatureBuffers::new(devices.encoder, features, sizes.feed.documents)?;
        let above = match devices.second() {
            Some(device) => FeatureBuffers::new(device, features, sizes.feed.documents)?,
            None => below.clone(),
        };
        Ok(Self {
            intermediate: heads.intermediate,
            classifier: heads.classifier,
            auxiliary: heads.auxiliary,
            heads_kernels: heads.chosen_kernels,
            growth,
            encoder,
            row_order: None,
            micro_batch: micro_batch(config),
            feed,
            below,
            above,
            losses: devices.classifier.allocate("losses", (LOSS_RING * 8) as u64)?,
        })
    }

    /// Which variants of its kernels were chosen on this device; empty where there is no choice. All parts choose alike.
    #[must_use]
    pub fn chosen_kernels(&self) -> String {
        let encoder = self.encoder.chosen_kernels();
        if encoder.is_empty() { self.heads_kernels.clone() } else { encoder }
    }

    /// Those of the encoder, and those of what lies above it, for a model on two devices.
    #[must_use]
    pub fn kernels_of_parts(&self) -> [String; 2] {
        [self.encoder.chosen_kernels(), self.heads_kernels.clone()]
    }

    /// x [D, columns] of a batch of this size: the front of the buffer.
    fn columns(&self, buffer: &Buffer, batch: usize) -> Slice {
        buffer.range(0, (self.encoder.features() * columns_of(batch) * 4) as u64)
    }

    /// One optimizer step, the `step`-th from 0, on all micro-batches of it together; on one device it returns as soon as
    /// it is queued, on two as soon as the encoder's backward pass is.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device fails.
    ///
    /// # Panics
    /// When the step has an auxiliary objective and the batch was not given clusters (see [`Batch::find_clusters`]).
    pub fn train_step<'d>(
        &self,
        devices: impl Into<Devices<'d>>,
        config: &Config,
        schedules: &Schedules,
        batch: &Batch,
        step: u64,
    ) -> Result<StepOutcome> {
        let devices = devices.into();
        let (fed, mut inputs) = self.feed.lay_out(batch, &|_| Vec::new(), self.row_order.as_ref());
        let dropout = Dropout {
            probability: config.encoder.dropout as f32,
            seed: config.train.seed,
            step: step as u32,
            stream: 0,
        };
        let documents = batch.len();
        let place = 2 * (step % LOSS_RING as u64) as usize;
        let parts = StepParts { config, schedules, documents, step, fed: &fed, dropout, place };
        let mut recording = Recording::new();
        inputs.record_tokens(&mut recording);
        let x = self.record_features(&mut recording, &fed, documents, Some(step), dropout);
        let (losses, seen) = match devices.second() {
            None => {
                let seen = self.record_heads(&mut recording, &parts);
                self.record_backward(&mut recording, &parts);
                let losses = recording.read_back(&self.loss_slots(place));
                devices.encoder.submit(recording)?;
                (losses, seen)
            }
            Some(second) => {
                let features = run_and_fetch(devices.encoder, recording, &x)?;
                let mut recording = Recording::new();
                inputs.record_labels(&mut recording);
                recording.upload(&self.above.x, 0, features);
                let seen = self.record_heads(&mut recording, &parts);
                let losses = recording.read_back(&self.loss_slots(place));
                if self.encoder.feature_gradient().is_some() {
                    let gradient = self.columns(&self.above.dx, documents);
                    let gradient = run_and_fetch(second, recording, &gradient)?;
                    let mut recording = Recording::new();
                    recording.upload(&self.below.dx, 0, gradient);
                    self.record_backward(&mut recording, &parts);
                    devices.encoder.submit(recording)?;
                } else {
                    second.submit(recording)?;
                }
                (losses, seen)
            }
        };
        let auxiliary = self.auxiliary.is_some() && schedules.auxiliary_weight(step).is_some();
        let batch = TrainedBatch { documents, positives: fed.positives, seen };
        Ok(StepOutcome { documents, auxiliary, batch, losses })
    }

    /// Where the losses of a step are summed up.
    fn loss_slots(&self, place: usize) -> Slice {
        self.losses.range((place * 4) as u64, 8)
    }

    /// From tokens to x [D, columns] on the encoder's device.
    fn record_features(
        &self,
        recording: &mut Recording,
        fed: &Fed,
        documents: usize,
        step: Option<u64>,
        dropout: Dropout,
    ) -> Slice {
        let x = self.columns(&self.below.x, documents);
        let pooled = self.encoder.forward(recording, &fed.tokens, step);
        recording.launch(dropout_columns::launch(documents, self.encoder.features(), dropout, &pooled, &x));
        x
    }

    /// From x to the losses and dx, all on the classifier's device, with the updates of what lies there. Gives what the
    /// classifier saw, [H, columns].
    fn record_heads(&self, recording: &mut Recording, parts: &StepParts<'_>) -> Slice {
        let StepParts { config, schedules, documents, step, fed, place, .. } = *parts;
        let (x, dx) = (self.columns(&self.above.x, documents), self.columns(&self.above.dx, documents));
        recording.clear(dx.clone());
        recording.clear(self.loss_slots(place));

        let auxiliary = self.auxiliary.as_ref().zip(schedules.auxiliary_weight(step));
        let main_share = 1.0 - auxiliary.map_or(0.0, |(_, weight)| weight);
        let (seen, dseen) = match &self.intermediate {
            Some(layer) => {
                let dseen = layer.output_gradient(documents);
                recording.clear(dseen.clone());
                (layer.record_forward(recording, documents, &x), dseen)
            }
            None => (x.clone(), dx.clone()),
        };
        let scale = self.scale(config, documents);
        let classifier_step = Step {
            batch: documents,
            loss: config.classifier.loss,
            scale: StepScale { gradient: (scale * main_share) as f32, loss: scale as f32, place },
            step,
            rates: schedules.classifier.rates(step),
            positives: &fed.positives,
            x: &seen,
            dx: &dseen,
            losses: &self.losses.whole(),
        };
        self.classifier.record_step(recording, &classifier_step);
        if let Some(layer) = &self.intermediate {
            let trains_encoder = self.encoder.feature_gradient().is_some();
            layer.record_backward(recording, documents, &x, trains_encoder.then_some(&dx));
            layer.record_update(recording, documents, schedules.intermediate.rates(step));
        }
        if let Some((head, weight)) = auxiliary {
            let scale = self.auxiliary_scale(config, documents, head);
            let auxiliary_step = Step {
                loss: Loss::Bce,
                scale: StepScale { gradient: (scale * weight) as f32, loss: scale as f32, place: place + 1 },
                rates: schedules.auxiliary.rates(step),
                positives: fed.cluster_positives.as_ref().expect("the batch was given clusters"),
                x: &x,
                dx: &dx,
                ..classifier_step
            };
            head.record_step(recording, &auxiliary_step);
        }
        seen
    }

    /// From dx to the encoder's parameters, on the encoder's device; nothing where it is not trained.
    fn record_backward(&self, recording: &mut Recording, parts: &StepParts<'_>) {
        let StepParts { schedules, documents, step, fed, dropout, .. } = *parts;
        let Some(dfeatures) = self.encoder.feature_gradient() else { return };
        let (dx, features) = (self.columns(&self.below.dx, documents), self.encoder.features());
        let launch = dropout_columns_backward::launch(documents, features, dropout, &dx, &dfeatures);
        recording.launch(launch);
        self.encoder.backward(recording, &fed.tokens, step);
        self.encoder.update(recording, &fed.tokens, schedules.encoder.rates(step), step);
    }

    /// Rewires the classifier right after the training step on `last`, whose features and positives still lie on the
    /// device: growth by gradient looks at them again, dropout as it was. A dense classifier has nothing to rewire.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device fails.
    pub fn rewire<'d>(
        &self,
        devices: impl Into<Devices<'d>>,
        config: &Config,
        prune: Prune,
        regrow: Regrow,
        last: &TrainedBatch,
    ) -> Result<Option<RewireCounts>> {
        let device = devices.into().classifier;
        let Some(layer) = self.classifier.fan_in() else { return Ok(None) };
        let Some(workspace) = &self.growth else { return layer.rewire(device, prune, regrow).map(Some) };
        let guide = GrowthBatch {
            workspace,
            candidates: config.rewire.candidates,
            batch: last.documents,
            loss: config.classifier.loss,
            positives: &last.positives,
            x: &self.classifier.seen_by_fan_in(&last.seen, last.documents),
        };
        layer.rewire_by_gradient(device, prune, regrow, &guide).map(Some)
    }

    /// What the reduction multiplies the sum of all losses with.
    fn scale(&self, config: &Config, batch: usize) -> f64 {
        let labels = self.classifier.labels() as f64;
        let micro_batches = batch.div_ceil(config.train.batch_size) as f64;
        1.0 / match config.classifier.reduction {
            Reduction::DocumentMean => batch as f64,
            Reduction::Sum => micro_batches,
            Reduction::Mean => batch as f64 * labels,
        }
    }

    /// What the sum of all auxiliary losses is multiplied with.
    fn auxiliary_scale(&self, config: &Config, batch: usize, head: &Dense) -> f64 {
        match config.auxiliary.normalisation {
            Normalisation::PerDocument => self.scale(config, batch),
            Normalisation::Mean => 1.0 / (batch as f64 * head.options.labels as f64),
        }
    }

    /// Ranks the labels of a batch; `filter` gives the labels to leave out for a document of the batch.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device fails.
    pub fn rank<'d>(
        &self,
        devices: impl Into<Devices<'d>>,
        ranker: &Ranker,
        batch: &Batch,
        filter: &dyn Fn(usize) -> Vec<u32>,
    ) -> Result<RankedLabels<'_>> {
        let devices = devices.into();
        let order = self.row_order.as_ref();
        let (fed, mut inputs) = self.feed.lay_out(batch, filter, order);
        let mut recording = Recording::new();
        inputs.record_tokens(&mut recording);
        let mut x = self.record_features(&mut recording, &fed, batch.len(), None, Dropout::OFF);
        if devices.second().is_some() {
            let features = run_and_fetch(devices.encoder, std::mem::take(&mut recording), &x)?;
            inputs.record_labels(&mut recording);
            recording.upload(&self.above.x, 0, features);
            x = self.columns(&self.above.x, batch.len());
        }
        let seen = match &self.intermediate {
            Some(layer) => layer.record_forward(&mut recording, batch.len(), &x),
            None => x,
        };
        let filter = fed.filter.each_ref();
        let ranked = ranker.record(&mut recording, &self.classifier, batch.len(), &seen, filter);
        devices.classifier.submit(recording)?;
        Ok(RankedLabels { ranked, order })
    }
}

pub(super) fn product_options(config: &Config) -> ProductOptions {
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
                states: encoder_states(config),
            },
        )?),
        EncoderSizes::Features(width) => Box::new(Features::new(width)),
        EncoderSizes::Transformer { architecture, pooling } => {
            Box::new(transformer(device, config, sizes, architecture, pooling)?)
        }
    })
}

/// The optimizer's states of the encoder's tensors.
fn encoder_states(config: &Config) -> States {
    States { rule: config.optimizer.encoder.optimizer(1).rule, moments: config.encoder.moments }
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
        states: encoder_states(config),
        products: Products::choose(device, &product_options(config))?,
    };
    let transformer = Transformer::new(device, options)?;
    if train && e.init == EncoderInit::Scratch && !device.only_plans() {
        transformer.start_from_scratch(device)?;
    }
    Ok(transformer)
}
