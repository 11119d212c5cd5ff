//! Whole runs with the classifier on a CUDA device, in every configuration: they compute what the CPU computes. They run on
//! the stand-in for the driver that `tests/cuda.sh` builds, or on a GPU.
#![cfg(feature = "cuda")]

mod support;

use std::fs;

use support::cli::Place;
use support::models::jsonl;

/// Everything that stands above an encoder, or in place of its classifier.
const RUNS: [(&str, &[&str]); 6] = [
    ("plain", &[]),
    ("stratified", &["classifier.pattern=stratified", "rewire.growth=gradient", "classifier.moments=bf16"]),
    ("groups", &["classifier.group=16", "classifier.fan_in=16", "classifier.weights=bf16"]),
    ("dense", &["classifier.head=dense"]),
    (
        "bottleneck",
        &[
            "classifier.head=bottleneck",
            "classifier.fan_in=12",
            "intermediate.activation=gelu",
            "optimizer.intermediate.lr=0.05",
        ],
    ),
    (
        "all",
        &[
            "classifier.dense_labels=10",
            "classifier.dense_features=8",
            "classifier.group=8",
            "classifier.loss=squared_hinge",
            "intermediate.width=24",
            "intermediate.activation=relu",
            "optimizer.intermediate.lr=0.02",
            "auxiliary.weight=0.4",
            "auxiliary.cutoff_epoch=2",
            "auxiliary.cluster_size=7",
            "optimizer.auxiliary.lr=0.02",
            "rewire.growth=gradient",
        ],
    ),
];

/// Whether there is a device to run on.
fn on_cuda() -> bool {
    std::env::var_os("REGROW_TEST_CUDA").is_some()
}

fn train(place: &Place, run: &str, device: &str, settings: &[&str]) {
    let fixed = ["train", "tiny.toml", "--data", "data", "--out", run, "--device", device];
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    place.ok(&fixed.into_iter().chain(settings).collect::<Vec<_>>());
}

/// Both engines start from the same numbers; only the order of their sums differs.
fn assert_same_losses(place: &Place, [cpu, cuda]: [&str; 2]) {
    let losses = |run: &str| -> Vec<f64> {
        place.epochs(run).iter().map(|line| line["loss"].as_f64().unwrap()).collect()
    };
    let (cpu_losses, cuda_losses) = (losses(cpu), losses(cuda));
    assert!(!cpu_losses.is_empty() && cpu_losses.len() == cuda_losses.len());
    for (a, b) in cpu_losses.into_iter().zip(cuda_losses) {
        assert!((a - b).abs() < 1e-3 * a, "{cuda}: loss {b}, {a} on the CPU");
    }
}

#[test]
fn every_classifier_runs_beside_an_encoder_on_the_cpu() {
    if !on_cuda() {
        return;
    }
    let place = Place::new();
    place.synth();
    for (run, settings) in RUNS {
        let cuda = format!("{run}-cuda");
        train(&place, run, "cpu", settings);
        train(&place, &cuda, "cpu", &[settings, &["classifier.device=cuda:0"]].concat());
        assert_same_losses(&place, [run, &cuda]);
        let device = place.text(&format!("{cuda}/device.json"));
        assert!(device.contains("CUDA"), "{device}");
        let precision = |run: &str| {
            place.ok(&["evaluate", run, "--last", "--json"]).json_lines()[0]["P@1"].as_f64().unwrap()
        };
        // Two of the 200 documents may fall the other way.
        assert!((precision(run) - precision(&cuda)).abs() <= 1.0 + 1e-9, "{run}");
    }
}

/// Steps of twelve documents in micro-batches of four, the last one of four and one.
#[test]
fn micro_batches_cross_to_cuda() {
    if !on_cuda() {
        return;
    }
    let place = Place::small();
    train(&place, "cpu", "cpu", &["train.accumulate=3"]);
    train(&place, "cuda", "cpu", &["train.accumulate=3", "classifier.device=cuda:0"]);
    assert_same_losses(&place, ["cpu", "cuda"]);
}

#[test]
fn a_model_on_features_from_a_file_runs_on_cuda_alone() {
    if !on_cuda() {
        return;
    }
    let place = Place::small();
    place.golden("bert", "model");
    fs::create_dir(place.path("features")).unwrap();
    for (split, numbers) in [("train", 0..29), ("dev", 100..106), ("test", 200..213)] {
        let (input, output) = (format!("data/{split}.jsonl"), format!("features/{split}.safetensors"));
        place.write(&input, jsonl(numbers));
        place.ok(&["encode", "model", "--input", &input, "--output", &output, "--max-tokens", "16"]);
    }
    let settings = ["encoder.kind=features", "encoder.features=features", "classifier.fan_in=12"];
    for device in ["cpu", "cuda:0"] {
        train(&place, device, device, &settings);
    }
    assert_same_losses(&place, ["cpu", "cuda:0"]);
}
