//! Head, torso and tail: labels by how often training had them, in three parts of equal volume.
//!
//! Labels sorted by falling training frequency are cut where a third and two thirds of all training occurrences are
//! reached, as the equi-voluminous bins of the field's plots. A label is of the head when the labels that are **more
//! frequent** than it make less than a third of the occurrences, of the torso when they make less than two thirds, else
//! of the tail: labels of one frequency are never parted, and the head is not empty. Labels without a training document
//! are always of the tail.

use serde_json::{Value, json};

use super::label_counts::{LabelAverages, LabelCounts};
use super::metrics::{PerReported, REPORTED};

/// The names of the slices, the most frequent labels first.
pub const SLICES: [&str; 3] = ["head", "torso", "tail"];

/// Which slice a label is of, by its training frequency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cuts {
    /// The least frequency of the head and of the torso.
    least: [u32; 2],
}

impl Cuts {
    /// The cuts for these training frequencies. \[L\]
    #[must_use]
    pub fn new(train_frequency: &[u32]) -> Self {
        let mut falling: Vec<u32> = train_frequency.iter().copied().filter(|n| *n > 0).collect();
        falling.sort_unstable_by(|a, b| b.cmp(a));
        let total: u64 = falling.iter().copied().map(u64::from).sum();
        let (mut head, mut torso) = (u32::MAX, u32::MAX);
        let mut before = 0;
        for equal in falling.chunk_by(|a, b| a == b) {
            if 3 * before < total {
                head = equal[0];
            } else if 3 * before < 2 * total {
                torso = equal[0];
            }
            before += u64::from(equal[0]) * equal.len() as u64;
        }
        // A head that reaches into the last third leaves no torso.
        Self { least: [head, torso.min(head)] }
    }

    /// The number of the slice, in the order of [`SLICES`].
    #[must_use]
    pub fn slice(self, train_frequency: u32) -> usize {
        let [head, torso] = self.least;
        if train_frequency >= head { 0 } else { 1 + usize::from(train_frequency < torso) }
    }
}

/// How a slice of the labels fared, as fractions; entries of arrays belong to the ranks in [`REPORTED`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// The least and the greatest training frequency among its labels; none if it has no label.
    pub frequency: Option<[u32; 2]>,
    /// Its (document, label) pairs among all of the split.
    pub positives_share: f64,
    /// What it adds to P@k: its hits over k times all documents. The slices' add up to P@k.
    pub precision: PerReported,
    /// Its hits over its (document, label) pairs.
    pub recall: PerReported,
    /// Averages over its labels.
    pub averages: LabelAverages,
}

impl Slice {
    /// The three slices of what was counted. Labels beyond `train_frequency` have none.
    #[must_use]
    pub fn all(counts: &LabelCounts, train_frequency: &[u32], documents: u64) -> [Self; 3] {
        let cuts = Cuts::new(train_frequency);
        let frequency = |label: usize| train_frequency.get(label).copied().unwrap_or(0);
        let of_all: u64 = counts.iter().map(|count| u64::from(count.positives)).sum();
        std::array::from_fn(|slice| {
            let mine = || {
                let numbered = counts.iter().enumerate();
                numbered.filter(move |(label, _)| cuts.slice(frequency(*label)) == slice)
            };
            let of_slice: u64 = mine().map(|(_, count)| u64::from(count.positives)).sum();
            let hits: [u64; REPORTED.len()] =
                std::array::from_fn(|at| mine().map(|(_, count)| u64::from(count.hits[at])).sum());
            let share = |a: u64, b: u64| if b == 0 { 0.0 } else { a as f64 / b as f64 };
            let range = mine().map(|(label, _)| frequency(label));
            Self {
                frequency: range.clone().min().zip(range.max()).map(|(least, most)| [least, most]),
                positives_share: share(of_slice, of_all),
                precision: std::array::from_fn(|at| share(hits[at], documents * REPORTED[at] as u64)),
                recall: hits.map(|hits| share(hits, of_slice)),
                averages: LabelAverages::of(mine().map(|(_, count)| count)),
            }
        })
    }

    /// Everything, fractions in percent.
    pub(super) fn json(&self) -> Value {
        let mut value = json!({
            "labels": self.averages.labels,
            "labels_with_positives": self.averages.tested,
            "train_frequency": self.frequency,
            "positives_share": 100.0 * self.positives_share,
        });
        let metrics = [
            ("P", self.precision),
            ("R", self.recall),
            ("macroP", self.averages.precision),
            ("macroR", self.averages.recall),
            ("macroF1", self.averages.f1),
            ("coverage", self.averages.coverage),
        ];
        for (name, values) in metrics {
            for (k, number) in REPORTED.into_iter().zip(values) {
                value[format!("{name}@{k}")] = (100.0 * number).into();
            }
        }
        value
    }
}

/// The slices as a table for a terminal, in percent; no newline at the end.
pub(super) fn table(slices: &[Slice; 3]) -> String {
    let columns = |name: &str| REPORTED.map(|k| format!("{:>7}", format!("{name}@{k}"))).concat();
    let mut lines = vec![format!(
        "slice   labels     trained  positives{}  {}  {:>8}  {:>10}",
        columns("P"),
        columns("R"),
        "macroR@5",
        "coverage@5"
    )];
    let numbers = |values: PerReported| values.map(|value| format!("{:>7.2}", 100.0 * value)).concat();
    for (name, slice) in SLICES.into_iter().zip(slices) {
        let trained = slice.frequency.map_or("-".to_owned(), |[least, most]| format!("{least}..{most}"));
        let last = REPORTED.len() - 1;
        lines.push(format!(
            "{name:<5} {:>8} {trained:>11}  {:>9.2}{}  {}  {:>8.2}  {:>10.2}",
            slice.averages.labels,
            100.0 * slice.positives_share,
            numbers(slice.precision),
            numbers(slice.recall),
            100.0 * slice.averages.recall[last],
            100.0 * slice.averages.coverage[last],
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices(frequency: &[u32]) -> Vec<usize> {
        let cuts = Cuts::new(frequency);
        frequency.iter().map(|n| cuts.slice(*n)).collect()
    }

    #[test]
    fn cuts_by_hand() {
        // 30 occurrences: before 10 none, before 6 ten (a third: no longer head), before 5 sixteen, before 4 twenty-one
        // (two thirds are 20).
        assert_eq!(slices(&[10, 6, 5, 4, 3, 1, 1, 0]), [0, 1, 1, 2, 2, 2, 2, 2]);
        // The order of the labels does not matter.
        assert_eq!(slices(&[0, 1, 4, 10, 5, 6, 3, 1]), [2, 2, 2, 0, 1, 1, 2, 2]);
        // Ties stay together: before the fives 9 of 31 occurrences, before the ones 29.
        assert_eq!(slices(&[9, 5, 5, 5, 5, 1, 1]), [0, 0, 0, 0, 0, 2, 2]);
        // One frequency: all are the head. One label above all others: no torso.
        assert_eq!(slices(&[2, 2, 2]), [0, 0, 0]);
        assert_eq!(slices(&[100, 1, 1, 0]), [0, 2, 2, 2]);
        // Never trained: all are the tail.
        assert_eq!(slices(&[0, 0]), [2, 2]);
        assert!(slices(&[]).is_empty());
    }

    /// Frequencies 6, 3, 1, 0: of 10, before 3 six (a third is 3.3, two thirds 6.7): head, torso, tail, tail. Label 4 is
    /// beyond the list: tail. Two documents: truth {0, 1, 4}, ranked 0, 2, 1; truth {2}, ranked 2, 0.
    #[test]
    fn slices_by_hand() {
        let mut counts = LabelCounts::new(4);
        counts.add(&[0, 2, 1], &[0, 1, 4]);
        counts.add(&[2, 0], &[2]);
        let [head, torso, tail] = Slice::all(&counts, &[6, 3, 1, 0], 2);
        let near = |got: PerReported, want: PerReported| {
            got.into_iter()
                .zip(want)
                .for_each(|(a, b)| assert!((a - b).abs() < 1e-15, "{got:?}, not {want:?}"));
        };
        assert_eq!(
            [head.frequency, torso.frequency, tail.frequency],
            [Some([6, 6]), Some([3, 3]), Some([0, 1])]
        );
        assert_eq!([head.positives_share, torso.positives_share, tail.positives_share], [0.25, 0.25, 0.5]);
        assert_eq!([head.averages.labels, torso.averages.labels, tail.averages.labels], [1, 1, 3]);
        assert_eq!([head.averages.tested, torso.averages.tested, tail.averages.tested], [1, 1, 2]);
        near(head.precision, [1.0 / 2.0, 1.0 / 6.0, 1.0 / 10.0]);
        near(torso.precision, [0.0, 1.0 / 6.0, 1.0 / 10.0]);
        near(tail.precision, [1.0 / 2.0, 1.0 / 6.0, 1.0 / 10.0]);
        near(head.recall, [1.0, 1.0, 1.0]);
        near(torso.recall, [0.0, 1.0, 1.0]);
        near(tail.recall, [0.5, 0.5, 0.5]);
        near(tail.averages.recall, [1.0 / 3.0; 3]);
        near(tail.averages.precision, [1.0 / 3.0, 0.5 / 3.0, 0.5 / 3.0]);
        near(tail.averages.coverage, [0.5; 3]);
        // Without a tail nothing is divided by nothing.
        assert_eq!(Slice::all(&LabelCounts::new(0), &[], 0)[2], Slice::default());
    }
}
