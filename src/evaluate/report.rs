//! Metrics under their names: as JSON, as tables for a terminal, and one by one.

use serde_json::{Map, Value};

use super::metrics::{DEPTH, Metrics, PerReported, REPORTED};
use super::slices::{self, SLICES};

impl Metrics {
    /// The metrics under their names; the first [`IN_TABLE`] are those of the table, in its order.
    fn reported(&self) -> [(&'static str, PerReported); 11] {
        let at = |values: &[f64; DEPTH]| REPORTED.map(|k| values[k - 1]);
        let labels = &self.by_label;
        [
            ("P", at(&self.precision)),
            ("nDCG", at(&self.ndcg)),
            ("PSP", at(&self.psp)),
            ("PSnDCG", at(&self.psndcg)),
            ("R", at(&self.recall)),
            ("macroP", labels.precision),
            ("macroR", labels.recall),
            ("macroF1", labels.f1),
            ("coverage", labels.coverage),
            ("PSR", at(&self.psr)),
            ("hits", at(&self.hits)),
        ]
    }

    /// The names of the metrics, `P@1` to `hits@5`: what [`Metrics::get`] knows.
    #[must_use]
    pub fn names() -> Vec<String> {
        let of = |name: &'static str| REPORTED.map(|k| format!("{name}@{k}"));
        Self::default().reported().into_iter().flat_map(|(name, _)| of(name)).collect()
    }

    /// A metric by its name, such as `nDCG@5`, as a fraction.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        let (name, k) = name.split_once('@')?;
        let at = REPORTED.iter().position(|reported| reported.to_string() == k)?;
        self.reported().into_iter().find(|(known, _)| *known == name).map(|(_, values)| values[at])
    }

    /// Every metric under its name in percent, in the order of [`Metrics::names`], then `documents_without_labels`,
    /// `labels_with_positives` and, where there are any, `slices`.
    #[must_use]
    pub fn json_object(&self) -> Map<String, Value> {
        let mut object = Map::new();
        for (name, values) in self.reported() {
            for (k, value) in REPORTED.into_iter().zip(values) {
                object.insert(format!("{name}@{k}"), Value::from(100.0 * value));
            }
        }
        object.insert("documents_without_labels".into(), self.documents_without_labels.into());
        object.insert("labels_with_positives".into(), self.by_label.tested.into());
        if let Some(slices) = &self.slices {
            let slices = SLICES.into_iter().zip(slices).map(|(name, slice)| (name.to_owned(), slice.json()));
            object.insert("slices".into(), Value::Object(slices.collect()));
        }
        object
    }

    /// A table in percent for a terminal: a row a metric, columns @1, @3 and @5; no newline at the end.
    #[must_use]
    pub fn table(&self) -> String {
        let line = |name: &str, cells: [String; 3]| {
            format!("{name:<8}{}", cells.map(|cell| format!("{cell:>8}")).concat())
        };
        let mut lines = vec![line("%", REPORTED.map(|k| format!("@{k}")))];
        for (name, values) in self.reported().into_iter().take(IN_TABLE) {
            lines.push(line(name, values.map(|value| format!("{:.2}", 100.0 * value))));
        }
        lines.join("\n")
    }

    /// The slices as a table: labels, their training frequencies, their share of the split's (document, label) pairs,
    /// what they add to P@k, the share of their pairs that is found, macro recall and coverage.
    #[must_use]
    pub fn slice_table(&self) -> Option<String> {
        self.slices.as_ref().map(slices::table)
    }
}

/// Metrics in the table; PSR and hits are for those who ask.
const IN_TABLE: usize = 9;

#[cfg(test)]
mod tests {
    use super::super::Ranking;
    use super::Metrics;

    #[test]
    fn json_and_table() {
        let mut ranking = Ranking::new(Vec::new(), 1.0);
        ranking.add(&[1, 2, 3], &[1]);
        ranking.add(&[1, 2, 3], &[]);
        let metrics = ranking.finish();
        let object = metrics.json_object();
        let names: Vec<&str> = object.keys().map(String::as_str).collect();
        assert_eq!(&names[..4], ["P@1", "P@3", "P@5", "nDCG@1"]);
        assert_eq!(&names[6..9], ["PSP@1", "PSP@3", "PSP@5"]);
        let per_label = ["macroP@1", "macroP@3", "macroP@5", "macroR@1", "macroR@3", "macroR@5"];
        assert_eq!(&names[15..21], per_label);
        assert_eq!(
            &names[24..],
            [
                "coverage@1",
                "coverage@3",
                "coverage@5",
                "PSR@1",
                "PSR@3",
                "PSR@5",
                "hits@1",
                "hits@3",
                "hits@5",
                "documents_without_labels",
                "labels_with_positives",
            ]
        );
        assert_eq!(object["P@1"], 50.0);
        assert_eq!(object["documents_without_labels"], 1);
        let expected = "\
%             @1      @3      @5
P          50.00   16.67   10.00
nDCG       50.00   50.00   50.00
PSP       100.00  100.00  100.00
PSnDCG    100.00  100.00  100.00
R          50.00   50.00   50.00
macroP     12.50   12.50   12.50
macroR     25.00   25.00   25.00
macroF1    16.67   16.67   16.67
coverage  100.00  100.00  100.00";
        assert_eq!(metrics.table(), expected);
        assert_eq!((metrics.slice_table(), object.get("slices")), (None, None));
    }

    #[test]
    fn metrics_have_names() {
        let mut ranking = Ranking::new(vec![1.0; 4], 1.0);
        ranking.add(&[1, 2, 3], &[1, 3]);
        let metrics = ranking.finish();
        for name in Metrics::names() {
            assert!(metrics.get(&name).is_some_and(|value| value > 0.0), "{name}");
        }
        assert_eq!(metrics.get("P@3"), Some(2.0 / 3.0));
        for unknown in ["P", "P@2", "P@6", "P@", "@1", "p@1", "P@01", "nDCG 5", ""] {
            assert_eq!(metrics.get(unknown), None, "{unknown}");
        }
    }

    /// What the slices add to P@k is P@k, whatever the frequencies.
    #[test]
    fn slices_add_up() {
        let mut ranking = Ranking::new(vec![1.0; 6], 1.0).with_slices(vec![9, 4, 4, 2, 1, 0]);
        ranking.add(&[0, 1, 4], &[0, 2, 4]);
        ranking.add(&[3, 5, 0], &[0, 3, 5]);
        ranking.add(&[2], &[]);
        let metrics = ranking.finish();
        let slices = metrics.slices.as_ref().unwrap();
        for (at, name) in ["P@1", "P@3", "P@5"].into_iter().enumerate() {
            let sum: f64 = slices.iter().map(|slice| slice.precision[at]).sum();
            assert!((sum - metrics.get(name).unwrap()).abs() < 1e-15, "{name}");
        }
        assert!((slices.iter().map(|slice| slice.positives_share).sum::<f64>() - 1.0).abs() < 1e-15);
        let object = metrics.json_object();
        assert_eq!(object["slices"]["head"]["train_frequency"], serde_json::json!([9, 9]));
        assert_eq!(object["slices"]["tail"]["labels"], 3);
        let table = metrics.slice_table().unwrap();
        let widths: Vec<usize> = table.lines().map(str::len).collect();
        assert!(widths.len() == 4 && widths.iter().all(|width| *width == widths[0]), "{table}");
    }
}
