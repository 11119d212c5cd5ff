//! A batch on its way to the device: all inputs of a step in one buffer, filled by one copy.

use super::devices::Devices;
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

/// The input buffer, or two of them.
pub struct Feed {
    buffer: Buffer,
    /// For positives and filters, where the classifier lies on another device than the encoder.
    labels: Option<Buffer>,
}

/// The bytes of a batch on their way to a buffer.
struct Upload {
    buffer: Buffer,
    bytes: Vec<u8>,
}

/// The bytes of a batch for each device.
pub(super) struct Inputs {
    /// What the encoder takes; with one device, everything.
    tokens: Upload,
    /// What the classifier takes, where it lies on another device.
    labels: Option<Upload>,
}

impl Upload {
    fn new(buffer: &Buffer) -> Self {
        Self { buffer: buffer.clone(), bytes: Vec::new() }
    }

    /// Appends words; gives the place where they will lie.
    fn place(&mut self, words: &[u32]) -> Slice {
        let at = self.bytes.len() as u64;
        self.bytes.extend_from_slice(bytemuck::cast_slice(words));
        self.bytes.resize((at + padded(words.len())) as usize, 0);
        // Bindings are whole vectors of four words, empty ones too.
        self.buffer.range(at, (words.len().max(4).next_multiple_of(4) * 4) as u64)
    }

    fn place_pairs(&mut self, pairs: &[[u32; 2]]) -> Positives {
        Positives { count: pairs.len(), pairs: self.place(pairs.as_flattened()) }
    }

    /// Records the copy.
    fn record(&mut self, recording: &mut Recording) {
        recording.upload(&self.buffer, 0, std::mem::take(&mut self.bytes));
    }
}

impl Inputs {
    /// Records the copy of what the encoder takes; with one device, of everything.
    pub(super) fn record_tokens(&mut self, recording: &mut Recording) {
        self.tokens.record(recording);
    }

    /// Records the copy of what the classifier takes on a device of its own.
    pub(super) fn record_labels(&mut self, recording: &mut Recording) {
        self.labels.iter_mut().for_each(|upload| upload.record(recording));
    }
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
        Self::on(device.into(), sizes, features)
    }

    /// [`Feed::new`] on one device or two.
    pub(super) fn on(devices: Devices<'_>, sizes: FeedSizes, features: usize) -> Result<Self> {
        let micro_batches = sizes.documents.div_ceil(sizes.micro_documents.max(1)).max(1);
        // What all micro-batches have together, and what each rounds up to.
        let shared = [3 * sizes.tokens, sizes.documents + micro_batches, micro_batches * (sizes.tokens + 1)];
        let rounding = (5 * micro_batches) as u64 * padded(1);
        let tokens = [sizes.tokens, sizes.documents * features];
        let labels = [2 * sizes.positives, 2 * sizes.cluster_positives, sizes.documents + 1, sizes.filtered];
        let mut bytes = shared.into_iter().chain(tokens).map(padded).sum::<u64>() + rounding;
        let label_bytes = labels.into_iter().map(padded).sum::<u64>();
        let labels =
            devices.second().map(|second| second.allocate("batch labels", label_bytes)).transpose()?;
        if labels.is_none() {
            bytes += label_bytes;
        }
        Ok(Self { buffer: devices.encoder.allocate("batch inputs", bytes)?, labels })
    }

    /// Records the copy of `batch`; `filter` gives the labels that ranking leaves out of each document's list. Label l is
    /// row l of the classifier, and all parts lie on one device.
    pub fn record(
        &self,
        recording: &mut Recording,
        batch: &Batch,
        filter: &dyn Fn(usize) -> Vec<u32>,
    ) -> Fed {
        let (fed, mut inputs) = self.lay_out(batch, filter, None);
        inputs.record_tokens(recording);
        fed
    }

    /// The bytes of `batch` for each device, and where they will lie, for a classifier whose rows are in this order:
    /// positives and filters name its rows.
    pub(super) fn lay_out(
        &self,
        batch: &Batch,
        filter: &dyn Fn(usize) -> Vec<u32>,
        order: Option<&RowOrder>,
    ) -> (Fed, Inputs) {
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
        let mut inputs =
            Inputs { tokens: Upload::new(&self.buffer), labels: self.labels.as_ref().map(Upload::new) };
        let upload = &mut inputs.tokens;
        let unique_tokens = upload.place(&batch.token_buckets);
        let features = upload.place(bytemuck::cast_slice(&batch.features));
        let tokens = batch
            .micro_batches
            .iter()
            .map(|micro| PackedTokens {
                first_row: micro.first_row,
                documents: micro.len(),
                count: micro.tokens.len(),
                longest: micro.longest,
                unique: batch.token_buckets.len(),
                tokens: upload.place(&micro.tokens),
                offsets: upload.place(&micro.offsets),
                unique_tokens: unique_tokens.clone(),
                bucket_offsets: upload.place(&micro.bucket_offsets),
                bucket_positions: upload.place(&micro.bucket_positions),
                bucket_rows: upload.place(&micro.bucket_rows),
                features: features.clone(),
            })
            .collect();
        let upload = inputs.labels.as_mut().unwrap_or(&mut inputs.tokens);
        let positives = match order {
            Some(order) => upload.place_pairs(&order.rows_of_pairs(&batch.positives)),
            None => upload.place_pairs(&batch.positives),
        };
        let cluster_positives = batch.cluster_positives.as_deref().map(|pairs| upload.place_pairs(pairs));
        let filter = [upload.place(&filter_offsets), upload.place(&filter_labels)];
        (Fed { tokens, positives, cluster_positives, filter }, inputs)
    }
}
