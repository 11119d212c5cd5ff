//! `regrow train --dry-run`: the paper's schedules and parameter counts, with no data and no weights; and that a dry run
//! refuses what a run refuses and writes nothing.

mod support;

use std::path::{Path, PathBuf};

use regrow::config::Config;
use serde_json::Value;
use support::cli::Place;

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

/// A data set of the paper and what its recipe must come to.
struct Recipe {
    name: &'static str,
    documents: u64,
    labels: u64,
    /// Micro-batches of an epoch in the reference's loop, optimizer steps of the run, rewirings.
    epoch_batches: u64,
    steps: u64,
    rewirings: u64,
    /// First epoch without rewiring, from 0.
    rewire_end: u64,
    fan_in: u64,
    augmented: bool,
}

/// Sizes as in the extreme-classification repository; counts as the authors' loop gives them.
const RECIPES: [Recipe; 6] = {
    const fn recipe(
        name: &'static str,
        [documents, labels]: [u64; 2],
        [epoch_batches, steps, rewirings, rewire_end]: [u64; 4],
        fan_in: u64,
        augmented: bool,
    ) -> Recipe {
        Recipe { name, documents, labels, epoch_batches, steps, rewirings, rewire_end, fan_in, augmented }
    }
    [
        recipe("wiki10-31k", [14_146, 30_938], [443, 44_300, 97, 66], 64, false),
        recipe("amazon-670k", [490_449, 670_091], [7664, 843_040, 689, 72], 128, false),
        recipe("wiki-500k", [1_779_881, 501_070], [13_906, 695_300, 764, 33], 128, false),
        recipe("amazon-3m", [1_717_899, 2_812_281], [13_422, 342_261, 295, 33], 128, false),
        recipe("lf-amazontitles-131k", [294_805, 131_073], [832, 83_200, 54, 66], 128, true),
        recipe("lf-wikiseealso-320k", [693_082, 312_330], [7855, 793_355, 648, 66], 128, true),
    ]
};

fn dry_run(place: &Place, recipe: &Recipe, more: &[&str]) -> Value {
    let path = configs().join(recipe.name).with_extension("toml").to_string_lossy().into_owned();
    let (documents, labels) = (recipe.documents.to_string(), recipe.labels.to_string());
    let fixed = ["train", &path, "--dry-run", "--docs", &documents, "--labels", &labels, "--features", "768"];
    place.ok(&[&fixed[..], &["--json"], more].concat()).json_lines().remove(0)
}

#[test]
fn the_papers_recipes_come_out_as_its_code_counts_them() {
    let place = Place::new();
    for recipe in &RECIPES {
        let run = dry_run(&place, recipe, &[]);
        let case = recipe.name;
        let texts = if recipe.augmented { recipe.labels } else { 0 };
        assert_eq!(run["documents"], recipe.documents + texts, "{case}");
        assert_eq!((&run["label_texts"], &run["labels"]), (&texts.into(), &recipe.labels.into()), "{case}");
        // Amazon-3M accumulates two micro-batches.
        let accumulated = if case == "amazon-3m" { 2 } else { 1 };
        assert_eq!(run["steps_per_epoch"], recipe.epoch_batches.div_ceil(accumulated), "{case}");
        assert_eq!(run["steps"], recipe.steps, "{case}");
        let rewiring = &run["rewiring"];
        assert_eq!(rewiring["count"], recipe.rewirings, "{case}");
        assert_eq!(rewiring["epochs"], recipe.rewire_end, "{case}");
        let interval = rewiring["interval"].as_u64().unwrap();
        assert_eq!(rewiring["last_step"], interval * recipe.rewirings, "{case}");
        assert_eq!(run["parameters"]["classifier"], recipe.labels * (recipe.fan_in + 1), "{case}");
        assert_eq!(run["parameters"]["classifier_if_dense"], recipe.labels * 769, "{case}");
        assert_eq!(run["parameters"]["encoder"], Value::Null, "{case}");
        let epochs = run["epochs"].as_u64().unwrap();
        assert_eq!(run["evaluation"]["after_epochs"].as_array().unwrap().len() as u64, epochs, "{case}");
    }
    // The two numbers that the paper's readers know.
    let run = dry_run(&place, &RECIPES[1], &[]);
    assert_eq!(run["parameters"]["classifier"], 86_441_739);
    assert_eq!(run["parameters"]["classifier_if_dense"], 515_299_979);
}

/// thr(t) = 1e-4 + ½ · (thr − 1e-4) · (1 + cos(π · t / T)) at the first and last rewiring, T = 66 epochs of 443 steps.
#[test]
fn a_dry_run_tells_thresholds_and_rates() {
    let place = Place::new();
    let run = dry_run(&place, &RECIPES[0], &[]);
    let cosine = |t: f64| 1e-4 + 0.5 * (0.01 - 1e-4) * (1.0 + (std::f64::consts::PI * t / 29_238.0).cos());
    let close = |value: &Value, want: f64| (value.as_f64().unwrap() - want).abs() < 1e-12;
    let rewiring = &run["rewiring"];
    assert_eq!(rewiring["rule"], "threshold");
    assert!(close(&rewiring["first_value"], cosine(300.0)), "{rewiring}");
    assert!(close(&rewiring["last_value"], cosine(29_100.0)), "{rewiring}");
    let rate = &run["classifier_rate"];
    assert_eq!((&rate["peak"], &rate["warmup_steps"]), (&0.01.into(), &1000.into()));
    // ½ · (1 + cos(π · 43,299 / 43,300)) of the peak.
    let share = (std::f64::consts::PI * 43_299.0 / 43_300.0).cos();
    assert!(close(&rate["last"], 0.01 * 0.5 * (1.0 + share)), "{rate}");
    let off = dry_run(&place, &RECIPES[0], &["--set", "rewire.mode=off", "--set", "train.evaluate_on=none"]);
    assert_eq!((&off["rewiring"], &off["evaluation"]["split"]), (&Value::Null, &Value::Null));
    assert_eq!(off["evaluation"]["after_epochs"].as_array().unwrap().len(), 0);
    // Memory where a device is named: 30,938 labels of 64 connections with AdamW are at least 28 MB.
    let planned = dry_run(&place, &RECIPES[0], &["--device", "cpu"]);
    assert!(planned["memory"]["peak_bytes"].as_u64().unwrap() > 30_938 * 64 * 14, "{planned}");
    assert_eq!(planned["memory"]["with_encoder"], false);
}

#[test]
fn every_config_is_one() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(configs()).unwrap() {
        let path = entry.unwrap().path();
        Config::load(&path, &[]).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        names.push(path.file_stem().unwrap().to_string_lossy().into_owned());
    }
    assert!(RECIPES.iter().all(|recipe| names.iter().any(|name| name == recipe.name)), "{names:?}");
}

#[test]
fn a_dry_run_counts_what_the_run_then_does_and_leaves_nothing() {
    let place = Place::new();
    place.synth();
    let before = place.snapshot("");
    let dry = ["train", "tiny.toml", "--data", "data", "--dry-run", "--out", "run", "--device", "cpu"];
    let run = place.ok(&[&dry[..], &["--json"]].concat()).json_lines().remove(0);
    assert!(before == place.snapshot(""), "a dry run wrote something");
    let lines = place.ok(&dry).out;
    assert!(lines.contains("3 epochs: 75") && lines.contains("2 times, every 10 steps"), "{lines}");

    place.train("run", &[]);
    let metrics = place.metrics("run");
    let rewirings: Vec<&Value> = metrics.iter().filter(|line| line["event"] == "rewire").collect();
    // 400 documents in 16s are 25 steps an epoch; rewiring ends with the first of three, 1.98 rounded down.
    assert_eq!((&run["steps_per_epoch"], &run["steps"]), (&25.into(), &75.into()));
    assert_eq!(run["rewiring"]["count"], rewirings.len());
    assert_eq!(run["rewiring"]["last_step"], rewirings.last().unwrap()["step"]);
    assert_eq!(run["evaluation"], serde_json::json!({"split": "dev", "after_epochs": [1, 2, 3]}));
    assert_eq!(run["parameters"]["classifier"], 60 * 5);
    // Embeddings and norm as the model file has them.
    let stored: usize = place.encoder("run").values().map(|tensor| tensor.floats().len()).sum();
    assert_eq!(run["parameters"]["encoder"], stored);
    for line in rewirings {
        let number = |key: &str| line[key].as_f64().unwrap();
        assert_eq!(number("turnover"), number("pruned") / number("connections"), "{line}");
        assert_eq!((number("fraction"), number("connections")), (0.15, 240.0), "{line}");
        assert_eq!((number("pruned"), number("regrown")), (36.0, 36.0), "{line}");
    }
    assert_eq!(metrics.iter().filter(|line| line["event"] == "epoch").count(), 3);
}

#[test]
fn a_dry_run_refuses_what_a_run_refuses() {
    let place = Place::new();
    place.synth();
    let dry = ["train", "tiny.toml", "--dry-run"];
    place.fails(&dry, 2, &["data.path"]);
    let with_data = [&dry[..], &["--data", "data"]].concat();
    place.fails(&[&with_data[..], &["--set", "classifier.fan_in=17"]].concat(), 2, &["classifier.fan_in"]);
    let nowhere = [&dry[..], &["--data", "nowhere", "--set", "data.format=jsonl"]].concat();
    place.fails(&nowhere, 2, &["nowhere: no such folder"]);
    let without = [&dry[..], &["--docs", "100", "--labels", "10"]].concat();
    let transformer = ["--set", "encoder.kind=transformer", "--set", "encoder.model=nowhere/x/y"];
    place.fails(&[&without[..], &transformer].concat(), 2, &["there is no folder nowhere/x/y"]);
    let narrow = [&without[..], &transformer, &["--features", "3"]].concat();
    place.fails(&narrow, 2, &["classifier.fan_in", "3 features"]);
    place.fails(&[&without[..], &["--features", "16"]].concat(), 2, &["bag of tokens"]);
    for (name, size) in [("--docs", "0"), ("--labels", "0"), ("--labels", "4294967295")] {
        let sizes = [("--docs", "10"), ("--labels", "10")]
            .map(|(key, usual)| [key, if key == name { size } else { usual }]);
        let call = [&["train", "tiny.toml", "--dry-run"][..], sizes.as_flattened()].concat();
        place.fails(&call, 2, &[name, "must be from 1 to 2147483647", size]);
    }
}
