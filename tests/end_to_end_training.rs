//! Whole runs of the program on both engines: it learns; the same seed gives the same bytes, however many threads
//! compute and however often the run is interrupted; both engines agree.

mod support;

use serde_json::Value;
use support::cli::{Done, Place, assert_same, failed, pseudo_random, signal, wait_until, written};

fn with_data() -> Place {
    let place = Place::new();
    place.synth();
    place
}

fn on(place: &Place, device: &str, run: &str, more: &[&str]) {
    let fixed = ["train", "tiny.toml", "--data", "data", "--out", run, "--device", device];
    place.ok(&[&fixed, more].concat());
}

fn number(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or_else(|| panic!("no {key} in {line}"))
}

/// P@1 in percent of always naming the label that most training documents have.
fn majority_baseline(place: &Place) -> f64 {
    let labels = |split: &str| -> Vec<Vec<String>> {
        let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap()["labels"].clone();
        let lists = place.text(&format!("data/{split}.jsonl"));
        lists.lines().map(|line| serde_json::from_value(parse(line)).unwrap()).collect()
    };
    let mut counts = std::collections::BTreeMap::new();
    labels("train").into_iter().flatten().for_each(|label| *counts.entry(label).or_insert(0) += 1);
    let (most, _) = counts.into_iter().max_by_key(|(_, count)| *count).unwrap();
    let test = labels("test");
    100.0 * test.iter().filter(|labels| labels.contains(&most)).count() as f64 / test.len() as f64
}

/// The majority label is right for some 15 % of the test documents, chance for 3 %; this config comes to about 70 %.
/// 45 % is out of reach for both, and for a model whose classes are learnt but whose encoder is not (measured below).
fn learns(device: &str) {
    let place = with_data();
    on(&place, device, "run", &[]);
    let evaluate = |run: &str| {
        let done = place.ok(&["evaluate", run, "--last", "--json", "--device", device]);
        number(&done.json_lines()[0], "P@1")
    };
    let (reached, baseline) = (evaluate("run"), majority_baseline(&place));
    assert!(baseline < 25.0, "the data are too easy: {baseline}");
    assert!(reached > 45.0, "P@1 {reached}, majority {baseline}");
    let losses: Vec<f64> = place.epochs("run").iter().map(|line| number(line, "loss")).collect();
    assert!(losses.len() == 3 && losses.is_sorted_by(|a, b| a > b), "{losses:?}");
    on(&place, device, "frozen", &["--set", "optimizer.encoder.lr=1e-12"]);
    let frozen = evaluate("frozen");
    assert!(frozen < 45.0, "P@1 {frozen} without training the encoder: the threshold says little");
}

/// One seed, one result; another seed, another.
fn repeats(device: &str) {
    let place = with_data();
    on(&place, device, "a", &[]);
    on(&place, device, "b", &[]);
    on(&place, device, "c", &["--set", "train.seed=43"]);
    assert_same(&place.trained("a"), &place.trained("b"));
    assert_eq!(place.metrics("a"), place.metrics("b"));
    let (a, c) = (place.trained("a"), place.trained("c"));
    for (name, bytes) in &a {
        assert!(bytes != &c[name], "{name} does not depend on the seed");
    }
}

#[test]
fn cpu_learns() {
    learns("cpu");
}

#[test]
fn gpu_learns() {
    learns(with_data().first_adapter());
}

#[test]
fn cpu_repeats() {
    repeats("cpu");
}

#[test]
fn gpu_repeats() {
    repeats(with_data().first_adapter());
}

#[test]
fn threads_do_not_matter() {
    let place = with_data();
    let hidden = ["--set", "encoder.hidden=[24]"];
    for (run, threads) in [("one", "1"), ("two", "2"), ("seven", "7")] {
        on(&place, "cpu", run, &[&["--threads", threads][..], &hidden].concat());
    }
    for run in ["two", "seven"] {
        assert_same(&place.trained("one"), &place.trained(run));
        assert_eq!(place.metrics("one"), place.metrics(run));
    }
}

/// Both engines start from the same numbers and draw the same masks; only the order of their sums differs. Losses stay
/// within 1e-3 (measured 1e-6); of 200 ranked test documents at most 4 may change their first label (measured 0).
#[test]
fn engines_agree() {
    let place = with_data();
    let device = place.first_adapter();
    for more in [&["--set", "encoder.dropout=0.3"][..], &["--set", "encoder.hidden=[24]"]] {
        on(&place, "cpu", "cpu", &[more, &["--fresh"]].concat());
        on(&place, device, "gpu", &[more, &["--fresh"]].concat());
        let (cpu, gpu) = (place.epochs("cpu"), place.epochs("gpu"));
        assert_eq!((cpu.len(), gpu.len()), (3, 3));
        for (cpu, gpu) in cpu.iter().zip(&gpu) {
            let [a, b] = [cpu, gpu].map(|line| number(line, "loss"));
            assert!((a - b).abs() < 1e-3 * a, "loss {a} on the CPU, {b} on the GPU");
            assert_eq!(cpu["rewirings"], gpu["rewirings"]);
        }
        let [a, b] = ["cpu", "gpu"].map(|run| {
            let done = place.ok(&["evaluate", run, "--last", "--json", "--device", "cpu"]);
            number(&done.json_lines()[0], "P@1")
        });
        assert!((a - b).abs() <= 2.0, "P@1 {a} from the CPU, {b} from the GPU");
        // A model does not remember where it was trained.
        let swapped = place.ok(&["evaluate", "cpu", "--last", "--json", "--device", device]);
        let swapped = number(&swapped.json_lines()[0], "P@1");
        assert!((a - swapped).abs() <= 2.0, "P@1 {a} on the CPU, {swapped} on the GPU");
    }
}

const LONG: [&str; 6] =
    ["--set", "train.epochs=20", "--set", "train.checkpoint_every=3", "--set", "encoder.dropout=0.3"];

/// Killed while it begins, and again and again while it trains.
#[test]
fn killed_and_resumed() {
    let place = with_data();
    place.train("whole", &LONG);
    let resume = [&LONG[..], &["--resume"]].concat();
    for number in 0..4 {
        let mut child = place.start("run", &resume);
        std::thread::sleep(std::time::Duration::from_millis(u64::from(pseudo_random(number, 30))));
        let _ = child.kill();
        child.wait().unwrap();
    }
    let checkpoint = place.path("run/checkpoint.safetensors");
    let mut killed = 0;
    for number in 0..5 {
        let before = written(&checkpoint);
        let mut child = place.start("run", &resume);
        // The run has gone on when there is another checkpoint.
        wait_until(&mut child, || written(&checkpoint) != before);
        std::thread::sleep(std::time::Duration::from_millis(u64::from(pseudo_random(100 + number, 12))));
        let _ = child.kill();
        killed += u32::from(child.wait().unwrap().code().is_none());
    }
    assert!(killed >= 1, "the run ended before it was killed even once");
    place.train("run", &resume);
    assert_same(&place.trained("run"), &place.trained("whole"));
    assert_eq!(place.metrics("run"), place.metrics("whole"));
    let epochs: Vec<u64> = place.epochs("run").iter().map(|line| line["epoch"].as_u64().unwrap()).collect();
    assert_eq!(epochs, (1..=20).collect::<Vec<u64>>());
    // Nothing that a killed run was writing is left over, and going on after the end changes nothing.
    let before = place.snapshot("run");
    assert!(!before.keys().any(|name| name.contains(".tmp-")), "{:?}", before.keys());
    place.train("run", &resume);
    assert_same(&before, &place.snapshot("run"));
}

#[test]
fn gpu_run_killed_and_resumed() {
    let place = with_data();
    checkpoints_go_on(&place, place.first_adapter(), &[]);
}

/// Roundings of the steps after a checkpoint are those of the run that was not interrupted.
#[test]
fn narrow_runs_killed_and_resumed() {
    for weights in ["f16", "bf16", "fp8"] {
        let place = with_data();
        let weights = format!("classifier.weights={weights}");
        let device = if weights.ends_with("bf16") { place.first_adapter() } else { "cpu" };
        let moments = ["--set", "classifier.moments=bf16", "--set", "encoder.moments=bf16"];
        checkpoints_go_on(&place, device, &[&["--set", &weights], &moments[..]].concat());
    }
}

/// The order of the rows after a checkpoint is that of the run that was not interrupted.
#[test]
fn grouped_runs_killed_and_resumed() {
    for (grouping, weights) in [("frequency", "f32"), ("random", "bf16"), ("text", "f32")] {
        let place = with_data();
        let settings = [format!("classifier.grouping={grouping}"), format!("classifier.weights={weights}")];
        let device = if grouping == "random" { place.first_adapter() } else { "cpu" };
        let [grouping, weights] = settings.each_ref().map(String::as_str);
        let group = ["--set", "classifier.group=8", "--set", "classifier.fan_in=9"];
        checkpoints_go_on(&place, device, &[&group[..], &["--set", grouping, "--set", weights]].concat());
    }
}

/// Indices in bytes come back from a file of features as they were.
#[test]
fn stratified_runs_killed_and_resumed() {
    for (weights, group) in [("f32", "1"), ("bf16", "8")] {
        let place = with_data();
        let settings = [format!("classifier.weights={weights}"), format!("classifier.group={group}")];
        let device = if group == "1" { place.first_adapter() } else { "cpu" };
        let [weights, group] = settings.each_ref().map(String::as_str);
        let pattern = ["--set", "classifier.pattern=stratified", "--set", "classifier.fan_in=7"];
        checkpoints_go_on(&place, device, &[&pattern[..], &["--set", weights, "--set", group]].concat());
    }
}

fn checkpoints_go_on(place: &Place, device: &str, more: &[&str]) {
    let settings = [&["--set", "train.epochs=6", "--set", "train.checkpoint_every=3"], more].concat();
    on(place, device, "whole", &settings);
    let checkpoint = place.path("run/checkpoint.safetensors");
    let resume = [&settings[..], &["--resume"]].concat();
    let mut killed = 0;
    for _ in 0..3 {
        let before = written(&checkpoint);
        let fixed = ["train", "tiny.toml", "--data", "data", "--out", "run", "--device", device];
        let mut child = place.command(&[&fixed, &resume[..]].concat()).spawn().unwrap();
        wait_until(&mut child, || written(&checkpoint) != before);
        let _ = child.kill();
        killed += u32::from(child.wait().unwrap().code().is_none());
    }
    assert!(killed >= 1, "the run ended before it was killed even once");
    on(place, device, "run", &resume);
    assert_same(&place.trained("run"), &place.trained("whole"));
    assert_eq!(place.metrics("run"), place.metrics("whole"));
}

#[cfg(unix)]
#[test]
fn interrupted_and_resumed() {
    let place = with_data();
    let long = ["--set", "train.epochs=40"];
    place.train("whole", &long);
    for name in ["TERM", "INT"] {
        let done = place.stopped(name, &long, |child| signal(child, name));
        resumes(&place, name, &long, &done);
    }
}

/// A run that was stopped by a signal goes on to the same bytes as the whole one.
#[cfg(unix)]
fn resumes(place: &Place, run: &str, long: &[&str], done: &Done) {
    failed(done, 130, &["stopped after step ", "--resume", run]);
    let step = done.err.rsplit_once("stopped after step ").unwrap().1;
    let step: u64 = step.split(';').next().unwrap().parse().unwrap();
    assert!((25..40 * 25).contains(&step), "{step}");
    // Also a stopped run has a model.
    place.ok(&["evaluate", run, "--device", "cpu"]);
    let resumed = place.train(run, &[long, &["--resume"]].concat());
    assert!(resumed.err.contains(&format!("going on after step {step}")), "{}", resumed.err);
    assert_same(&place.trained(run), &place.trained("whole"));
    assert_eq!(place.metrics(run), place.metrics("whole"));
}

/// Without dropout, two micro-batches of 8 are the batch of 16 in another order of the sums: the same mean over
/// documents. 400 documents are whole steps.
#[test]
fn accumulation_is_a_larger_batch() {
    let place = with_data();
    let plain = ["--set", "encoder.dropout=0"];
    place.train("whole", &plain);
    place.train(
        "halves",
        &[&plain[..], &["--set", "train.batch_size=8", "--set", "train.accumulate=2"]].concat(),
    );
    place.train("small", &[&plain[..], &["--set", "train.batch_size=8"]].concat());
    let losses = |run| place.epochs(run).iter().map(|line| number(line, "loss")).collect::<Vec<f64>>();
    let (whole, halves, small) = (losses("whole"), losses("halves"), losses("small"));
    for (a, b) in whole.iter().zip(&halves) {
        assert!((a - b).abs() < 1e-4 * a, "{whole:?} and {halves:?}");
    }
    // Steps of 8 documents are something else: the comparison can tell.
    assert!((whole[0] - small[0]).abs() > 1e-2 * whole[0], "{whole:?} and {small:?}");
}
