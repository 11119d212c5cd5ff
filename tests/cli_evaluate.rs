//! What `regrow evaluate` tells: tables, JSON and the table of labels agree with each other and with the data.

mod support;

use std::collections::BTreeMap;

use serde_json::Value;
use support::cli::Place;

/// A trained run on made data.
fn trained() -> Place {
    let place = Place::new();
    place.synth();
    place.train("run", &[]);
    place
}

/// How many documents of a split have each label.
fn frequency(place: &Place, split: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in place.text(&format!("data/{split}.jsonl")).lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        for label in line["labels"].as_array().unwrap() {
            *counts.entry(label.as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

/// Sums over the table of labels are the metrics over documents, computed along another way.
#[test]
fn the_table_of_labels_adds_up() {
    let place = trained();
    let call = ["evaluate", "run", "--json", "--per-label", "labels.tsv", "--device", "cpu"];
    let json = &place.ok(&call).json_lines()[0];
    let documents = json["documents"].as_f64().unwrap();
    let text = place.text("labels.tsv");
    let mut lines = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let column = |name: &str| header.iter().position(|column| *column == name).unwrap();
    let rows: Vec<Vec<&str>> = lines.collect();
    let (train, test) = (frequency(&place, "train"), frequency(&place, "test"));
    for row in &rows {
        let of = |counts: &BTreeMap<String, u64>| counts.get(row[0]).copied().unwrap_or(0).to_string();
        assert_eq!(row[column("train_frequency")], of(&train), "{}", row[0]);
        assert_eq!(row[column("positives")], of(&test), "{}", row[0]);
    }
    let number = |row: &[&str], name: &str| row[column(name)].parse::<f64>().unwrap();
    let sum = |name: &str| rows.iter().map(|row| number(row, name)).sum::<f64>();
    let near = |a: f64, name: &str| {
        let b = json[name].as_f64().unwrap();
        assert!((a - b).abs() < 1e-9, "{name} is {b}, the labels give {a}");
    };
    for k in [1.0, 3.0, 5.0] {
        near(100.0 * sum(&format!("hits@{k}")) / (k * documents), &format!("P@{k}"));
    }
    assert_eq!(sum("predicted@5"), 5.0 * documents);
    let macro_recall =
        rows.iter().map(|row| number(row, "hits@5") / number(row, "positives").max(1.0)).sum::<f64>();
    near(100.0 * macro_recall / rows.len() as f64, "macroR@5");
    let macro_precision =
        rows.iter().map(|row| number(row, "hits@5") / number(row, "predicted@5").max(1.0)).sum::<f64>();
    near(100.0 * macro_precision / rows.len() as f64, "macroP@5");
    let found = rows.iter().filter(|row| number(row, "hits@1") > 0.0).count() as f64;
    near(100.0 * found / test.len() as f64, "coverage@1");

    // The slices' parts of P add up, and their labels are all labels.
    let slices = ["head", "torso", "tail"].map(|name| &json["slices"][name]);
    let of = |slice: &Value, key: &str| slice[key].as_f64().unwrap_or_else(|| panic!("no {key} in {slice}"));
    near(slices.iter().map(|slice| of(slice, "P@5")).sum(), "P@5");
    assert_eq!(slices.iter().map(|slice| of(slice, "labels")).sum::<f64>(), rows.len() as f64);
    let least = of(slices[0], "labels");
    assert!(least > 0.0 && least < of(slices[2], "labels"), "the head has fewer labels than the tail");
}

#[test]
fn the_tables_are_readable() {
    let place = trained();
    let done = place.ok(&["evaluate", "run", "--per-label", "labels.tsv", "--device", "cpu"]);
    for word in ["nDCG", "macroP", "coverage", "head", "torso", "tail", "labels: labels.tsv"] {
        assert!(done.out.contains(word), "no {word} in {}", done.out);
    }
    assert!(done.out.lines().all(|line| line.chars().count() <= 120), "{}", done.out);
    // The epoch's line has the same names, the old ones first.
    let epoch = place.epochs("run")[0].clone();
    for name in ["P@1", "nDCG@5", "PSP@3", "R@5", "macroP@1", "macroF1@5", "coverage@5", "hits@1", "PSR@5"] {
        assert!(epoch[name].is_f64(), "no {name} in {epoch}");
    }
    assert!(epoch["slices"]["tail"]["R@5"].is_f64(), "{epoch}");
}

#[test]
fn a_table_of_labels_that_cannot_be_written() {
    let place = trained();
    let call = ["evaluate", "run", "--per-label", "none/labels.tsv", "--device", "cpu"];
    place.fails(&call, 2, &["--per-label", "none/labels.tsv", "no such folder"]);
}
