//! Encoder and classifier put together: what a model has, its rewiring, one ranking. Its training step is in `step.rs`.

use super::build_encoder::{build_encoder, micro_batch};
use super::devices::Devices;
use super::feed::{Feed, FeedSizes, Inputs};
use super::heads::Heads;
use super::row_order::{RankedLabels, RowOrder};
use super::sizes::{EncoderSizes, ModelSizes};
use super::step::{LOSS_RING, TrainedBatch};
use crate::classifier::{
    Dense, GrowthBatch, GrowthWorkspace, Head, Prune, Ranker, Regrow, RewireCounts, WORKSPACE_BYTES,
};
use crate::config::{Config, RewireGrowth, RewireMode};
use crate::data::Batch;
use crate::device::{Buffer, Recording, Slice};
use crate::encoder::{Encoder, Intermediate, PackedTokens};
use crate::error::Result;
use crate::kernels::dropout::Dropout;
use crate::kernels::{columns_of, dropout_columns};

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
    pub(super) feed: Feed,
    /// Where rewiring grows by gradient.
    growth: Option<GrowthWorkspace>,
    /// Features of a batch, dropped and transposed, [D, columns] f32.
    pub(super) x: Buffer,
    /// Their gradient.
    pub(super) dx: Buffer,
    /// Where there are two devices: room on the classifier's for what crosses between them, [B, D] f32.
    pub(super) crossing_rows: Option<Buffer>,
    /// A ring of pairs: the main loss and the auxiliary one.
    pub(super) losses: Buffer,
    heads_kernels: String,
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
        let rows = |documents: usize| (features * documents * 4) as u64;
        let transposed = rows(columns_of(sizes.feed.documents));
        let crossing_rows = devices
            .second()
            .map(|device| device.allocate("features between the devices", rows(sizes.feed.documents)))
            .transpose()?;
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
            x: devices.classifier.allocate("features", transposed)?,
            dx: devices.classifier.allocate("gradient of the features", transposed)?,
            crossing_rows,
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
    pub(super) fn columns(&self, buffer: &Buffer, batch: usize) -> Slice {
        buffer.range(0, (self.encoder.features() * columns_of(batch) * 4) as u64)
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
        let (fed, inputs) = self.feed.lay_out(batch, filter, order);
        let mut recording = Recording::new();
        let seen = self.record_seen(devices, &mut recording, inputs, &fed.tokens, batch.len())?;
        let filter = fed.filter.each_ref();
        let ranked = ranker.record(&mut recording, &self.classifier, batch.len(), &seen, filter);
        devices.classifier.submit(recording)?;
        Ok(RankedLabels { ranked, order })
    }

    /// Records the way from documents to what the classifier sees of them without dropout, [H, columns].
    pub(super) fn record_seen(
        &self,
        devices: Devices<'_>,
        recording: &mut Recording,
        mut inputs: Inputs,
        tokens: &[PackedTokens],
        documents: usize,
    ) -> Result<Slice> {
        let features = match self.crossing(devices) {
            Some(crossing) => self.bring_features(crossing, inputs, Recording::new(), tokens, None)?,
            None => {
                inputs.record_tokens(recording);
                self.encoder.forward(recording, tokens, None)
            }
        };
        let (x, width) = (self.columns(&self.x, documents), self.encoder.features());
        recording.launch(dropout_columns::launch(documents, width, Dropout::OFF, &features, &x));
        Ok(match &self.intermediate {
            Some(layer) => layer.record_forward(recording, documents, &x),
            None => x,
        })
    }
}
