//! Whole runs with a transformer, on both engines: it learns what a bag of words cannot; the same bits come out however
//! the run was cut into threads, processes and recomputed layers; limits and frozen layers hold.

mod support;

use std::fs;
use std::process::Stdio;

use regrow::device::{Device, DeviceOptions};
use regrow::train::TextEncoder;
use serde_json::Value;
use support::cli::{Place, assert_same, pseudo_random, wait_until, written};
use support::models::{Tensors, WORDS, label, steps_done, text};

/// `regrow train tiny.toml --data data --out RUN` with these settings.
fn train(place: &Place, device: &str, run: &str, settings: &[&str]) {
    train_with(place, device, run, settings, &[]);
}

fn train_with(place: &Place, device: &str, run: &str, settings: &[&str], more: &[&str]) {
    place.ok(&arguments(device, run, settings, more));
}

fn arguments<'a>(device: &'a str, run: &'a str, settings: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec!["train", "tiny.toml", "--data", "data", "--out", run, "--device", device];
    settings.iter().for_each(|setting| all.extend(["--set", setting]));
    [all, more.to_vec()].concat()
}

fn losses(place: &Place, run: &str) -> Vec<f64> {
    let number = |line: &Value| line["loss"].as_f64().expect("a loss");
    place.epochs(run).iter().map(number).collect()
}

fn norm(numbers: impl IntoIterator<Item = f64>) -> f64 {
    numbers.into_iter().map(|number| number * number).sum::<f64>().sqrt()
}

fn both(place: &Place) -> [&'static str; 2] {
    ["cpu", place.first_adapter()]
}

const ORDERS: &str = "\
[data]
max_tokens = 16
[encoder]
kind = \"transformer\"
init = \"scratch\"
layers = 2
dim = 32
heads = 4
intermediate = 64
positions = 16
dropout = 0.0
hidden_dropout = 0.0
attention_dropout = 0.0
[classifier]
fan_in = 16
bias_init = -2.0
[rewire]
mode = \"off\"
[optimizer.encoder]
warmup_steps = 20
[optimizer.classifier]
warmup_steps = 20
[train]
batch_size = 16
epochs = 150
evaluate_every = 0
evaluate_on = \"train\"
";

/// 32 pairs of documents with the same words, the second in reverse, and different labels, 16 in all. Whatever sees no
/// order gives both of a pair the same first label, which is right for one of them at most: 50 %.
#[test]
fn learns_the_order_of_words() {
    let place = Place::new();
    place.write("tiny.toml", ORDERS);
    let mut seen = std::collections::BTreeSet::new();
    let mut lines = String::new();
    for attempt in 0.. {
        let mut words = WORDS;
        for i in 0..5 {
            let further = pseudo_random(attempt * 8 + i as u32, (WORDS.len() - i) as u32);
            words.swap(i, i + further as usize);
        }
        let mut document = words[..5].to_vec();
        document.sort_unstable();
        if !seen.insert(document) {
            continue;
        }
        let mut document = words[..5].to_vec();
        for second in 0..2 {
            let label = (2 * seen.len() + second) % 16;
            lines += &format!("{{\"text\": \"{}\", \"labels\": [\"{label}\"]}}\n", document.join(" "));
            document.reverse();
        }
        if seen.len() == 32 {
            break;
        }
    }
    place.write("data/train.jsonl", lines);
    let reached = |run: &str| place.epochs(run).last().unwrap()["P@1"].as_f64().expect("P@1");
    train(&place, "cpu", "run", &[]);
    assert_eq!(reached("run"), 100.0);
    train(&place, "cpu", "bag", &["encoder.kind=bag"]);
    assert!(reached("bag") <= 50.0, "a bag of words reached {}", reached("bag"));
}

/// All dropouts are on, and each of them matters; a step has micro-batches, the last step a short one.
#[test]
fn threads_do_not_matter() {
    let place = Place::small();
    for (run, threads) in [("a", "1"), ("b", "1"), ("c", "2"), ("d", "5")] {
        train_with(&place, "cpu", run, &[], &["--threads", threads]);
        assert_same(&place.trained("a"), &place.trained(run));
        assert_eq!(place.metrics("a"), place.metrics(run));
    }
    let different = [
        "encoder.dropout=0",
        "encoder.hidden_dropout=0",
        "encoder.attention_dropout=0",
        "train.accumulate=1",
        "train.seed=43",
    ];
    for setting in different {
        train_with(&place, "cpu", "other", &[setting], &["--fresh"]);
        let (a, other) = (place.encoder("a"), place.encoder("other"));
        assert!(a.iter().all(|(name, tensor)| other[name] != *tensor), "{setting} leaves a tensor as it is");
    }
}

/// Killed again and again, in the middle of epochs too, and in the end the same bytes.
fn killed_and_resumed(device: &str, epochs: &str, kills: u32) {
    let place = Place::small();
    let epochs = format!("train.epochs={epochs}");
    let settings = [epochs.as_str(), "train.checkpoint_every=1", "train.deterministic=true"];
    train(&place, device, "whole", &settings);
    train(&place, device, "again", &settings);
    assert_same(&place.trained("whole"), &place.trained("again"));
    let checkpoint = place.path("run/checkpoint.safetensors");
    let (mut killed, mut in_the_middle) = (0, 0);
    for number in 0..kills {
        let before = written(&checkpoint);
        let mut command = place.command(&arguments(device, "run", &settings, &["--resume"]));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until(&mut child, || written(&checkpoint) != before);
        std::thread::sleep(std::time::Duration::from_millis(u64::from(pseudo_random(number, 20))));
        let _ = child.kill();
        killed += u32::from(child.wait().unwrap().code().is_none());
        // Four steps an epoch.
        in_the_middle += u32::from(!steps_done(&place.read("run/checkpoint.safetensors")).is_multiple_of(4));
    }
    assert!(killed >= 1 && in_the_middle >= 1, "{killed} times killed, {in_the_middle} in an epoch");
    train_with(&place, device, "run", &settings, &["--resume"]);
    assert_same(&place.trained("whole"), &place.trained("run"));
    assert_eq!(place.metrics("whole"), place.metrics("run"));
}

#[test]
fn cpu_killed_and_resumed() {
    killed_and_resumed("cpu", "60", 6);
}

#[test]
fn gpu_killed_and_resumed() {
    killed_and_resumed(Place::new().first_adapter(), "8", 3);
}

/// Same starting values, same masks, another order of the sums: measured 1e-7.
#[test]
fn engines_agree() {
    let place = Place::small();
    let device = place.first_adapter();
    for settings in [
        &[][..],
        &["encoder.pooling=cls", "encoder.pooled_layers=2", "encoder.family=roberta"],
        &["encoder.family=distilbert", "encoder.activation=relu", "encoder.freeze=embeddings"],
        &["encoder.recompute=true", "train.clip_norm=0.05", "encoder.activation=gelu_tanh"],
    ] {
        let settings =
            [&["train.deterministic=true", "train.epochs=6", "optimizer.encoder.lr=0.01"], settings].concat();
        train_with(&place, "cpu", "cpu", &settings, &["--fresh"]);
        train_with(&place, device, "gpu", &settings, &["--fresh"]);
        let [cpu, gpu] = ["cpu", "gpu"].map(|run| losses(&place, run));
        let off = |a: &[f64], b: &[f64]| {
            a.iter().zip(b).fold(0.0_f64, |worst, (a, b)| worst.max((a - b).abs() / a))
        };
        assert!(cpu.len() == 6 && gpu.len() == 6);
        assert!(off(&cpu, &gpu) < 2e-6, "{settings:?}: {cpu:?} on the CPU, {gpu:?} on the GPU");
        // An encoder that is not trained, or that draws other masks, is much further away.
        for change in
            ["optimizer.encoder.lr=1e-12", "encoder.hidden_dropout=0.3", "encoder.attention_dropout=0.3"]
        {
            train_with(&place, "cpu", "other", &[&settings[..], &[change]].concat(), &["--fresh"]);
            let other = off(&cpu, &losses(&place, "other"));
            assert!(other > 2e-5, "{settings:?}: {change} changes the losses by {other:e} only");
        }
    }
}

/// Computing a layer again gives what it gave, bit by bit, with the same masks; and it needs less memory.
#[test]
fn recomputed_layers() {
    let place = Place::small();
    for (device, layers) in [("cpu", 1), ("cpu", 3), (place.first_adapter(), 3)] {
        let layers = format!("encoder.layers={layers}");
        for more in [&[][..], &["encoder.freeze=1"]] {
            let fixed = ["train.deterministic=true", "train.epochs=2", layers.as_str()];
            for (run, recompute) in [("kept", "encoder.recompute=false"), ("again", "encoder.recompute=true")]
            {
                train_with(&place, device, run, &[&fixed, more, &[recompute]].concat(), &["--fresh"]);
            }
            assert_same(&place.trained("kept"), &place.trained("again"));
        }
    }
    let bytes = |recompute: &str| {
        let settings = [
            recompute,
            "encoder.layers=3",
            "encoder.dim=32",
            "encoder.intermediate=64",
            "train.batch_size=64",
        ];
        let mut all =
            vec!["plan", "tiny.toml", "--labels", "50", "--docs", "1000", "--device", "cpu", "--json"];
        settings.iter().for_each(|setting| all.extend(["--set", setting]));
        place.ok(&all).json_lines()[0]["memory"]["bytes"].as_u64().expect("bytes")
    };
    // Of each layer but the last at least queries, keys, values and the attention's result, and what is before the
    // activation, for 64 documents of 16 tokens.
    let least = 2 * 64 * 16 * (4 * 32 + 64) * 4;
    let (kept, again) = (bytes("encoder.recompute=false"), bytes("encoder.recompute=true"));
    assert!(kept >= again + least, "{kept} bytes, {again} with recomputation");
}

/// The numbers of two encoders' tensors side by side, f64.
fn numbers<'a>(a: &'a Tensors, b: &'a Tensors) -> impl Iterator<Item = (f64, f64)> + 'a {
    assert!(a.keys().eq(b.keys()));
    a.iter().flat_map(|(name, tensor)| {
        let pairs = tensor.floats().into_iter().zip(b[name].floats());
        pairs.map(|(a, b)| (f64::from(a), f64::from(b)))
    })
}

/// One step of plain SGD moves the parameters by lr · gradient, and with clipping by lr · clip_norm along the same
/// direction. Each new parameter p is rounded once, by at most |p| · 2⁻²⁴; the gradient's norm and the factor are
/// computed to some 1e-6 (the factor also has 1e-6 added to the norm).
#[test]
fn clipping() {
    const RATE: f64 = 0.5;
    const LIMIT: f64 = 0.01;
    let place = Place::small();
    let step = [
        "optimizer.encoder.kind=sgd",
        "optimizer.encoder.momentum=0",
        "optimizer.encoder.weight_decay=0",
        "optimizer.encoder.schedule=constant",
        "optimizer.encoder.warmup_steps=0",
        "optimizer.encoder.lr=0.5",
        "train.deterministic=true",
    ];
    // All documents in one step of eight micro-batches: the limit is that of their sum.
    let once = [&step[..], &["train.accumulate=8", "train.epochs=1"]].concat();
    for device in both(&place) {
        let run = |name: &str, more: &[&str]| {
            train_with(&place, device, name, &[&once, more].concat(), &["--fresh"]);
            place.encoder(name)
        };
        let start = run("start", &["encoder.freeze=all"]);
        let free = run("free", &[]);
        let clipped = run("clipped", &["train.clip_norm=0.01"]);
        let gradient = norm(numbers(&start, &free).map(|(a, b)| (b - a) / RATE));
        assert!(gradient > 3.0 * LIMIT, "{device}: nothing to clip in a gradient of norm {gradient}");
        let moved = norm(numbers(&start, &clipped).map(|(a, b)| b - a));
        let rounding =
            norm(numbers(&start, &clipped).map(|(a, b)| a.abs().max(b.abs()))) / f64::from(1 << 24);
        let computing = RATE * LIMIT * (1e-6 / gradient + 1e-5);
        assert!(
            (moved - RATE * LIMIT).abs() <= rounding + computing,
            "{device}: moved by {moved}, not {}",
            RATE * LIMIT
        );
        let direction = numbers(&start, &free).map(|(a, b)| (b - a) * (LIMIT / gradient));
        let off = norm(direction.zip(numbers(&start, &clipped)).map(|(wanted, (a, b))| b - a - wanted));
        assert!(off <= 2.0 * rounding + computing, "{device}: {off} beside the gradient's direction");

        // A limit that is never reached changes nothing, whatever the rule.
        for rule in ["optimizer.encoder.kind=adamw", "optimizer.encoder.kind=sgd"] {
            train_with(&place, device, "free", &[&step[..], &[rule]].concat(), &["--fresh"]);
            let never = [&step[..], &[rule, "train.clip_norm=1e20"]].concat();
            train_with(&place, device, "never", &never, &["--fresh"]);
            assert_same(&place.trained("free"), &place.trained("never"));
        }
    }
}

/// What is frozen keeps the very bits of the pretrained weights, weight decay and clipping notwithstanding; what is not
/// frozen is trained.
#[test]
fn frozen_layers() {
    let place = Place::small();
    place.golden("bert", "model");
    let source = place.tensors("model/model.safetensors");
    for device in both(&place) {
        for (freeze, stages) in [("none", 0), ("embeddings", 1), ("1", 2), ("all", 3)] {
            let freeze = format!("encoder.freeze={freeze}");
            let settings =
                ["encoder.init=pretrained", "encoder.model=model", "train.clip_norm=1", freeze.as_str()];
            train_with(&place, device, "run", &settings, &["--fresh"]);
            let trained = place.encoder("run");
            assert!(trained.keys().eq(source.keys()));
            for (name, tensor) in &trained {
                let stage = match name.strip_prefix("encoder.layer.") {
                    Some(rest) => 1 + rest.split('.').next().unwrap().parse::<usize>().unwrap(),
                    None => 0,
                };
                if stage < stages {
                    assert!(*tensor == source[name], "{device}, {freeze}: {name} has changed");
                } else if tensor.shape.len() == 2 {
                    assert!(*tensor != source[name], "{device}, {freeze}: {name} is as it was");
                }
            }
            let losses = losses(&place, "run");
            assert!(losses.is_sorted_by(|a, b| a > b), "{device}, {freeze}: {losses:?}");
        }
    }
}

/// The scores of labels, by docs/model.md, f64: z[l] = bias[l] + Σ weights[l, f] · h[indices[l, f]].
fn scores(model: &Tensors, features: &[f32]) -> Vec<f64> {
    let [labels, fan_in] = model["classifier.weights"].shape[..] else { panic!("a matrix") };
    let (weights, bias) = (model["classifier.weights"].floats(), model["classifier.bias"].floats());
    let indices: Vec<u16> = bytemuck::pod_collect_to_vec(&model["classifier.indices"].bytes);
    let score = |label: usize| {
        let terms = (label * fan_in..(label + 1) * fan_in)
            .map(|slot| f64::from(weights[slot]) * f64::from(features[usize::from(indices[slot])]));
        f64::from(bias[label]) + terms.sum::<f64>()
    };
    (0..labels).map(score).collect()
}

/// A pretrained model is trained on; what comes out needs neither the pretrained folder nor the run around it.
#[test]
fn fine_tuned_model_stands_alone() {
    let place = Place::small();
    place.golden("bert", "model");
    let texts: Vec<String> = (0..40).map(text).collect();
    place.write("texts", texts.join("\n"));
    let settings = [
        "encoder.init=pretrained",
        "encoder.model=model",
        "encoder.layers=1",
        "train.epochs=30",
        "train.evaluate_on=train",
        "train.evaluate_every=0",
        // Predicting on a GPU shall not choose 16-bit products.
        "train.deterministic=true",
    ];
    train(&place, "cpu", "run", &settings);
    let losses = losses(&place, "run");
    assert!(losses[29] < 0.8 * losses[0], "{losses:?}");
    fs::remove_dir_all(place.path("model")).unwrap();
    let measured = place.ok(&["evaluate", "run", "--split", "train", "--json", "--device", "cpu"]);
    let measured = measured.json_lines()[0]["P@1"].as_f64().expect("P@1");
    fs::rename(place.path("run/model"), place.path("alone")).unwrap();
    fs::remove_dir_all(place.path("run")).unwrap();

    let engine = Device::cpu(DeviceOptions::default()).unwrap();
    let encoder = TextEncoder::open(&place.path("alone"), &engine, texts.len()).unwrap();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let features = encoder.encode(&engine, &texts).unwrap();
    let (model, names) = (place.tensors("alone/model.safetensors"), place.text("alone/labels.txt"));
    let names: Vec<&str> = names.lines().collect();
    for device in both(&place) {
        let answers = place.ok(&["predict", "alone", "--input", "texts", "--top", "7", "--device", device]);
        let answers = answers.json_lines();
        assert_eq!(answers.len(), texts.len());
        let mut right = 0;
        for (row, answer) in answers.iter().enumerate() {
            let truth = scores(&model, &features[row * encoder.width()..][..encoder.width()]);
            let listed = answer["labels"].as_array().expect("labels");
            let mut order: Vec<usize> = (0..truth.len()).collect();
            order.sort_by(|a, b| truth[*b].total_cmp(&truth[*a]));
            assert!(listed.len() == 7 && order.len() == 7);
            let largest = truth.iter().fold(1.0_f64, |max, score| max.max(score.abs()));
            for (label, entry) in order.iter().zip(listed) {
                let place_of = names.iter().position(|name| entry["label"] == *name).expect("a label");
                // What is closer than the tolerance may change places.
                let score = entry["score"].as_f64().expect("a score");
                for label in [*label, place_of] {
                    let off = (score - truth[label]).abs();
                    assert!(off < 1e-5 * largest, "{device}, text {row}: {score}, not {}", truth[label]);
                }
            }
            right += usize::from(row < 29 && listed[0]["label"] == label(row));
        }
        assert_eq!(100.0 * right as f64 / 29.0, measured, "{device}");
    }
}
