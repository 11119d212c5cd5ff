//! A batch on its way to the device: all inputs of a step in one buffer, filled by one copy.

use super::row_order::RowOrder;
use crate::classifier::Positives;
use crate::data::{Batch, Split, max_sizes};
use crate::device::{Buffer, Device, Recording, SLICE_ALIGNMENT, Slice};
use crate::encoder::PackedTokens;
use crate::error::Result;

/// The most that a batch can hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct FeedSizes {
    /// Documents.
    pub documents: usize,
    /// Documents of a micro-batch: what the encoder takes at once.
    pub micro_documents: usize,
    /// Tokens of all documents.
    pub tokens: usize,
    /// Tokens of a micro-batch.
    pub micro_tokens: usize,
    /// (label, document) pairs.
    pub positives: usize,
    /// (cluster, document) pairs.
    pub cluster_positives: usize,
    /// Filtered labels of all documents.
    pub filtered: usize,
}

impl FeedSizes {
    /// Room for any `documents` documents of a split, the encoder taking at most `micro_batch` of them at once.
    #[must_use]
    pub fn of_split(split: &Split, documents: usize, micro_batch: usize) -> Self {
        let documents = documents.min(split.len()).max(1);
        let micro_documents = micro_batch.min(documents);
        let all = max_sizes(split, documents);
        Self {
            documents,
            micro_documents,
            tokens: all.tokens,
            micro_tokens: max_sizes(split, micro_documents).tokens,
            positives: all.positives,
            cluster_positives: 0,
            filtered: 0,
        }
    }

    /// Room for any `documents` documents of at most `max_tokens` tokens.
    #[must_use]
    pub fn of_documents(documents: usize, micro_batch: usize, max_tokens: usize) -> Self {
        let micro_documents = micro_batch.min(documents);
        Self {
            documents,
            micro_documents,
            tokens: documents * max_tokens,
            micro_tokens: micro_documents * max_tokens,
            positives: 0,
            cluster_positives: 0,
            filtered: 0,
        }
    }

    /// Room for what either has room for.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            documents: self.documents.max(other.documents),
            micro_documents: self.micro_documents.max(other.micro_documents),
            tokens: self.tokens.max(other.tokens),
            micro_tokens: self.micro_tokens.max(other.micro_tokens),
            positives: self.positives.max(other.positives),
            cluster_positives: self.cluster_positives.max(other.cluster_positives),
            filtered: self.filtered.max(other.filtered),
        }
    }
}

/// The input buffer.
pub struct Feed {
    buffer: Buffer,
}

/// A batch in the buffer.
#[derive(Clone, Debug)]
pub struct Fed {
    /// For the encoder, its micro-batches.
    pub tokens: Vec<PackedTokens>,
    /// For the classifier's training step.
    pub positives: Positives,
    /// For the auxiliary head's training step, if the batch was given clusters.
    pub cluster_positives: Option<Positives>,
    /// [B + 1] u32 and the rows of the classifier that ranking leaves out.
    pub filter: [Slice; 2],
}

fn padded(words: usize) -> u64 {
    ((words.max(4) * 4) as u64).next_multiple_of(SLICE_ALIGNMENT)
}

impl Feed {
    /// Room for batches of these sizes, with `features` precomputed numbers a document.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when memory runs out.
    pub fn new(device: &Device, sizes: FeedSizes, features: usize) -> Result<Self> {
        let micro_batches = sizes.documents.div_ceil(sizes.micro_documents.max(1)).max(1);
        // What all micro-batches have together, and what each rounds up to.
        let shared = [3 * sizes.tokens, sizes.documents + micro_batches, micro_batches * (sizes.tokens + 1)];
        let rounding = (5 * micro_batches) as u64 * padded(1);
        let alone = [
            sizes.tokens,
            2 * sizes.positives,
            2 * sizes.cluster_positives,
            sizes.documents + 1,
            sizes.filtered,
            sizes.documents * features,
        ];
        let bytes = shared.into_iter().chain(alone).map(padded).sum::<u64>() + rounding;
        Ok(Self { buffer: device.allocate("batch inputs", bytes)? })
    }

    /// Records the copy of `batch`; `filter` gives the labels that ranking leaves out of each document's list. Label l is
    /// row l of the classifier.
    pub fn record(
        &self,
        recording: &mut Recording,
        batch: &Batch,
        filter: &dyn Fn(usize) -> Vec<u32>,
    ) -> Fed {
        self.record_in_order(recording, batch, filter, None)
    }

    /// [`Feed::record`] for a classifier whose rows are in this order: positives and filters name its rows.
    pub fn record_in_order(
        &self,
        recording: &mut Recording,
        batch: &Batch,
        filter: &dyn Fn(usize) -> Vec<u32>,
        order: Option<&RowOrder>,
    ) -> Fed {
        let mut filter_offsets = vec![0_u32];
        let mut filter_labels = Vec::new();
        for document in &batch.documents {
            let labels = filter(*document as usize);
            match order {
                Some(order) => filter_labels.extend(labels.into_iter().filter_map(|l| order.row_of(l))),
                None => filter_labels.extend(labels),
            }
            filter_offsets.push(filter_labels.len() as u32);
        }
        let mut bytes = Vec::new();
        let mut place = |words: &[u32]| {
            let at = bytes.len() as u64;
            bytes.extend_from_slice(bytemuck::cast_slice(words));
            bytes.resize((at + padded(words.len())) as usize, 0);
            // Bindings are whole vectors of four words, empty ones too.
            self.buffer.range(at, (words.len().max(4).next_multiple_of(4) * 4) as u64)
        };
        let unique_tokens = place(&batch.token_buckets);
        let features = place(bytemuck::cast_slice(&batch.features));
        let tokens = batch
            .micro_batches
            .iter()
            .map(|micro| PackedTokens {
                first_row: micro.first_row,
                documents: micro.len(),
                count: micro.tokens.len(),
                longest: micro.longest,
                unique: batch.token_buckets.len(),
                tokens: place(&micro.tokens),
                offsets: place(&micro.offsets),
                unique_tokens: unique_tokens.clone(),
                bucket_offsets: place(&micro.bucket_offsets),
                bucket_positions: place(&micro.bucket_positions),
                bucket_rows: place(&micro.bucket_rows),
                features: features.clone(),
            })
            .collect();
        let mut pairs =
            |pairs: &[[u32; 2]]| Positives { count: pairs.len(), pairs: place(pairs.as_flattened()) };
        let positives = match order {
            Some(order) => pairs(&order.rows_of_pairs(&batch.positives)),
            None => pairs(&batch.positives),
        };
        let cluster_positives = batch.cluster_positives.as_deref().map(pairs);
        let filter = [place(&filter_offsets), place(&filter_labels)];
        recording.upload(&self.buffer, 0, bytes);
        Fed { tokens, positives, cluster_positives, filter }
    }
}
