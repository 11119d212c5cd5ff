//! Labels as sparse vectors: what the texts of their documents have in common.

use std::ops::Range;

use rayon::prelude::*;

use super::term_sums::TermSums;
use super::term_weights::TermWeights;
use super::{ClusterProgress, ClusterStage};
use crate::data::split::Split;

/// Labels whose vectors are made by one task.
const BLOCK: usize = 1024;
/// Blocks between two reports of progress.
const BLOCKS_AT_ONCE: usize = 32;

/// A vector for each of L labels: the row of Yᵀ·X, with X the TF-IDF vectors of the training documents, cut to its
/// largest terms and scaled to length 1 (SPARTEX's clusters come from LightXML and AttentionXML, which do the same
/// without the cut). A label without training documents, or whose documents say nothing, has an empty vector.
pub struct LabelVectors {
    blocks: Vec<Block>,
    labels: usize,
    terms: usize,
}

/// The vectors of [`BLOCK`] labels, one after the other.
struct Block {
    /// Where each vector ends.
    ends: Vec<u32>,
    terms: Vec<u32>,
    weights: Vec<f32>,
}

impl LabelVectors {
    /// Terms that a vector keeps where nobody says otherwise. A label of a few documents has fewer; of a frequent one
    /// the terms beyond have a few percent of the weight, but would take memory without bound.
    pub const MAX_TERMS: usize = 256;

    /// The vectors of `labels` labels from a split's tokens and labels, each of at most `max_terms` terms.
    ///
    /// Takes [`LabelVectors::planned_bytes`] and, while it works, 4 bytes for each (document, label) pair and document.
    #[must_use]
    pub fn of_split(
        split: &Split,
        labels: usize,
        max_terms: usize,
        progress: &mut dyn FnMut(ClusterProgress),
    ) -> Self {
        let total = labels as u64;
        progress(ClusterProgress { stage: ClusterStage::LabelVectors, done: 0, total });
        let weights = TermWeights::of_split(split);
        let lists = DocumentLists::of_split(split, labels);
        let mut blocks = Vec::with_capacity(labels.div_ceil(BLOCK));
        let starts: Vec<usize> = (0..labels).step_by(BLOCK).collect();
        for starts in starts.chunks(BLOCKS_AT_ONCE) {
            blocks.par_extend(starts.par_iter().map(|&start| {
                Block::new(split, &weights, &lists, start..(start + BLOCK).min(labels), max_terms)
            }));
            let done = (blocks.len() * BLOCK).min(labels) as u64;
            progress(ClusterProgress { stage: ClusterStage::LabelVectors, done, total });
        }
        Self { blocks, labels, terms: weights.idf.len() }
    }

    /// The most bytes that the vectors of a split can take: 8 for each of a label's terms, which are no more than
    /// `max_terms` and no more than its documents have tokens.
    #[must_use]
    pub fn planned_bytes(split: &Split, labels: usize, max_terms: usize) -> u64 {
        let mut tokens = vec![0_usize; labels];
        for document in 0..split.len() {
            let count = split.tokens(document).len();
            split.labels(document).iter().for_each(|label| tokens[*label as usize] += count);
        }
        tokens.into_iter().map(|count| 8 * count.min(max_terms) as u64).sum::<u64>() + 4 * labels as u64
    }

    /// The number of labels, L.
    #[must_use]
    pub fn labels(&self) -> usize {
        self.labels
    }

    /// Terms and weights of a label, by ascending term.
    ///
    /// # Panics
    /// If `label` is L or more.
    #[must_use]
    pub fn of_label(&self, label: u32) -> (&[u32], &[f32]) {
        let (block, row) = (&self.blocks[label as usize / BLOCK], label as usize % BLOCK);
        let start = if row == 0 { 0 } else { block.ends[row - 1] as usize };
        let range = start..block.ends[row] as usize;
        (&block.terms[range.clone()], &block.weights[range])
    }

    /// Whether a label has no term.
    #[must_use]
    pub fn is_empty(&self, label: u32) -> bool {
        self.of_label(label).0.is_empty()
    }

    /// Zero sums over all terms.
    pub(super) fn sums<const K: usize>(&self) -> TermSums<K> {
        TermSums::new(self.terms)
    }
}

impl Block {
    fn new(
        split: &Split,
        weights: &TermWeights,
        lists: &DocumentLists,
        labels: Range<usize>,
        max_terms: usize,
    ) -> Self {
        let mut block =
            Self { ends: Vec::with_capacity(labels.len()), terms: Vec::new(), weights: Vec::new() };
        let mut sums = TermSums::<1>::new(weights.idf.len());
        for label in labels {
            for &document in lists.of(label) {
                let scale = weights.scale[document as usize];
                for &term in split.tokens(document as usize) {
                    // A token counts each time it occurs: that is its tf.
                    let weight = weights.idf[term as usize] * scale;
                    if weight > 0.0 {
                        sums.add(0, term, weight);
                    }
                }
            }
            block.push(&mut sums, max_terms);
        }
        block.terms.shrink_to_fit();
        block.weights.shrink_to_fit();
        block
    }

    /// Adds the largest entries of the sum as a vector of length 1, and clears the sum.
    fn push(&mut self, sums: &mut TermSums<1>, max_terms: usize) {
        let mut entries: Vec<(u32, f32)> = sums.entries().map(|(term, [weight])| (term, weight)).collect();
        sums.clear();
        if entries.len() > max_terms {
            entries.select_nth_unstable_by(max_terms, |a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            entries.truncate(max_terms);
        }
        entries.sort_unstable_by_key(|(term, _)| *term);
        let length = entries.iter().map(|(_, weight)| f64::from(*weight).powi(2)).sum::<f64>().sqrt();
        for (term, weight) in entries {
            self.terms.push(term);
            self.weights.push((f64::from(weight) / length) as f32);
        }
        self.ends.push(self.terms.len() as u32);
    }
}

/// The documents of each label, ascending: the transposed label matrix.
struct DocumentLists {
    documents: Vec<u32>,
    /// Where each label's documents begin. \[L + 1\]
    starts: Vec<u64>,
}

impl DocumentLists {
    fn of_split(split: &Split, labels: usize) -> Self {
        let mut starts = vec![0_u64; labels + 1];
        for label in (0..split.len()).flat_map(|document| split.labels(document)) {
            starts[*label as usize + 1] += 1;
        }
        (0..labels).for_each(|label| starts[label + 1] += starts[label]);
        let mut documents = vec![0; starts[labels] as usize];
        let mut next = starts.clone();
        for document in 0..split.len() {
            for &label in split.labels(document) {
                documents[next[label as usize] as usize] = document as u32;
                next[label as usize] += 1;
            }
        }
        Self { documents, starts }
    }

    fn of(&self, label: usize) -> &[u32] {
        &self.documents[self.starts[label] as usize..self.starts[label + 1] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documents of [`TermWeights`]' test with two labels: label 0 has the first two, label 1 the third, which
    /// says nothing, label 2 none.
    fn split() -> Split {
        Split::from_documents([(vec![0, 1, 2, 1], [0]), (vec![3, 0, 1], [0]), (vec![0], [1])])
    }

    #[test]
    fn a_label_by_hand() {
        let vectors = LabelVectors::of_split(&split(), 3, 9, &mut |_| {});
        // (2·ln 1.5, ln 3)/1.365488 + (ln 1.5, ln 3)/1.171047 over terms 1, 2, 3: 0.940117, 0.804557, 0.938145; the
        // length of that is 1.552820.
        let (terms, weights) = vectors.of_label(0);
        assert_eq!(terms, [1, 2, 3]);
        for (got, want) in weights.iter().zip([0.605_426, 0.518_126, 0.604_156]) {
            assert!((got - want).abs() < 2e-6, "{weights:?}");
        }
        assert!(vectors.is_empty(1) && vectors.is_empty(2));
        assert_eq!(vectors.labels(), 3);
    }

    #[test]
    fn the_largest_terms_are_kept() {
        let vectors = LabelVectors::of_split(&split(), 3, 2, &mut |_| {});
        let (terms, weights) = vectors.of_label(0);
        assert_eq!(terms, [1, 3]);
        // 0.940117 and 0.938145 over their length 1.328133.
        assert!(
            (weights[0] - 0.707_849).abs() < 2e-6 && (weights[1] - 0.706_364).abs() < 2e-6,
            "{weights:?}"
        );
        // Two of label 0's seven tokens, one token of label 1.
        assert_eq!(LabelVectors::planned_bytes(&split(), 3, 2), 8 * (2 + 1) + 4 * 3);
    }
}
