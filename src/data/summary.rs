//! What was read: counts that a person checks before training.

use serde::{Deserialize, Serialize};

use super::layout::Layout;

/// Counts of one split.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitSummary {
    /// Documents.
    pub documents: u64,
    /// Those at the end that are the labels' texts (`data.augment`).
    #[serde(default)]
    pub label_texts: u64,
    /// Tokens after truncation.
    pub tokens: u64,
    /// Tokens that are the unknown token.
    pub unknown_tokens: u64,
    /// Tokens of the longest document.
    pub longest: u64,
    /// Documents that were cut at `max_tokens`.
    pub truncated: u64,
    /// Documents whose text is empty.
    pub empty_texts: u64,
    /// Documents without any label.
    pub without_labels: u64,
    /// (document, label) pairs, duplicates merged.
    pub positives: u64,
    /// Labels that stood more than once in a document and were merged.
    pub duplicate_labels: u64,
}

impl SplitSummary {
    /// Share of tokens that are the unknown token, from 0 to 1.
    #[must_use]
    pub fn unknown_share(&self) -> f64 {
        self.unknown_tokens as f64 / self.tokens.max(1) as f64
    }

    /// Mean number of labels of a document.
    #[must_use]
    pub fn labels_per_document(&self) -> f64 {
        self.positives as f64 / self.documents.max(1) as f64
    }
}

/// Counts of a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// How the folder is laid out.
    pub layout: Layout,
    /// The training split, if it was read.
    pub train: Option<SplitSummary>,
    /// The dev split, if it is there and was read.
    pub dev: Option<SplitSummary>,
    /// The test split, if it is there and was read.
    pub test: Option<SplitSummary>,
    /// Labels in the label map, L.
    pub labels: u64,
    /// Labels that occur in train.
    pub labels_in_train: u64,
    /// Labels that occur in dev or test but not in train.
    pub labels_only_elsewhere: u64,
    /// Labels without a document in any split that was read (columns of a matrix, or labels of a model).
    pub labels_unused: u64,
    /// Labels of the data that the given label map did not have; they have the highest ids.
    pub labels_added: u64,
    /// Rows of the tokenizer's vocabulary.
    pub vocabulary: u64,
    /// (test row, label) pairs to leave out of the evaluation.
    pub filter_pairs: u64,
}
