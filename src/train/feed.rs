//! A batch on its way to the device: all inputs of a step in one buffer, filled by one copy.

use crate::classifier::Positives;
use crate::data::Batch;
use crate::device::{Buffer, Device, Recording, SLICE_ALIGNMENT, Slice};
use crate::encoder::PackedTokens;
use crate::error::Result;

/// The most that a batch can hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct FeedSizes {
    /// Documents.
    pub documents: usize,
    /// Tokens of all documents.
    pub tokens: usize,
    /// (label, document) pairs.
    pub positives: usize,
    /// Filtered labels of all documents.
    pub filtered: usize,
}

/// The input buffer.
pub struct Feed {
    buffer: Buffer,
}

/// A batch in the buffer.
#[derive(Clone, Debug)]
pub struct Fed {
    /// For the encoder.
    pub tokens: PackedTokens,
    /// For the classifier's training step.
    pub positives: Positives,
    /// [B + 1] u32 and the labels that ranking leaves out.
    pub filter: [Slice; 2],
}

fn padded(words: usize) -> u64 {
    ((words.max(4) * 4) as u64).next_multiple_of(SLICE_ALIGNMENT)
}

impl Feed {
    /// Room for batches of these sizes.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when memory runs out.
    pub fn new(device: &Device, sizes: FeedSizes) -> Result<Self> {
        let (documents, tokens) = (sizes.documents, sizes.tokens);
        let words = [
            tokens,
            documents + 1,
            tokens,
            tokens + 1,
            tokens,
            2 * sizes.positives,
            documents + 1,
            sizes.filtered,
        ];
        let bytes = words.into_iter().map(padded).sum();
        Ok(Self { buffer: device.allocate("batch inputs", bytes)? })
    }

    /// Records the copy of `batch`; `filter` gives the labels that ranking leaves out of each document's list.
    pub fn record(
        &self,
        recording: &mut Recording,
        batch: &Batch,
        filter: &dyn Fn(usize) -> Vec<u32>,
    ) -> Fed {
        let mut filter_offsets = vec![0_u32];
        let mut filter_labels = Vec::new();
        for document in &batch.documents {
            filter_labels.extend(filter(*document as usize));
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
        let tokens = PackedTokens {
            batch: batch.len(),
            count: batch.tokens.len(),
            unique: batch.token_buckets.len(),
            tokens: place(&batch.tokens),
            offsets: place(&batch.offsets),
            unique_tokens: place(&batch.token_buckets),
            bucket_offsets: place(&batch.bucket_offsets),
            bucket_rows: place(&batch.bucket_rows),
        };
        let positives =
            Positives { count: batch.positives.len(), pairs: place(bytemuck::cast_slice(&batch.positives)) };
        let filter = [place(&filter_offsets), place(&filter_labels)];
        recording.upload(&self.buffer, 0, bytes);
        Fed { tokens, positives, filter }
    }
}
