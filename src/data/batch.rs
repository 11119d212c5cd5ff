//! Batches: the order of an epoch, and the packed documents of one step.

use super::clusters::LabelClusters;
use super::features::FeatureTable;
use super::split::Split;
use super::tokenizer::Tokenizer;
use crate::error::Result;
use crate::random::{Purpose, below, words};

/// The order of `n` documents in an epoch: a Fisher–Yates shuffle that depends on nothing but its arguments.
#[must_use]
pub fn epoch_order(seed: u64, epoch: u32, n: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    for i in (1..n).rev() {
        let [word, ..] = words(seed, Purpose::Shuffle, epoch, i as u32, 0);
        order.swap(i, below(word, i as u32 + 1) as usize);
    }
    order
}

/// B documents of one optimizer step (or one ranking), in micro-batches: the pieces that an encoder takes at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Document numbers in the split (or in the list of texts). \[B\]
    pub documents: Vec<u32>,
    /// (label, row) of each true label, sorted by label, then row: a block of labels finds its own in one run.
    pub positives: Vec<[u32; 2]>,
    /// (cluster, row) of each cluster that has a true label of the row, once, sorted as the positives; none until
    /// [`Batch::find_clusters`].
    pub cluster_positives: Option<Vec<[u32; 2]>>,
    /// The distinct token ids of all documents, ascending. \[U\]
    pub token_buckets: Vec<u32>,
    /// Precomputed features of the documents, [B, D]; empty if the split has none.
    pub features: Vec<f32>,
    /// The documents' tokens; rows go on from one to the next.
    pub micro_batches: Vec<MicroBatch>,
}

/// Documents with T tokens in all, packed without padding, ready for the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MicroBatch {
    /// Row of its first document in the batch.
    pub first_row: usize,
    /// Tokens of its longest document.
    pub longest: usize,
    /// Token ids, document after document. \[T\]
    pub tokens: Vec<u32>,
    /// Where each document's tokens begin. [documents + 1]
    pub offsets: Vec<u32>,
    /// Where the occurrences of each of the batch's distinct tokens begin. \[U + 1\]
    pub bucket_offsets: Vec<u32>,
    /// The place in `tokens` of each occurrence, by token, then ascending. \[T\]
    pub bucket_positions: Vec<u32>,
    /// The document, counted from `first_row`, of each occurrence. \[T\]
    pub bucket_rows: Vec<u32>,
}

impl MicroBatch {
    /// Number of documents.
    #[must_use]
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// Whether there is no document.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn pack<'a>(first_row: usize, lists: impl Iterator<Item = &'a [u32]>) -> Self {
        let mut packed = Self { first_row, offsets: vec![0], ..Self::default() };
        for list in lists {
            packed.longest = packed.longest.max(list.len());
            packed.tokens.extend_from_slice(list);
            packed.offsets.push(packed.tokens.len() as u32);
        }
        packed
    }

    /// Sorts the occurrences into the buckets of `distinct`, which holds every token, ascending.
    fn fill_buckets(&mut self, distinct: &[u32]) {
        let mut row = 0;
        // (token, place, row): one sort groups by token and keeps places ascending.
        let mut occurrences: Vec<(u64, u32)> = Vec::with_capacity(self.tokens.len());
        for (place, &token) in self.tokens.iter().enumerate() {
            while self.offsets[row + 1] as usize <= place {
                row += 1;
            }
            occurrences.push((u64::from(token) << 32 | place as u64, row as u32));
        }
        occurrences.sort_unstable();
        self.bucket_offsets = Vec::with_capacity(distinct.len() + 1);
        let mut next = 0;
        for &token in distinct {
            self.bucket_offsets.push(next as u32);
            next += occurrences[next..].iter().take_while(|(key, _)| (key >> 32) as u32 == token).count();
        }
        self.bucket_offsets.push(next as u32);
        self.bucket_positions = occurrences.iter().map(|(key, _)| *key as u32).collect();
        self.bucket_rows = occurrences.into_iter().map(|(_, row)| row).collect();
    }
}

impl Batch {
    /// The documents of `split` with these numbers, in this order, at most `micro_batch` of them in a micro-batch.
    ///
    /// # Panics
    /// If a number is not in the split.
    #[must_use]
    pub fn assemble(split: &Split, documents: &[u32], micro_batch: usize) -> Self {
        let lists: Vec<&[u32]> = documents.iter().map(|&d| split.tokens(d as usize)).collect();
        let mut batch = Self::from_token_lists(&lists, micro_batch);
        batch.documents.clear();
        batch.documents.extend_from_slice(documents);
        for (row, &document) in documents.iter().enumerate() {
            batch.positives.extend(split.labels(document as usize).iter().map(|&label| [label, row as u32]));
        }
        batch.positives.sort_unstable();
        documents.iter().for_each(|&document| split.append_features(document as usize, &mut batch.features));
        batch
    }

    /// Fills in the clusters of the true labels.
    ///
    /// # Panics
    /// If a label is in no cluster.
    pub fn find_clusters(&mut self, clusters: &LabelClusters) {
        let of_label = clusters.of_label();
        let mut found: Vec<[u32; 2]> =
            self.positives.iter().map(|[label, row]| [of_label[*label as usize], *row]).collect();
        found.sort_unstable();
        found.dedup();
        self.cluster_positives = Some(found);
    }

    /// Documents of which nothing but the features is known, row after row.
    #[must_use]
    pub fn from_features(table: &FeatureTable, rows: std::ops::Range<usize>) -> Self {
        let mut batch = Self::from_token_lists(&vec![&[][..]; rows.len()], usize::MAX);
        rows.for_each(|row| table.append_row(row, &mut batch.features));
        batch
    }

    /// Texts to be classified: no positives.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn from_texts(tokenizer: &Tokenizer, texts: &[&str], micro_batch: usize) -> Result<Self> {
        let encoded = texts.iter().map(|text| Ok(tokenizer.encode(text)?.ids)).collect::<Result<Vec<_>>>()?;
        let lists: Vec<&[u32]> = encoded.iter().map(Vec::as_slice).collect();
        Ok(Self::from_token_lists(&lists, micro_batch))
    }

    /// Number of documents B.
    #[must_use]
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether there is no document.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// The token ids of the document in this row.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn tokens_of(&self, row: usize) -> &[u32] {
        let micro =
            self.micro_batches.iter().rfind(|micro| micro.first_row <= row).expect("a row of the batch");
        let [begin, end] = [0, 1].map(|next| micro.offsets[row - micro.first_row + next] as usize);
        &micro.tokens[begin..end]
    }

    /// Tokens of all documents, T.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.micro_batches.iter().map(|micro| micro.tokens.len()).sum()
    }

    fn from_token_lists(lists: &[&[u32]], micro_batch: usize) -> Self {
        let micro_batch = micro_batch.max(1);
        let mut micro_batches: Vec<MicroBatch> = lists
            .chunks(micro_batch)
            .enumerate()
            .map(|(i, lists)| MicroBatch::pack(i * micro_batch, lists.iter().copied()))
            .collect();
        let mut token_buckets: Vec<u32> =
            micro_batches.iter().flat_map(|micro| micro.tokens.iter().copied()).collect();
        token_buckets.sort_unstable();
        token_buckets.dedup();
        micro_batches.iter_mut().for_each(|micro| micro.fill_buckets(&token_buckets));
        Self {
            documents: (0..lists.len() as u32).collect(),
            positives: Vec::new(),
            cluster_positives: None,
            features: Vec::new(),
            token_buckets,
            micro_batches,
        }
    }
}

/// The most that any batch can hold: what to reserve on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxSizes {
    /// Tokens T.
    pub tokens: usize,
    /// True (label, row) pairs.
    pub positives: usize,
}

/// The exact upper bounds over any choice of `batch_size` different documents: the sums of the largest ones.
#[must_use]
pub fn max_sizes(split: &Split, batch_size: usize) -> MaxSizes {
    let largest = |length: &dyn Fn(usize) -> usize| {
        let mut lengths: Vec<usize> = (0..split.len()).map(length).collect();
        if batch_size < lengths.len() && batch_size > 0 {
            lengths.select_nth_unstable_by(batch_size - 1, |a, b| b.cmp(a));
        }
        lengths.iter().take(batch_size).sum()
    };
    MaxSizes {
        tokens: largest(&|document| split.tokens(document).len()),
        positives: largest(&|document| split.labels(document).len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split() -> Split {
        Split::from_documents([
            (vec![4, 2, 4], vec![7, 1]),
            (vec![], vec![]),
            (vec![2, 9], vec![1]),
            (vec![5; 6], vec![0, 1, 2]),
        ])
    }

    #[test]
    fn an_epoch_is_a_permutation_that_differs_from_the_next() {
        let order = epoch_order(7, 3, 1000);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(i, &d)| i == d as usize));
        assert_eq!(order, epoch_order(7, 3, 1000));
        assert_ne!(order, epoch_order(7, 4, 1000));
        assert_ne!(order, epoch_order(8, 3, 1000));
        assert_eq!((epoch_order(1, 0, 0), epoch_order(1, 0, 1)), (vec![], vec![0]));
        // Each of the 6 orders of 3 documents comes about equally often.
        let mut counts = std::collections::HashMap::new();
        (0..6000).for_each(|epoch| *counts.entry(epoch_order(1, epoch, 3)).or_insert(0) += 1);
        assert!(counts.len() == 6 && counts.values().all(|&c| (850..1150).contains(&c)), "{counts:?}");
    }

    #[test]
    fn a_batch_by_hand() {
        let batch = Batch::assemble(&split(), &[2, 1, 0], 8);
        assert_eq!(batch.positives, [[1, 0], [1, 2], [7, 2]]);
        assert_eq!(batch.token_buckets, [2, 4, 9]);
        assert_eq!(batch.documents, [2, 1, 0]);
        assert_eq!(batch.tokens(), 5);
        let whole = MicroBatch {
            first_row: 0,
            longest: 3,
            tokens: vec![2, 9, 4, 2, 4],
            offsets: vec![0, 2, 2, 5],
            bucket_offsets: vec![0, 2, 4, 5],
            bucket_positions: vec![0, 3, 2, 4, 1],
            bucket_rows: vec![0, 2, 2, 2, 0],
        };
        assert_eq!(batch.micro_batches, [whole]);
        let none = Batch::assemble(&split(), &[1], 1);
        let [micro] = &none.micro_batches[..] else { panic!("{none:?}") };
        assert_eq!((none.len(), &micro.offsets[..], &micro.bucket_offsets[..]), (1, &[0, 0][..], &[0][..]));
    }

    #[test]
    fn a_cluster_counts_once_in_a_row() {
        let mut batch = Batch::assemble(&split(), &[3, 0], 8);
        assert_eq!(batch.positives, [[0, 0], [1, 0], [1, 1], [2, 0], [7, 1]]);
        assert_eq!(batch.cluster_positives, None);
        batch.find_clusters(&LabelClusters::new(vec![2, 0, 2, 1, 1, 1, 1, 0]).unwrap());
        assert_eq!(batch.cluster_positives, Some(vec![[0, 0], [0, 1], [2, 0]]));
    }

    #[test]
    fn micro_batches_share_the_distinct_tokens() {
        let batch = Batch::assemble(&split(), &[0, 2, 3], 2);
        assert_eq!(batch.token_buckets, [2, 4, 5, 9]);
        assert_eq!(batch.positives, [[0, 2], [1, 0], [1, 1], [1, 2], [2, 2], [7, 0]]);
        let [first, last] = &batch.micro_batches[..] else { panic!("{batch:?}") };
        assert_eq!((first.first_row, first.len(), first.longest), (0, 2, 3));
        assert_eq!((&first.tokens[..], &first.offsets[..]), (&[4, 2, 4, 2, 9][..], &[0, 3, 5][..]));
        assert_eq!(first.bucket_offsets, [0, 2, 4, 4, 5]);
        assert_eq!(first.bucket_positions, [1, 3, 0, 2, 4]);
        assert_eq!(first.bucket_rows, [0, 1, 0, 0, 1]);
        assert_eq!((last.first_row, last.len(), last.longest), (2, 1, 6));
        assert_eq!(last.bucket_offsets, [0, 0, 0, 6, 6]);
        assert_eq!(last.bucket_positions, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn bounds_are_those_of_the_largest_documents() {
        assert_eq!(max_sizes(&split(), 1), MaxSizes { tokens: 6, positives: 3 });
        assert_eq!(max_sizes(&split(), 2), MaxSizes { tokens: 9, positives: 5 });
        assert_eq!(max_sizes(&split(), 9), MaxSizes { tokens: 11, positives: 6 });
        assert_eq!(max_sizes(&Split::empty(), 4), MaxSizes { tokens: 0, positives: 0 });
    }
}
