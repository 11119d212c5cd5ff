//! The best labels of each document: logits and top-k of a block, of a fixed fan-in layer in one pass, merged over the
//! blocks.

use super::chunk::Chunk;
use super::cut::UNIT;
use super::dense::Dense;
use super::fan_in::FanIn;
use super::head::Head;
use super::options::FanInOptions;
use crate::device::{Buffer, Device, Recording, Slice, Ticket};
use crate::error::{Error, Result};
use crate::kernels::fan_in_dlogits::Block;
use crate::kernels::fan_in_top_k::{self, MAX_K, NOTHING, segments};
use crate::kernels::{columns_of, fan_in_logits, feature_texture, fits_texture, logits_top_k, top_k_merge};

/// Logits of a dense layer's labels take at most so many bytes at once.
const LOGITS_BYTES: usize = 64 << 20;

/// The same for a fixed fan-in layer whose features are fetched from a texture: they stay in a processor's cache.
const CACHED_LOGITS_BYTES: usize = 1 << 20;

/// Labels whose logits are ranked at once are a multiple of this, so that their weights and biases begin where a
/// binding may.
const RUN: usize = 64;

/// Scratch and results of ranking batches of a fixed largest size.
pub struct Ranker {
    k: usize,
    scores: Buffer,
    labels: Buffer,
    best_scores: Buffer,
    best_labels: Buffer,
    /// Of a dense layer's labels, [rows, columns]; and how many rows that are.
    logits: Option<(Buffer, usize)>,
    /// Of a fixed fan-in layer, where its features are fetched from a texture.
    by_texture: Option<ByTexture>,
}

/// What the ranking of a fixed fan-in layer needs where its logits are computed first, in runs of labels, from features in
/// a texture.
struct ByTexture {
    features: Buffer,
    /// [rows, columns]
    logits: Buffer,
    /// Zeros \[rows\]: biases are in the logits already.
    no_bias: Buffer,
    /// Labels of a run, whole groups.
    rows: usize,
}

impl ByTexture {
    /// Where the device has textures that are fetched from more cheaply than buffers, and they are large enough.
    fn allocate(device: &Device, layer: &FanIn, columns: usize) -> Result<Option<Self>> {
        let FanInOptions { features, group, .. } = layer.options;
        if !fits_texture(device, features, columns) {
            return Ok(None);
        }
        let unit = UNIT * group;
        let largest = layer.blocks.iter().map(|block| block.shape.rows).max().unwrap_or(0);
        let rows = (CACHED_LOGITS_BYTES / (columns * 4) / unit * unit).max(unit).min(largest);
        Ok(Some(Self {
            features: device.allocate_texture("features to rank", [features, columns])?,
            logits: device.allocate("logits to rank", (rows * columns * 4) as u64)?,
            no_bias: device.allocate("biases to rank", (rows * 4) as u64)?,
            rows,
        }))
    }
}

/// A batch whose ranking is on its way.
pub struct Ranked {
    k: usize,
    batch: usize,
    scores: Ticket,
    labels: Ticket,
}

impl Ranker {
    /// Room for the `k` best labels of up to `max_batch` documents.
    ///
    /// # Errors
    /// [`Error::Usage`] when k is 0 or above 256; [`Error::Device`] when memory runs out.
    pub fn new(device: &Device, layer: &Head, k: usize, max_batch: usize) -> Result<Self> {
        if k == 0 || k > MAX_K {
            return Err(Error::Usage(format!("the number of labels to rank must be 1 to {MAX_K}, is {k}")));
        }
        let k = k.min(layer.labels());
        let columns = columns_of(max_batch);
        let sparse = layer.fan_in().and_then(|layer| layer.blocks.iter().map(|block| block.shape.rows).max());
        let dense = layer.dense().and_then(|layer| layer.blocks.iter().map(|block| block.shape.rows).max());
        let run = |largest: usize| (LOGITS_BYTES / (columns * 4) / RUN * RUN).max(RUN).min(largest);
        let dense = dense.map(run);
        let by_texture = match layer.fan_in() {
            Some(layer) => ByTexture::allocate(device, layer, columns)?,
            None => None,
        };
        let sparse = by_texture.as_ref().map(|by| by.rows).or(sparse);
        let rows = sparse.max(dense).unwrap_or(0);
        let logits = match dense {
            Some(rows) => Some((device.allocate("logits to rank", (rows * columns * 4) as u64)?, rows)),
            None => None,
        };
        let listed = (segments(rows) * columns * k * 4) as u64;
        let best = (columns * k * 4) as u64;
        Ok(Self {
            k,
            scores: device.allocate("segment scores", listed)?,
            labels: device.allocate("segment labels", listed)?,
            best_scores: device.allocate("best scores", best)?,
            best_labels: device.allocate("best labels", best)?,
            logits,
            by_texture,
        })
    }

    /// Records the ranking of a batch: `x` [D, columns]; labels in `filter_labels` between two of `filter_offsets`
    /// [B + 1] are left out for that document. The layer is the one that the ranker was made for.
    pub fn record(
        &self,
        recording: &mut Recording,
        layer: &Head,
        batch: usize,
        x: &Slice,
        filter: [&Slice; 2],
    ) -> Ranked {
        let [seen_by_dense, seen_by_fan_in] = layer.views(x, batch);
        // In the order of their labels, as the merge wants it.
        if let Some(layer) = layer.dense() {
            self.record_dense(recording, layer, batch, &seen_by_dense, filter);
        }
        if let Some(layer) = layer.fan_in() {
            self.record_fan_in(recording, layer, batch, &seen_by_fan_in, filter);
        }
        let bytes = (batch * self.k * 4) as u64;
        Ranked {
            k: self.k,
            batch,
            scores: recording.read_back(&self.best_scores.range(0, bytes)),
            labels: recording.read_back(&self.best_labels.range(0, bytes)),
        }
    }

    fn record_fan_in(
        &self,
        recording: &mut Recording,
        layer: &FanIn,
        batch: usize,
        x: &Slice,
        [filter_offsets, filter_labels]: [&Slice; 2],
    ) {
        if let Some(by) = &self.by_texture {
            return self.record_by_texture(recording, layer, by, batch, x, [filter_offsets, filter_labels]);
        }
        let [scores, labels] = [&self.scores, &self.labels].map(Slice::from);
        for block in &layer.blocks {
            let shape = block.with_batch(batch);
            let [weights, indices, bias] = [&block.weights, &block.indices, &block.bias].map(Slice::from);
            let bindings = [x, &weights, &indices, &bias, filter_offsets, filter_labels, &scores, &labels];
            recording.launch(fan_in_top_k::launch(shape, self.k, bindings));
            self.record_merge(recording, shape);
        }
    }

    /// Run after run of labels: their logits, then the best of these.
    fn record_by_texture(
        &self,
        recording: &mut Recording,
        layer: &FanIn,
        by: &ByTexture,
        batch: usize,
        x: &Slice,
        [filter_offsets, filter_labels]: [&Slice; 2],
    ) {
        let (features, logits, no_bias) = (by.features.whole(), by.logits.whole(), by.no_bias.whole());
        let [scores, labels] = [&self.scores, &self.labels].map(Slice::from);
        recording.launch(feature_texture::launch(layer.options.features, batch, x, &features));
        for block in &layer.blocks {
            for first in (0..block.shape.rows).step_by(by.rows) {
                let run = Chunk::new(block, first, by.rows, batch);
                let [weights, bias, ..] = run.changed();
                let bindings = [&features, &weights, &run.indices(), &bias, &logits];
                recording.launch(fan_in_logits::launch(run.shape, bindings));
                let bindings = [&logits, &no_bias, filter_offsets, filter_labels, &scores, &labels];
                recording.launch(logits_top_k::launch(run.shape, self.k, bindings));
                self.record_merge(recording, run.shape);
            }
        }
    }

    fn record_dense(
        &self,
        recording: &mut Recording,
        layer: &Dense,
        batch: usize,
        x: &Slice,
        [filter_offsets, filter_labels]: [&Slice; 2],
    ) {
        let (logits, most) = self.logits.as_ref().expect("the ranker was made for a dense layer");
        let [scores, labels] = [&self.scores, &self.labels].map(Slice::from);
        for block in &layer.blocks {
            for first in (0..block.shape.rows).step_by(*most) {
                let shape = Block {
                    rows: (*most).min(block.shape.rows - first),
                    first_label: block.shape.first_label + first,
                    ..block.with_batch(batch)
                };
                let range = |buffer: &Buffer, width: usize| {
                    buffer.range((first * width * 4) as u64, (shape.rows * width * 4) as u64)
                };
                let (weights, bias) = (range(&block.weights, shape.fan_in), range(&block.bias, 1));
                let logits = logits.range(0, (shape.rows * columns_of(batch) * 4) as u64);
                layer.record_logits(recording, shape, &weights, x, &logits);
                let bindings = [&logits, &bias, filter_offsets, filter_labels, &scores, &labels];
                recording.launch(logits_top_k::launch(shape, self.k, bindings));
                self.record_merge(recording, shape);
            }
        }
    }

    /// Merges the lists of a run of labels, which come in order, into the best.
    fn record_merge(&self, recording: &mut Recording, shape: Block) {
        let [scores, labels, best_scores, best_labels] =
            [&self.scores, &self.labels, &self.best_scores, &self.best_labels].map(Slice::from);
        recording.launch(top_k_merge::launch(
            columns_of(shape.batch),
            segments(shape.rows),
            self.k,
            shape.first_label == 0,
            [&scores, &labels, &best_scores, &best_labels],
        ));
    }
}

impl Ranked {
    /// Waits for the ranking: for each document (label, score), best first; equal scores by lower label.
    ///
    /// # Errors
    /// [`Error::Device`] when the device is lost.
    pub fn collect(self, device: &Device) -> Result<Vec<Vec<(u32, f32)>>> {
        let scores: Vec<f32> = bytemuck::pod_collect_to_vec(&device.collect(self.scores)?);
        let labels: Vec<u32> = bytemuck::pod_collect_to_vec(&device.collect(self.labels)?);
        let list = |document: usize| {
            let range = document * self.k..(document + 1) * self.k;
            let pairs = labels[range.clone()].iter().copied().zip(scores[range].iter().copied());
            pairs.filter(|(label, _)| *label != NOTHING).collect()
        };
        Ok((0..self.batch).map(list).collect())
    }
}
