//! The best labels of each document: logits and top-k of a block in one pass, merged over the blocks.

use super::fan_in::FanIn;
use crate::device::{Buffer, Device, Recording, Slice, Ticket};
use crate::error::{Error, Result};
use crate::kernels::fan_in_top_k::{self, MAX_K, NOTHING};
use crate::kernels::{columns_of, top_k_merge};

/// Scratch and results of ranking batches of a fixed largest size.
pub struct Ranker {
    k: usize,
    scores: Buffer,
    labels: Buffer,
    best_scores: Buffer,
    best_labels: Buffer,
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
    pub fn new(device: &Device, layer: &FanIn, k: usize, max_batch: usize) -> Result<Self> {
        if k == 0 || k > MAX_K {
            return Err(Error::Usage(format!("the number of labels to rank must be 1 to {MAX_K}, is {k}")));
        }
        let k = k.min(layer.options.labels);
        let columns = columns_of(max_batch);
        let rows = layer.blocks.iter().map(|block| block.shape.rows).max().unwrap_or(0);
        let listed = (fan_in_top_k::segments(rows) * columns * k * 4) as u64;
        let best = (columns * k * 4) as u64;
        Ok(Self {
            k,
            scores: device.allocate("segment scores", listed)?,
            labels: device.allocate("segment labels", listed)?,
            best_scores: device.allocate("best scores", best)?,
            best_labels: device.allocate("best labels", best)?,
        })
    }

    /// Records the ranking of a batch: `x` [D, columns]; labels in `filter_labels` between two of `filter_offsets`
    /// [B + 1] are left out for that document.
    pub fn record(
        &self,
        recording: &mut Recording,
        layer: &FanIn,
        batch: usize,
        x: &Slice,
        [filter_offsets, filter_labels]: [&Slice; 2],
    ) -> Ranked {
        let columns = columns_of(batch);
        let [scores, labels, best_scores, best_labels] =
            [&self.scores, &self.labels, &self.best_scores, &self.best_labels].map(Slice::from);
        for (i, block) in layer.blocks.iter().enumerate() {
            let shape = block.with_batch(batch);
            let [weights, indices, bias] = [&block.weights, &block.indices, &block.bias].map(Slice::from);
            let bindings = [x, &weights, &indices, &bias, filter_offsets, filter_labels, &scores, &labels];
            recording.launch(fan_in_top_k::launch(shape, self.k, bindings));
            let segments = fan_in_top_k::segments(shape.rows);
            let bindings = [&scores, &labels, &best_scores, &best_labels];
            recording.launch(top_k_merge::launch(columns, segments, self.k, i == 0, bindings));
        }
        let bytes = (batch * self.k * 4) as u64;
        Ranked {
            k: self.k,
            batch,
            scores: recording.read_back(&self.best_scores.range(0, bytes)),
            labels: recording.read_back(&self.best_labels.range(0, bytes)),
        }
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
