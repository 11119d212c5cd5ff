//! `regrow clusters`: what it writes is a balanced partition, the same each time; what it says to wrong calls.

mod support;

use std::collections::BTreeSet;

use support::cli::Place;

/// Sixty labels on made data.
fn place() -> Place {
    let place = Place::new();
    place.synth();
    place
}

/// The names of all labels in the data.
fn labels(place: &Place) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    for split in ["train", "dev", "test"] {
        for line in place.text(&format!("data/{split}.jsonl")).lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let names = line["labels"].as_array().unwrap();
            labels.extend(names.iter().map(|name| name.as_str().unwrap().to_owned()));
        }
    }
    labels
}

#[test]
fn text_and_random_clusters_are_partitions() {
    let place = place();
    let all = labels(&place);
    for (kind, count) in [("text", 8), ("random", 6)] {
        let call =
            ["clusters", "--data", "data", "--kind", kind, "--size", "10", "--seed", "3", "--out", "c.txt"];
        let done = place.ok(&call);
        assert!(done.out.contains(&format!("{} labels in {count} clusters of", all.len())), "{}", done.out);
        assert!(done.out.contains("mean cosine"), "{}", done.out);
        let text = place.text("c.txt");
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
        assert_eq!(lines.len(), count);
        let (smallest, largest) = (all.len() / count, all.len().div_ceil(count));
        assert!(lines.iter().all(|line| (smallest..=largest).contains(&line.len())), "{text}");
        let named: Vec<&str> = lines.concat();
        assert_eq!(named.len(), all.len());
        assert_eq!(named.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), all);
        let before = place.read("c.txt");
        place.ok(&[&call[..], &["--threads", "1"]].concat());
        assert!(before == place.read("c.txt"), "{kind}: another call on one thread gave other clusters");
    }
}

/// The families of labels in the made data share words, so text clusters must be more alike than random ones.
#[test]
fn text_clusters_are_more_alike_than_random_ones() {
    let place = place();
    let done = place.ok(&["clusters", "--data", "data", "--size", "10", "--out", "c.safetensors"]);
    let line = done.out.lines().find(|line| line.starts_with("mean cosine")).unwrap();
    let numbers: Vec<f64> =
        line.split([' ', ';']).filter_map(|word| word.trim_end_matches('.').parse().ok()).collect();
    assert!(numbers.len() == 2 && numbers[0] > numbers[1], "{line}");
    let bytes = place.read("c.safetensors");
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor("cluster_of_label").unwrap();
    assert_eq!((tensor.dtype(), tensor.shape()), (safetensors::Dtype::U32, &[labels(&place).len()][..]));
}

#[test]
fn wrong_calls() {
    let place = place();
    let call = |more: &[&'static str]| [&["clusters", "--data", "data"], more].concat();
    place.fails(&call(&["--out", "c.csv"]), 2, &["c.csv", ".txt", ".safetensors"]);
    place.fails(&call(&["--out", "c.txt", "--size", "0"]), 2, &["--size"]);
    place.fails(&call(&["--out", "c.txt", "--terms", "0"]), 2, &["--terms"]);
    // Said before the data are read.
    let nowhere = ["clusters", "--data", "nodata", "--out", "none/c.txt"];
    place.fails(&nowhere, 2, &["--out none/c.txt", "no such folder: none"]);
    place.fails(&["clusters", "--out", "c.txt"], 2, &["data.path", "--data"]);
    place.fails(&["clusters", "--data", "nodata", "--out", "c.txt"], 2, &["nodata"]);
}
