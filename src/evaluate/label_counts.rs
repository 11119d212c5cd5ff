//! What happened to each label: how often it was true, named, and named rightly. Macro averages and coverage come from
//! these counts.
//!
//! For label l and rank k: tp hits among the first k ranks of all documents, n times named there, m documents that have
//! the label.
//!
//! ```text
//! macroP@k   mean over labels of tp / n            macroF1@k   mean over labels of 2 tp / (n + m)
//! macroR@k   mean over labels of tp / m            coverage@k  share of the labels with m > 0 that have tp > 0
//! ```
//!
//! Means are over **all** labels, and 0 / 0 counts as 0 (Schultheis et al., "Generalized test utilities for long-tail
//! performance in extreme multi-label classification", NeurIPS 2023): a label that is never named, or that no document
//! has, lowers them.

use super::metrics::{PerReported, REPORTED};

/// Labels of a page.
const PAGE: usize = 64;

/// Counts of every label, at most 28 bytes each, whatever the number of documents: labels lie in pages of 64, and a page
/// is there once a label of it was met.
#[derive(Clone, Debug, Default)]
pub struct LabelCounts {
    labels: usize,
    pages: Vec<Option<Box<[LabelCount; PAGE]>>>,
}

/// Counts of one label; entries of arrays belong to the ranks in [`REPORTED`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LabelCount {
    /// Documents that have the label.
    pub positives: u32,
    /// Documents that name it among the first k.
    pub predicted: [u32; REPORTED.len()],
    /// Documents that have it and name it among the first k.
    pub hits: [u32; REPORTED.len()],
}

impl LabelCount {
    /// Precision, recall and F1 at rank `REPORTED[at]`; 0 / 0 is 0.
    #[must_use]
    pub fn scores(&self, at: usize) -> [f64; 3] {
        let ratio = |a: f64, b: u32| if b == 0 { 0.0 } else { a / f64::from(b) };
        let (hits, predicted) = (f64::from(self.hits[at]), self.predicted[at]);
        let both = predicted + self.positives;
        [ratio(hits, predicted), ratio(hits, self.positives), ratio(2.0 * hits, both)]
    }
}

impl LabelCounts {
    /// Zeros for `labels` labels; labels beyond are added when they are met.
    #[must_use]
    pub fn new(labels: usize) -> Self {
        Self { labels, pages: vec![None; labels.div_ceil(PAGE)] }
    }

    /// Most bytes that the counts of `labels` labels take once `met` (document, label) pairs were true or named.
    #[must_use]
    pub fn planned_bytes(labels: usize, met: usize) -> u64 {
        let pages = labels.div_ceil(PAGE);
        (pages * size_of::<Option<Box<()>>>() + pages.min(met) * size_of::<[LabelCount; PAGE]>()) as u64
    }

    /// Counts one document: `ranked` best first, `truth` ascending.
    pub(super) fn add(&mut self, ranked: &[u32], truth: &[u32]) {
        truth.iter().for_each(|label| self.at(*label).positives += 1);
        for (rank, label) in ranked.iter().take(REPORTED[REPORTED.len() - 1]).enumerate() {
            let hit = u32::from(truth.binary_search(label).is_ok());
            let count = self.at(*label);
            for (slot, _) in REPORTED.iter().enumerate().filter(|(_, k)| rank < **k) {
                count.predicted[slot] += 1;
                count.hits[slot] += hit;
            }
        }
    }

    fn at(&mut self, label: u32) -> &mut LabelCount {
        let place = label as usize;
        self.labels = self.labels.max(place + 1);
        if place / PAGE >= self.pages.len() {
            self.pages.resize(place / PAGE + 1, None);
        }
        let page = self.pages[place / PAGE].get_or_insert_with(|| Box::new([LabelCount::default(); PAGE]));
        &mut page[place % PAGE]
    }

    /// Labels, L.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels
    }

    /// Whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels == 0
    }

    /// The counts of a label; zeros for one beyond L.
    #[must_use]
    pub fn of(&self, label: usize) -> LabelCount {
        let page = self.pages.get(label / PAGE).and_then(|page| page.as_ref());
        page.map_or_else(LabelCount::default, |page| page[label % PAGE])
    }

    /// The counts by label. \[L\]
    pub fn iter(&self) -> impl Iterator<Item = LabelCount> + Clone {
        (0..self.labels).map(|label| self.of(label))
    }
}

/// Averages over a set of labels, as fractions; entries of arrays belong to the ranks in [`REPORTED`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelAverages {
    /// Labels of the set.
    pub labels: u64,
    /// Labels of the set that a document has.
    pub tested: u64,
    /// macroP@k.
    pub precision: PerReported,
    /// macroR@k.
    pub recall: PerReported,
    /// macroF1@k.
    pub f1: PerReported,
    /// coverage@k.
    pub coverage: PerReported,
}

impl LabelAverages {
    /// Of these labels; all 0 where there are none.
    #[must_use]
    pub fn of(counts: impl Iterator<Item = LabelCount>) -> Self {
        let mut sums = Self::default();
        for count in counts {
            sums.labels += 1;
            sums.tested += u64::from(count.positives > 0);
            for at in 0..REPORTED.len() {
                let [precision, recall, f1] = count.scores(at);
                sums.precision[at] += precision;
                sums.recall[at] += recall;
                sums.f1[at] += f1;
                sums.coverage[at] += f64::from(u8::from(count.hits[at] > 0));
            }
        }
        let mean = |sum: PerReported, of: u64| sum.map(|sum| if of == 0 { 0.0 } else { sum / of as f64 });
        Self {
            precision: mean(sums.precision, sums.labels),
            recall: mean(sums.recall, sums.labels),
            f1: mean(sums.f1, sums.labels),
            coverage: mean(sums.coverage, sums.tested),
            ..sums
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Labels 0 to 3; label 3 is in no document and never named. Three documents:
    /// truth {0, 1}, ranked 0, 2, 1: label 0 hit at 1, label 1 at 3;
    /// truth {0}, ranked 1, 0: label 0 hit at 2;
    /// truth {}, ranked 2: named in vain.
    fn counts() -> LabelCounts {
        let mut counts = LabelCounts::new(4);
        counts.add(&[0, 2, 1], &[0, 1]);
        counts.add(&[1, 0], &[0]);
        counts.add(&[2], &[]);
        counts
    }

    #[test]
    fn counts_by_hand() {
        let counts = counts();
        let of: Vec<LabelCount> = counts.iter().collect();
        assert_eq!(of[0], LabelCount { positives: 2, predicted: [1, 2, 2], hits: [1, 2, 2] });
        assert_eq!(of[1], LabelCount { positives: 1, predicted: [1, 2, 2], hits: [0, 1, 1] });
        assert_eq!(of[2], LabelCount { positives: 0, predicted: [1, 2, 2], hits: [0, 0, 0] });
        assert_eq!(of[3], LabelCount::default());
        assert_eq!(of[0].scores(0), [1.0, 0.5, 2.0 / 3.0]);
        assert_eq!(of[3].scores(2), [0.0; 3]);
    }

    #[test]
    fn averages_by_hand() {
        let averages = LabelAverages::of(counts().iter());
        assert_eq!((averages.labels, averages.tested), (4, 2));
        // At 1: precision 1, 0, 0, 0; recall 1/2, 0, 0, 0; F1 2/3, 0, 0, 0. At 3: 1, 1/2, 0, 0; 1, 1, 0, 0; 1, 2/3, 0, 0.
        assert_eq!(averages.precision, [1.0 / 4.0, 1.5 / 4.0, 1.5 / 4.0]);
        assert_eq!(averages.recall, [0.5 / 4.0, 2.0 / 4.0, 2.0 / 4.0]);
        assert_eq!(averages.f1, [(2.0 / 3.0) / 4.0, (1.0 + 2.0 / 3.0) / 4.0, (1.0 + 2.0 / 3.0) / 4.0]);
        assert_eq!(averages.coverage, [0.5, 1.0, 1.0]);
        assert_eq!(LabelAverages::of([].into_iter()), LabelAverages::default());
    }

    #[test]
    fn a_label_beyond_the_list_is_counted() {
        let mut counts = LabelCounts::new(1);
        counts.add(&[0], &[5]);
        counts.add(&[], &[200]);
        assert_eq!((counts.len(), counts.iter().count()), (201, 201));
        assert_eq!([4, 5, 200, 201].map(|label| counts.of(label).positives), [0, 1, 1, 0]);
        assert_eq!(LabelAverages::of(counts.iter()).tested, 2);
    }

    /// A page has 64 labels of seven u32, and a pointer.
    #[test]
    fn pages_are_counted() {
        assert_eq!(LabelCounts::planned_bytes(1000, 3), 16 * 8 + 3 * 64 * 28);
        assert_eq!(LabelCounts::planned_bytes(1000, 5000), 16 * 8 + 16 * 64 * 28);
    }
}
