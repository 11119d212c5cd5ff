//! Whole runs that dev ends early or that hold out their own dev split, also when they are killed and resumed.

mod support;

use serde_json::Value;
use support::cli::{Place, assert_same, pseudo_random, wait_until, written};

/// A place with train, dev and test.
fn with_dev() -> Place {
    let place = Place::new();
    place.synth();
    place
}

/// A place with train (400 documents) and test, without dev.
fn without_dev() -> Place {
    let place = with_dev();
    std::fs::remove_file(place.path("data/dev.jsonl")).unwrap();
    place
}

fn number(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or_else(|| panic!("no {key} in {line}"))
}

/// No metric gains 100 points: the second evaluation is the first without a gain.
#[test]
fn patience_ends_a_run() {
    let place = with_dev();
    let settings = ["--set", "train.epochs=9", "--set", "train.patience=2", "--set", "train.min_delta=100"];
    let done = place.train("run", &settings);
    assert!(done.err.contains("stopped early after epoch 3: 2 evaluations"), "{}", done.err);
    let lines = place.metrics("run");
    let epochs = place.epochs("run");
    assert_eq!(epochs.len(), 3);
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["event"], &last["epoch"], &last["step"]),
        (&"early_stop".into(), &3.into(), &75.into())
    );
    let best = epochs.iter().map(|line| number(line, "P@1")).fold(0.0, f64::max);
    assert_eq!((number(last, "best"), &last["metric"]), (best, &"P@1".into()));
    // The run is whole: a best and a last model, and going on has nothing to do.
    place.ok(&["evaluate", "run", "--device", "cpu"]);
    let before = place.snapshot("run");
    let again = place.train("run", &[&settings[..], &["--resume"]].concat());
    assert!(again.err.contains("stopped early after epoch 3"), "{}", again.err);
    assert_same(&before, &place.snapshot("run"));
    assert!(before.contains_key("best/model.safetensors") && before.contains_key("model/model.safetensors"));
}

/// The best model is the one with the greatest macroR@5, whatever its P@1.
#[test]
fn the_metric_of_the_config_chooses() {
    let place = with_dev();
    place.train("run", &["--set", "train.epochs=6", "--set", "train.select_metric=macroR@5"]);
    let mut best = f64::NEG_INFINITY;
    for line in place.epochs("run") {
        let value = number(&line, "macroR@5");
        assert_eq!(line["best"], Value::Bool(value > best), "{line}");
        best = best.max(value);
    }
    let done = place.ok(&["evaluate", "run", "--split", "dev", "--json", "--device", "cpu"]);
    assert_eq!(number(&done.json_lines()[0], "macroR@5"), best);
}

#[test]
fn documents_are_held_out() {
    let place = without_dev();
    let done = place.train("run", &["--set", "train.holdout=0.1", "--set", "train.epochs=4"]);
    let told = "dev (held out): 40 of the training documents; 360 are trained on";
    assert!(done.err.contains(told), "{}", done.err);
    let epochs = place.epochs("run");
    assert!(epochs.iter().all(|line| line["split"] == "dev (held out)"), "{epochs:?}");
    // Steps of 16 documents.
    assert_eq!(epochs[0]["step"], 360_u64.div_ceil(16));
    // The same documents are dev afterwards: the best model has the same metrics on them.
    let best = epochs.iter().rfind(|line| line["best"] == true).unwrap();
    let on = |split: &str| {
        place.ok(&["evaluate", "run", "--split", split, "--json", "--device", "cpu"]).json_lines()[0].clone()
    };
    let dev = on("dev");
    assert_eq!(dev["documents"], 40);
    for metric in ["P@1", "nDCG@5", "PSP@3", "macroR@5"] {
        assert_eq!(dev[metric], best[metric], "{metric}");
    }
    assert_eq!((&on("train")["documents"], &on("test")["documents"]), (&360.into(), &200.into()));
    // A dev split of the data set's own is used instead.
    let place = with_dev();
    let done = place.train("run", &["--set", "train.holdout=0.1"]);
    assert!(done.err.contains("train.holdout is not used"), "{}", done.err);
    assert_eq!(place.epochs("run")[0]["split"], "dev");
}

/// Patience that runs out somewhere, documents held out: killed again and again, the run ends as if it had not been.
#[test]
fn killed_and_resumed_it_stops_at_the_same_epoch() {
    let place = without_dev();
    let settings = [
        "--set",
        "train.epochs=30",
        "--set",
        "train.checkpoint_every=3",
        "--set",
        "train.holdout=0.2",
        "--set",
        "train.patience=3",
        "--set",
        "train.min_delta=1",
        "--set",
        "train.select_metric=nDCG@5",
    ];
    place.train("whole", &settings);
    assert_eq!(place.metrics("whole").last().unwrap()["event"], "early_stop");
    let checkpoint = place.path("run/checkpoint.safetensors");
    let resume = [&settings[..], &["--resume"]].concat();
    let mut killed = 0;
    for number in 0..5 {
        let before = written(&checkpoint);
        let mut child = place.start("run", &resume);
        wait_until(&mut child, || written(&checkpoint) != before);
        std::thread::sleep(std::time::Duration::from_millis(u64::from(pseudo_random(number, 12))));
        let _ = child.kill();
        killed += u32::from(child.wait().unwrap().code().is_none());
    }
    assert!(killed >= 1, "the run ended before it was killed even once");
    place.train("run", &resume);
    assert_same(&place.trained("run"), &place.trained("whole"));
    assert_eq!(place.metrics("run"), place.metrics("whole"));
}

#[test]
fn what_cannot_be_decided() {
    let place = without_dev();
    let train = |settings: &[&'static str]| {
        let mut call = vec!["train", "tiny.toml", "--data", "data", "--out", "run", "--device", "cpu"];
        settings.iter().for_each(|setting| call.extend(["--set", setting]));
        call
    };
    let cases: [(&[&str], &[&str]); 7] = [
        (&["train.patience=2"], &["train.patience", "test is evaluated", "train.holdout"]),
        (&["train.patience=2", "train.holdout=0.1", "train.evaluate_on=test"], &["train.patience", "test"]),
        (&["train.patience=2", "train.evaluate_every=0"], &["train.patience", "train.evaluate_every"]),
        (&["train.holdout=1"], &["train.holdout", "0.9"]),
        (&["train.min_delta=-1"], &["train.min_delta", "percent"]),
        (&["train.select_metric=P@2"], &["train.select_metric", "\"P@2\"", "nDCG@5"]),
        (&["train.select_metric=accuracy"], &["train.select_metric", "accuracy"]),
    ];
    for (settings, what) in cases {
        place.fails(&train(settings), 2, what);
    }
    place.write("data/train.jsonl", "{\"text\": \"one\", \"labels\": [\"a\"]}\n");
    place.fails(&train(&["train.holdout=0.5"]), 2, &["train.holdout", "1 training documents"]);
}
