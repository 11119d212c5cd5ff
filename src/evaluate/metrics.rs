//! The metrics of extreme classification, with the conventions of `pyxclib`'s `xc_metrics`.
//!
//! n is the number of true labels of a document, hit_j is 1 if the j-th ranked label is true, p_j its inverse
//! propensity, I(m) = Σ_{j≤m} 1/log2(j+1):
//!
//! ```text
//! P@k     mean of Σ_{j≤k} hit_j / k                          hits@k  mean of [any hit among the first k]
//! nDCG@k  mean of Σ_{j≤k} hit_j / log2(j+1) / I(min(k, n))   R@k     mean of Σ_{j≤k} hit_j / n
//! PSP@k     Σ Σ_{j≤k} hit_j p_j                              over the same sum of the best possible ranking
//! PSnDCG@k  Σ Σ_{j≤k} hit_j p_j / log2(j+1) / I(min(k, n))   likewise
//! PSR@k     Σ Σ_{j≤k} hit_j p_j / n                          likewise
//! ```
//!
//! Means are over **all** documents: one without labels counts as 0, a missing prediction is a miss, and P divides
//! by k also where a document has fewer labels. The propensity-scored ones are ratios of sums, not means of ratios.

use std::sync::Arc;

use super::label_counts::{LabelAverages, LabelCounts};
use super::propensity::Propensities;
use super::slices::Slice;

/// Rankings are judged at 1 to `DEPTH`.
pub const DEPTH: usize = 5;

/// One value for each k from 1 to [`DEPTH`].
type PerK = [f64; DEPTH];

/// The k that are reported.
pub const REPORTED: [usize; 3] = [1, 3, 5];

/// One value for each k in [`REPORTED`].
pub type PerReported = [f64; REPORTED.len()];

/// Sums over documents, from which [`Metrics`] are made: create, [`add`](Ranking::add) every document,
/// [`finish`](Ranking::finish).
///
/// ```
/// use regrow::evaluate::Ranking;
///
/// let mut ranking = Ranking::new(vec![1.0; 10], 1.0);
/// ranking.add(&[3, 1, 4], &[1, 3, 5]); // two of three right
/// ranking.add(&[7], &[2]); // wrong
/// let metrics = ranking.finish();
/// assert_eq!(metrics.precision[0], 0.5);
/// assert_eq!(metrics.recall[2], (2.0 / 3.0 + 0.0) / 2.0);
/// ```
#[derive(Clone, Debug)]
pub struct Ranking {
    weights: Weights,
    documents: u64,
    documents_without_labels: u64,
    precision: PerK,
    ndcg: PerK,
    recall: PerK,
    hits: PerK,
    scored: Scored,
    ideal: Scored,
    counts: LabelCounts,
    train_frequency: Option<Arc<[u32]>>,
}

/// The inverse propensity of each label.
#[derive(Clone, Debug)]
enum Weights {
    /// Listed, and that of any label beyond the list.
    Listed(Vec<f64>, f64),
    /// By training frequency.
    ByFrequency(Arc<[u32]>, Propensities),
}

/// The propensity-scored sums of one ranking.
#[derive(Clone, Debug, Default)]
struct Scored {
    gain: PerK,
    discounted: PerK,
    per_label: PerK,
}

impl Scored {
    /// Adds a document whose first ranks earn `gains` (0 for a miss) and that has `truths` > 0 true labels.
    fn add(&mut self, gains: &PerK, truths: usize) {
        let (mut gain, mut discounted) = (0.0, 0.0);
        for (j, &earned) in gains.iter().enumerate() {
            gain += earned;
            discounted += earned * discount(j);
            self.gain[j] += gain;
            self.discounted[j] += discounted / ideal_discount((j + 1).min(truths));
            self.per_label[j] += gain / truths as f64;
        }
    }
}

/// 1 / log2(j + 1) for rank j, here counted from 0.
fn discount(rank: usize) -> f64 {
    1.0 / ((rank + 2) as f64).log2()
}

/// I(m): the discounts of the first m ranks together.
fn ideal_discount(m: usize) -> f64 {
    (0..m).map(discount).sum()
}

/// `a / b`, and 0 for nothing out of nothing.
fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}

impl Ranking {
    /// Starts with no document. `inverse_propensity[l]` is that of label l
    /// ([`inverse_propensities`](super::inverse_propensities)); `unseen` that of any id beyond the list, for true
    /// labels that training never saw.
    #[must_use]
    pub fn new(inverse_propensity: Vec<f64>, unseen: f64) -> Self {
        let labels = inverse_propensity.len();
        Self::with_weights(Weights::Listed(inverse_propensity, unseen), labels)
    }

    /// Starts with no document. The propensities follow from the labels' training frequencies, by which there are slices
    /// too; labels beyond the list were never trained. Takes no memory for itself. \[L\]
    #[must_use]
    pub fn by_frequency(train_frequency: Arc<[u32]>, propensities: Propensities) -> Self {
        let labels = train_frequency.len();
        let weights = Weights::ByFrequency(Arc::clone(&train_frequency), propensities);
        Self { train_frequency: Some(train_frequency), ..Self::with_weights(weights, labels) }
    }

    fn with_weights(weights: Weights, labels: usize) -> Self {
        Self {
            counts: LabelCounts::new(labels),
            train_frequency: None,
            weights,
            documents: 0,
            documents_without_labels: 0,
            precision: PerK::default(),
            ndcg: PerK::default(),
            recall: PerK::default(),
            hits: PerK::default(),
            scored: Scored::default(),
            ideal: Scored::default(),
        }
    }

    /// With slices by these training frequencies; labels beyond the list were never trained. \[L\]
    #[must_use]
    pub fn with_slices(self, train_frequency: Vec<u32>) -> Self {
        Self { train_frequency: Some(train_frequency.into()), ..self }
    }

    /// What happened to each label so far.
    #[must_use]
    pub fn label_counts(&self) -> &LabelCounts {
        &self.counts
    }

    /// Judges one document: `ranked` are label ids, best first, of which the first [`DEPTH`] count (there may be
    /// fewer); `truth` are its true labels, ascending and without repetition.
    pub fn add(&mut self, ranked: &[u32], truth: &[u32]) {
        debug_assert!(truth.is_sorted_by(|a, b| a < b), "true labels must be ascending and unique");
        self.documents += 1;
        self.counts.add(ranked, truth);
        if truth.is_empty() {
            self.documents_without_labels += 1;
            return; // counts as 0 everywhere
        }
        let mut earned = PerK::default();
        let (mut hits, mut discounted) = (0.0, 0.0);
        for (j, earned) in earned.iter_mut().enumerate() {
            if let Some(&label) = ranked.get(j)
                && truth.binary_search(&label).is_ok()
            {
                hits += 1.0;
                discounted += discount(j);
                *earned = self.weight(label);
            }
            self.precision[j] += hits / (j + 1) as f64;
            self.ndcg[j] += discounted / ideal_discount((j + 1).min(truth.len()));
            self.recall[j] += hits / truth.len() as f64;
            self.hits[j] += f64::from(u8::from(hits > 0.0));
        }
        self.scored.add(&earned, truth.len());
        let best = self.best_gains(truth);
        self.ideal.add(&best, truth.len());
    }

    /// The means over everything added; all 0 if nothing was.
    #[must_use]
    pub fn finish(&self) -> Metrics {
        let mean = |sums: &PerK| sums.map(|sum| ratio(sum, self.documents as f64));
        let share = |sums: &PerK, ideal: &PerK| std::array::from_fn(|j| ratio(sums[j], ideal[j]));
        Metrics {
            documents: self.documents,
            documents_without_labels: self.documents_without_labels,
            precision: mean(&self.precision),
            ndcg: mean(&self.ndcg),
            recall: mean(&self.recall),
            hits: mean(&self.hits),
            psp: share(&self.scored.gain, &self.ideal.gain),
            psndcg: share(&self.scored.discounted, &self.ideal.discounted),
            psr: share(&self.scored.per_label, &self.ideal.per_label),
            by_label: LabelAverages::of(self.counts.iter()),
            slices: self
                .train_frequency
                .as_ref()
                .map(|frequency| Slice::all(&self.counts, frequency, self.documents)),
        }
    }

    fn weight(&self, label: u32) -> f64 {
        match &self.weights {
            Weights::Listed(inverse, unseen) => inverse.get(label as usize).copied().unwrap_or(*unseen),
            Weights::ByFrequency(frequency, propensities) => {
                propensities.inverse(frequency.get(label as usize).copied().unwrap_or(0))
            }
        }
    }

    /// The greatest weights among the true labels, falling: what the best possible ranking earns.
    fn best_gains(&self, truth: &[u32]) -> PerK {
        let mut best = PerK::default();
        for &label in truth {
            let mut carried = self.weight(label);
            for slot in &mut best {
                if carried > *slot {
                    std::mem::swap(slot, &mut carried);
                }
            }
        }
        best
    }
}

/// The metrics of a set of documents, as fractions; index k − 1 holds the value at k.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Documents judged.
    pub documents: u64,
    /// Of these, how many have no true label; they count as 0 in every mean.
    pub documents_without_labels: u64,
    /// P@k.
    pub precision: [f64; DEPTH],
    /// nDCG@k.
    pub ndcg: [f64; DEPTH],
    /// R@k.
    pub recall: [f64; DEPTH],
    /// hits@k: the share of documents with a hit among the first k.
    pub hits: [f64; DEPTH],
    /// PSP@k.
    pub psp: [f64; DEPTH],
    /// PSnDCG@k.
    pub psndcg: [f64; DEPTH],
    /// PSR@k.
    pub psr: [f64; DEPTH],
    /// Macro averages and coverage over all labels.
    pub by_label: LabelAverages,
    /// Head, torso and tail, where training frequencies are known.
    pub slices: Option<[Slice; 3]>,
}

#[cfg(test)]
mod tests {
    use super::{LabelAverages, Metrics, Ranking};

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    /// Two documents worked out on paper. Weights of labels 0..4: 1, 2, 3, 4; beyond: 10.
    ///
    /// First: truth {0, 2}, ranked 2, 1, 0: hits at 1 and 3. Second: truth {9}, ranked 1, 9: a hit at 2.
    #[test]
    fn two_documents_by_hand() {
        let mut ranking = Ranking::new(vec![1.0, 2.0, 3.0, 4.0], 10.0);
        ranking.add(&[2, 1, 0], &[0, 2]);
        ranking.add(&[1, 9], &[9]);
        let got = ranking.finish();

        let (d2, d3) = (1.0 / 3f64.log2(), 0.5);
        near(got.precision[0], (1.0 + 0.0) / 2.0);
        near(got.precision[2], (2.0 / 3.0 + 1.0 / 3.0) / 2.0);
        near(got.precision[4], (2.0 / 5.0 + 1.0 / 5.0) / 2.0);
        near(got.ndcg[0], 0.5);
        near(got.ndcg[2], ((1.0 + d3) / (1.0 + d2) + d2 / 1.0) / 2.0);
        near(got.recall[0], (0.5 + 0.0) / 2.0);
        near(got.recall[2], 1.0);
        near(got.hits[0], 0.5);
        near(got.hits[1], 1.0);
        // earned: 3, then 3 + 1 and 10; possible at 1: 3 + 10, at 3: 4 + 10
        near(got.psp[0], 3.0 / 13.0);
        near(got.psp[1], 13.0 / 14.0);
        near(got.psp[2], 1.0);
        near(got.psndcg[2], ((3.0 + d3) / (1.0 + d2) + 10.0 * d2) / ((3.0 + d2) / (1.0 + d2) + 10.0));
        near(got.psr[0], (3.0 / 2.0) / (3.0 / 2.0 + 10.0));
    }

    #[test]
    fn nothing_is_zero() {
        assert_eq!(Ranking::new(Vec::new(), 1.0).finish(), Metrics::default());
        let mut ranking = Ranking::new(Vec::new(), 1.0);
        ranking.add(&[], &[]);
        ranking.add(&[1, 2, 3, 4, 5, 6, 7], &[]);
        // Labels 0 to 5 are known by now, and five of them were named in vain.
        let by_label = LabelAverages { labels: 6, ..LabelAverages::default() };
        let expected = Metrics { documents: 2, documents_without_labels: 2, by_label, ..Metrics::default() };
        assert_eq!(ranking.finish(), expected);
    }

    #[test]
    fn only_the_first_five_count() {
        let mut ranking = Ranking::new(Vec::new(), 1.0);
        ranking.add(&[10, 11, 12, 13, 14, 1], &[1]);
        assert_eq!(ranking.finish().hits[4], 0.0);
    }
}
