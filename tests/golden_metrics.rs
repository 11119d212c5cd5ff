//! Rankings, propensities and metrics against the golden files.

mod support;

use regrow::evaluate::{Filter, Metrics, Ranking, inverse_propensities};
use support::golden::{Case, cases, entry_error, scaled_error};

/// The ids of an int32 tensor.
fn ids(case: &Case, tensor: &str) -> Vec<u32> {
    let (numbers, _) = case.i32(tensor);
    numbers.into_iter().map(|n| u32::try_from(n).expect("ids are not negative")).collect()
}

fn pairs(case: &Case, kind: &str) -> Vec<(u32, u32)> {
    let (rows, labels) = (ids(case, &format!("{kind}_row")), ids(case, &format!("{kind}_label")));
    assert_eq!(rows.len(), labels.len());
    rows.into_iter().zip(labels).collect()
}

/// The predictions of each row by falling score, without the filtered pairs.
fn rankings(case: &Case) -> Vec<Vec<u32>> {
    let filter = Filter::new(pairs(case, "filter"));
    let (scores, _) = case.f32("pred_score");
    let mut rows = vec![Vec::new(); case.size("rows")];
    for ((row, label), score) in pairs(case, "pred").into_iter().zip(scores) {
        if !filter.contains(row as usize, label) {
            rows[row as usize].push((score, label));
        }
    }
    let ranked = |mut row: Vec<(f32, u32)>| {
        row.sort_by(|a, b| b.0.total_cmp(&a.0));
        row.into_iter().map(|(_, label)| label).collect()
    };
    rows.into_iter().map(ranked).collect()
}

fn propensities(case: &Case) -> Vec<f64> {
    let frequency = ids(case, "train_frequency");
    let (a, b) = (case.number(&["A"]), case.number(&["B"]));
    inverse_propensities(&frequency, case.size("train_rows") as u64, a, b)
}

fn metrics(case: &Case) -> Metrics {
    let mut truths = vec![Vec::new(); case.size("rows")];
    for (row, label) in pairs(case, "true") {
        truths[row as usize].push(label);
    }
    let mut ranking = Ranking::new(propensities(case), 1.0);
    for (ranked, truth) in rankings(case).iter().zip(&mut truths) {
        truth.sort_unstable();
        ranking.add(ranked, truth);
    }
    ranking.finish()
}

#[test]
fn golden_inverse_propensities() {
    for case in cases("metrics") {
        let (reference, _) = case.f32("inverse_propensity");
        let tested = propensities(&case);
        assert_eq!(reference.len(), tested.len());
        for (label, (&a, &b)) in reference.iter().zip(&tested).enumerate() {
            // The reference is rounded to float32, so the tolerance is relative to values above 1.
            let error = (f64::from(a) - b).abs() / f64::from(a).max(1.0);
            assert!(error <= case.tolerance("value"), "{}: label {label} is {b}, not {a}", case.name);
        }
    }
}

#[test]
fn golden_top_labels() {
    for case in cases("metrics") {
        let (top, shape) = case.i32("top");
        assert_eq!(shape, [case.size("rows"), 5]);
        let tested: Vec<i32> = rankings(&case)
            .into_iter()
            .flat_map(|row| row.into_iter().map(|label| label as i32).chain([-1; 5]).take(5))
            .collect();
        assert_eq!(top, tested, "{}", case.name);
    }
}

#[test]
fn golden_metrics() {
    for case in cases("metrics") {
        let got = metrics(&case);
        let tested = [
            ("P", got.precision),
            ("nDCG", got.ndcg),
            ("R", got.recall),
            ("hits", got.hits),
            ("PSP", got.psp),
            ("PSnDCG", got.psndcg),
            ("PSR", got.psr),
        ];
        let listed = case.json["expected"].as_object().expect("expected values").len();
        assert_eq!(listed, tested.len(), "{}: every metric listed is tested", case.name);
        for (name, values) in tested {
            for (k, (a, b)) in case.numbers(&["expected", name]).into_iter().zip(values).enumerate() {
                let error = (a - b).abs();
                assert!(error <= case.tolerance("value"), "{}: {name}@{} is {b}, not {a}", case.name, k + 1);
            }
        }
        assert_eq!(got.documents, case.size("rows") as u64);
        assert_eq!(got.documents_without_labels, case.size("rows_without_labels") as u64);
    }
}

/// The measures of error themselves: worked out on paper, as every other golden test rests on them.
#[test]
fn golden_measures_of_error() {
    assert_eq!(scaled_error(&[2.0, -4.0], &[2.0, -3.0]), 0.25);
    assert_eq!(scaled_error(&[0.0, 0.0], &[0.0, 0.0]), 0.0);
    assert_eq!(scaled_error(&[0.0], &[1e-30]), f64::INFINITY);
    assert_eq!(scaled_error(&[1.0, 1.0], &[1.0, f32::NAN]), f64::INFINITY);
    // Entry 0 is off by 1 of at most 4, entry 1 by 1 of at most 10.
    assert_eq!(entry_error(&[4.0, 10.0, 2.0, 1.0], &[4.0, 10.0, 3.0, 2.0], 2), 0.25);
}
