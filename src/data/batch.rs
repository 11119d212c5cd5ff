//! Batches: the order of an epoch, and the packed documents of one step.

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

/// B documents with T tokens in all, packed without padding, ready for the device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Document numbers in the split (or in the list of texts). \[B\]
    pub documents: Vec<u32>,
    /// Token ids, document after document. \[T\]
    pub tokens: Vec<u32>,
    /// Where each row's tokens begin. \[B + 1\]
    pub offsets: Vec<u32>,
    /// (label, row) of each true label, sorted by label, then row: a block of labels finds its own in one run.
    pub positives: Vec<[u32; 2]>,
    /// The distinct token ids, ascending. \[U\]
    pub token_buckets: Vec<u32>,
    /// Where the rows of each distinct token begin in `bucket_rows`. \[U + 1\]
    pub bucket_offsets: Vec<u32>,
    /// The row of each occurrence, by token, then ascending. \[T\]
    pub bucket_rows: Vec<u32>,
}

impl Batch {
    /// The documents of `split` with these numbers, in this order.
    ///
    /// # Panics
    /// If a number is not in the split.
    #[must_use]
    pub fn assemble(split: &Split, documents: &[u32]) -> Self {
        let mut batch = Self::from_token_lists(documents.iter().map(|&d| split.tokens(d as usize)));
        batch.documents.clear();
        batch.documents.extend_from_slice(documents);
        for (row, &document) in documents.iter().enumerate() {
            batch.positives.extend(split.labels(document as usize).iter().map(|&label| [label, row as u32]));
        }
        batch.positives.sort_unstable();
        batch
    }

    /// Texts to be classified: no positives.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn from_texts(tokenizer: &Tokenizer, texts: &[&str]) -> Result<Self> {
        let encoded = texts.iter().map(|text| Ok(tokenizer.encode(text)?.ids)).collect::<Result<Vec<_>>>()?;
        Ok(Self::from_token_lists(encoded.iter().map(Vec::as_slice)))
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

    fn from_token_lists<'a>(lists: impl Iterator<Item = &'a [u32]>) -> Self {
        let mut batch = Self { offsets: vec![0], ..Self::default() };
        // (token, row) in one word each, so that one sort groups by token and keeps rows ascending.
        let mut occurrences: Vec<u64> = Vec::new();
        for (row, list) in lists.enumerate() {
            batch.documents.push(row as u32);
            batch.tokens.extend_from_slice(list);
            batch.offsets.push(batch.tokens.len() as u32);
            occurrences.extend(list.iter().map(|&token| u64::from(token) << 32 | row as u64));
        }
        occurrences.sort_unstable();
        for (i, occurrence) in occurrences.iter().enumerate() {
            let token = (occurrence >> 32) as u32;
            if batch.token_buckets.last() != Some(&token) {
                batch.token_buckets.push(token);
                batch.bucket_offsets.push(i as u32);
            }
            batch.bucket_rows.push(*occurrence as u32);
        }
        batch.bucket_offsets.push(occurrences.len() as u32);
        batch
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
    let largest = |offsets: &[u64]| {
        let mut lengths: Vec<u64> = offsets.windows(2).map(|w| w[1] - w[0]).collect();
        if batch_size < lengths.len() && batch_size > 0 {
            lengths.select_nth_unstable_by(batch_size - 1, |a, b| b.cmp(a));
        }
        lengths.iter().take(batch_size).sum::<u64>() as usize
    };
    MaxSizes { tokens: largest(split.token_offsets()), positives: largest(split.label_offsets()) }
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
        let batch = Batch::assemble(&split(), &[2, 1, 0]);
        assert_eq!(batch.tokens, [2, 9, 4, 2, 4]);
        assert_eq!(batch.offsets, [0, 2, 2, 5]);
        assert_eq!(batch.positives, [[1, 0], [1, 2], [7, 2]]);
        assert_eq!(batch.token_buckets, [2, 4, 9]);
        assert_eq!(batch.bucket_offsets, [0, 2, 4, 5]);
        assert_eq!(batch.bucket_rows, [0, 2, 2, 2, 0]);
        assert_eq!(batch.documents, [2, 1, 0]);
        let none = Batch::assemble(&split(), &[1]);
        assert_eq!((none.len(), none.offsets, none.bucket_offsets), (1, vec![0, 0], vec![0]));
    }

    #[test]
    fn bounds_are_those_of_the_largest_documents() {
        assert_eq!(max_sizes(&split(), 1), MaxSizes { tokens: 6, positives: 3 });
        assert_eq!(max_sizes(&split(), 2), MaxSizes { tokens: 9, positives: 5 });
        assert_eq!(max_sizes(&split(), 9), MaxSizes { tokens: 11, positives: 6 });
        assert_eq!(max_sizes(&Split::empty(), 4), MaxSizes { tokens: 0, positives: 0 });
    }
}
