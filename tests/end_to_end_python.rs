//! A model without the program: `examples/read_model.py` reads the folder and names the same labels with the same
//! scores.

mod support;

use std::process::Command;

use serde_json::{Value, json};
use support::cli::Place;

fn python() -> Command {
    let works = Command::new("python3").args(["-c", "import numpy, safetensors"]).output();
    assert!(
        works.is_ok_and(|output| output.status.success()),
        "this test runs examples/read_model.py: install python3, then pip install numpy safetensors"
    );
    Command::new("python3")
}

fn compare(more: &[&str]) {
    let mut command = python();
    let place = Place::new();
    place.synth();
    place.train("run", more);
    // A text without words and one of unknown words belong to what must agree.
    place.write("texts.jsonl", place.text("data/test.jsonl") + "\n{\"text\": \"qqqq wwww\"}\n");
    let predict = ["predict", "run", "--input", "texts.jsonl", "--tokens", "--top", "5", "--device", "cpu"];
    let answers = place.ok(&predict).json_lines();
    assert_eq!(answers.len(), 202);
    let tokens: String =
        answers.iter().map(|answer| json!({"tokens": answer["tokens"]}).to_string() + "\n").collect();
    place.write("tokens.jsonl", tokens);

    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/read_model.py");
    let model = place.path("run/best");
    let output = command
        .arg(script)
        .arg(&model)
        .args(["--top", "5", "--tokens"])
        .arg(place.path("tokens.jsonl"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs = String::from_utf8(output.stdout).unwrap();
    let theirs: Vec<Value> = theirs.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(theirs.len(), answers.len());
    for (row, (ours, theirs)) in answers.iter().zip(&theirs).enumerate() {
        let [ours, theirs] = [ours, theirs].map(|answer| {
            let list = answer["labels"].as_array().unwrap().iter();
            list.map(|entry| (entry["label"].as_str().unwrap(), entry["score"].as_f64().unwrap()))
                .collect::<Vec<_>>()
        });
        assert_eq!((ours.len(), theirs.len()), (5, 5));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!((ours.1 - theirs.1).abs() < 1e-4, "text {row}: {ours:?} here, {theirs:?} in Python");
            assert_eq!(ours.0, theirs.0, "text {row}");
        }
    }
}

#[test]
fn plain_model() {
    compare(&[]);
}

#[test]
fn hidden_layers() {
    compare(&["--set", "encoder.hidden=[24, 12]"]);
}

#[test]
fn narrow_weights() {
    for weights in ["f16", "bf16", "fp8"] {
        compare(&["--set", &format!("classifier.weights={weights}")]);
    }
}

#[test]
fn labels_that_share_their_features() {
    for (group, grouping) in [("8", "frequency"), ("16", "random"), ("32", "text")] {
        let settings = [
            format!("classifier.group={group}"),
            format!("classifier.grouping={grouping}"),
            "classifier.fan_in=9".to_owned(),
            "classifier.weights=bf16".to_owned(),
        ];
        compare(&settings.iter().flat_map(|setting| ["--set", setting]).collect::<Vec<_>>());
    }
}

#[test]
fn dense_labels_and_a_sparse_tail() {
    compare(&["--set", "classifier.dense_labels=0.2"]);
    let groups = ["classifier.dense_labels=9", "classifier.dense_features=8", "classifier.group=8"];
    let narrow = ["classifier.weights=bf16", "intermediate.width=24", "classifier.fan_in=5"];
    compare(&groups.iter().chain(&narrow).flat_map(|setting| ["--set", *setting]).collect::<Vec<_>>());
}

#[test]
fn stratified_connections() {
    let pattern = ["--set", "classifier.pattern=stratified", "--set", "classifier.fan_in=5"];
    compare(&pattern);
    compare(&[&pattern[..], &["--set", "classifier.group=8"]].concat());
}

#[test]
fn intermediate_layers_and_dense_classifiers() {
    compare(&["--set", "intermediate.width=24"]);
    let relu = ["--set", "intermediate.width=24", "--set", "intermediate.activation=relu"];
    compare(&[&["--set", "classifier.head=dense"], &relu[..]].concat());
    let gelu = ["--set", "intermediate.activation=gelu", "--set", "classifier.fan_in=12"];
    compare(&[&["--set", "classifier.head=bottleneck"], &gelu[..]].concat());
}

#[test]
fn wordpiece_vocabulary() {
    compare(&["--set", "encoder.tokenizer_kind=wordpiece", "--set", "encoder.vocabulary=300"]);
}

/// A pretrained folder of each family; the first tokens of two layers, which needs all of them.
#[test]
fn transformers() {
    for family in ["bert", "distilbert", "roberta"] {
        let model = format!("encoder.model={}/tests/golden/encoder/{family}", env!("CARGO_MANIFEST_DIR"));
        let settings = [
            "encoder.kind=transformer",
            &model,
            "encoder.pooling=cls",
            "encoder.pooled_layers=2",
            "data.max_tokens=40",
        ];
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        compare(&settings);
    }
}
