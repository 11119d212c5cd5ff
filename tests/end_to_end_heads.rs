//! Whole runs with a dense classifier, an intermediate layer and an auxiliary objective, on both engines: they learn,
//! resume to the same bytes, and their model folders hold what was trained.

mod support;

use std::collections::BTreeMap;

use safetensors::SafeTensors;
use serde_json::Value;
use support::cli::{Place, assert_same, wait_until, written};

fn with_data() -> Place {
    let place = Place::new();
    place.synth();
    place
}

fn on(place: &Place, device: &str, run: &str, more: &[&str]) {
    let fixed = ["train", "tiny.toml", "--data", "data", "--out", run, "--device", device];
    place.ok(&[&fixed, more].concat());
}

/// `--set` before each.
fn set<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    settings.iter().flat_map(|setting| ["--set", setting]).collect()
}

fn number(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or_else(|| panic!("no {key} in {line}"))
}

const DENSE: &[&str] = &["classifier.head=dense"];
/// Two layers take longer than one to learn.
const BOTTLENECK: &[&str] = &[
    "classifier.head=bottleneck",
    "classifier.fan_in=12",
    "intermediate.activation=gelu",
    "optimizer.intermediate.lr=0.05",
    "optimizer.intermediate.warmup_steps=10",
    "train.epochs=6",
];
/// Fixed fan-in behind an intermediate layer, with an auxiliary objective in the first two epochs.
const ALL: &[&str] = &[
    "intermediate.width=20",
    "intermediate.activation=relu",
    "optimizer.intermediate.lr=0.02",
    "optimizer.intermediate.warmup_steps=5",
    "auxiliary.weight=0.4",
    "auxiliary.cutoff_epoch=2",
    "auxiliary.cluster_size=7",
    "optimizer.auxiliary.lr=0.02",
    "optimizer.auxiliary.warmup_steps=5",
];

/// Always naming the most frequent label is right for some 15 % of the test documents (see `end_to_end_training`); 45 %
/// is out of reach for whoever has not learnt the pattern. These come to 72, 58 and some 55 %.
fn learns(device: &str) {
    let place = with_data();
    let all = [ALL, &["train.epochs=5"]].concat();
    for (run, settings) in [("dense", DENSE), ("bottleneck", BOTTLENECK), ("all", &all)] {
        on(&place, device, run, &set(settings));
        let done = place.ok(&["evaluate", run, "--last", "--json", "--device", device]);
        let reached = number(&done.json_lines()[0], "P@1");
        assert!(reached > 45.0, "{run}: P@1 {reached}");
        let losses: Vec<f64> = place.epochs(run).iter().map(|line| number(line, "loss")).collect();
        assert!(losses.len() >= 3 && losses.is_sorted_by(|a, b| a > b), "{run}: {losses:?}");
        // A dense layer is never rewired.
        let rewirings: f64 = place.epochs(run).iter().map(|line| number(line, "rewirings")).sum();
        assert_eq!(rewirings > 0.0, run == "all", "{run}: {rewirings} rewirings");
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

/// Both engines start from the same numbers; only the order of their sums differs.
#[test]
fn engines_agree() {
    let place = with_data();
    let device = place.first_adapter();
    for (run, settings) in [("dense", DENSE), ("all", ALL)] {
        let [cpu, gpu] =
            [("cpu", format!("{run}-cpu")), (device, format!("{run}-gpu"))].map(|(device, run)| {
                on(&place, device, &run, &set(settings));
                place.epochs(&run)
            });
        for (cpu, gpu) in cpu.iter().zip(&gpu) {
            for key in ["loss", "auxiliary_loss"].into_iter().filter(|key| !cpu[key].is_null()) {
                let [a, b] = [cpu, gpu].map(|line| number(line, key));
                assert!((a - b).abs() < 1e-3 * a, "{run}: {key} {a} on the CPU, {b} on the GPU");
            }
        }
    }
}

/// The weight follows its cosine over the optimizer steps of its epochs, whatever a step accumulates, and the objective
/// ends with them.
#[test]
fn the_auxiliary_objective_is_logged_and_ends() {
    let place = with_data();
    let accumulated = ["train.batch_size=8", "train.accumulate=2"];
    place.train("run", &set(&[ALL, &accumulated].concat()));
    let epochs = place.epochs("run");
    let steps = epochs[0]["step"].as_u64().unwrap();
    assert_eq!(steps, 25);
    for (epoch, line) in epochs.iter().enumerate() {
        if epoch >= 2 {
            assert!(line["auxiliary_loss"].is_null() && line["auxiliary_weight"].is_null(), "{line}");
            continue;
        }
        let done = ((epoch as u64 + 1) * steps - 1) as f64;
        let weight = 0.2 * (1.0 + (std::f64::consts::PI * done / (2 * steps) as f64).cos());
        assert!((number(line, "auxiliary_weight") - weight).abs() < 1e-12, "{line}");
    }
    let [first, second] = [0, 1].map(|epoch| number(&epochs[epoch], "auxiliary_loss"));
    assert!(second < first, "the auxiliary head learns: {first}, {second}");
    // It changes the run, and at weight 0 it is not there at all.
    let off: Vec<&str> = ALL.iter().copied().filter(|setting| !setting.starts_with("auxiliary.")).collect();
    place.train("off", &set(&[&off, &accumulated[..]].concat()));
    assert!(place.epochs("off").iter().all(|line| line["auxiliary_loss"].is_null()));
    assert!(
        place.trained("off")["model/model.safetensors"] != place.trained("run")["model/model.safetensors"]
    );
}

#[test]
fn repeats_whatever_the_threads() {
    let place = with_data();
    let all = [ALL, &["encoder.dropout=0.3"]].concat();
    let dense = [ALL, &["classifier.head=dense"]].concat();
    for (name, settings) in [("all", all), ("dense", dense)] {
        for threads in ["1", "3"] {
            let run = format!("{name}{threads}");
            on(&place, "cpu", &run, &[&["--threads", threads][..], &set(&settings)].concat());
        }
        let [one, three] = ["1", "3"].map(|threads| place.trained(&format!("{name}{threads}")));
        assert_same(&one, &three);
    }
}

/// Killed in the middle of the auxiliary objective and after it, again and again.
fn killed_and_resumed(device: &str, settings: &[&str], kills: usize) {
    let place = with_data();
    let settings = set(&[
        settings,
        &["train.epochs=8", "train.checkpoint_every=3", "auxiliary.cutoff_epoch=6"],
    ]
    .concat());
    on(&place, device, "whole", &settings);
    let resume = [&settings[..], &["--resume"]].concat();
    let checkpoint = place.path("run/checkpoint.safetensors");
    let mut killed = 0;
    for _ in 0..kills {
        let before = written(&checkpoint);
        let fixed = ["train", "tiny.toml", "--data", "data", "--out", "run", "--device", device];
        let mut child = place.command(&[&fixed, &resume[..]].concat()).spawn().unwrap();
        // The run has gone on when there is another checkpoint.
        wait_until(&mut child, || written(&checkpoint) != before);
        let _ = child.kill();
        killed += u32::from(child.wait().unwrap().code().is_none());
    }
    assert!(killed >= 1, "the run ended before it was killed even once");
    on(&place, device, "run", &resume);
    assert_same(&place.trained("run"), &place.trained("whole"));
    assert_eq!(place.metrics("run"), place.metrics("whole"));
}

#[test]
fn cpu_run_killed_and_resumed() {
    killed_and_resumed("cpu", ALL, 5);
}

#[test]
fn gpu_run_killed_and_resumed() {
    let dense = [ALL, &["classifier.head=dense"]].concat();
    killed_and_resumed(with_data().first_adapter(), &dense, 2);
}

/// Names and shapes of the tensors in a file.
fn shapes(place: &Place, file: &str) -> BTreeMap<String, Vec<usize>> {
    let bytes = place.read(file);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect()
}

/// What the trainer measured in its last epoch is what the folder gives; and the folder holds what `docs/model.md` says.
#[test]
fn model_folders_hold_what_was_trained() {
    let place = with_data();
    for (run, settings) in [("dense", DENSE), ("bottleneck", BOTTLENECK), ("all", ALL)] {
        place.train(run, &set(&[settings, &["train.evaluate_on=test"]].concat()));
        let epochs = place.epochs(run);
        let done = place.ok(&["evaluate", run, "--last", "--json", "--device", "cpu"]);
        for metric in ["P@1", "P@5", "nDCG@3", "PSP@5"] {
            assert_eq!(done.json_lines()[0][metric], epochs[epochs.len() - 1][metric], "{run}: {metric}");
        }
        let description: Value =
            serde_json::from_str(&place.text(&format!("{run}/model/config.json"))).unwrap();
        let model = shapes(&place, &format!("{run}/model/model.safetensors"));
        let checkpoint = shapes(&place, &format!("{run}/checkpoint.safetensors"));
        assert!(model.keys().all(|name| !name.starts_with("auxiliary.")), "{run}: {:?}", model.keys());
        assert_eq!(checkpoint.contains_key("auxiliary.weights.second"), run == "all");
        assert_eq!(model.contains_key("classifier.indices"), run == "all");
        let (width, seen) = match run {
            "dense" => (None, 16),
            "bottleneck" => (Some(12), 12),
            _ => (Some(20), 20),
        };
        assert_eq!(description["classifier"]["features"], seen, "{run}");
        assert_eq!(description["intermediate"]["width"].as_u64(), width.map(|width| width as u64), "{run}");
        assert_eq!(model.get("intermediate.weight"), width.map(|width| vec![width, 16]).as_ref(), "{run}");
        assert_eq!(checkpoint.contains_key("intermediate.bias.second"), width.is_some(), "{run}");
        let connections = if run == "all" { 4 } else { seen };
        assert_eq!(model["classifier.weights"], [60, connections], "{run}");
    }
}

#[test]
fn settings_that_cannot_work() {
    let place = with_data();
    let fails = |settings: &[&str], what: &[&str]| {
        let fixed = ["train", "tiny.toml", "--data", "data", "--out", "run", "--device", "cpu"];
        place.fails(&[&fixed[..], &set(settings)].concat(), 2, what);
    };
    fails(&["auxiliary.weight=1.5"], &["auxiliary.weight", "from 0 to 1", "1.5"]);
    fails(&["auxiliary.weight=nan"], &["auxiliary.weight"]);
    fails(&["auxiliary.weight=0.4"], &["auxiliary.cutoff_epoch", "5 is beyond the run", "3 epochs"]);
    fails(&["auxiliary.weight=0.4", "auxiliary.cutoff_epoch=0"], &["auxiliary.cutoff_epoch", "at least 1"]);
    fails(&["auxiliary.cluster_size=0"], &["auxiliary.cluster_size", "at least 1"]);
    let clusters = ["auxiliary.weight=0.4", "auxiliary.cutoff_epoch=3", "auxiliary.clusters=nosuch"];
    fails(&clusters, &["auxiliary.clusters", "nosuch", "random"]);
    let twice = ["classifier.head=bottleneck", "intermediate.width=8"];
    fails(&twice, &["intermediate.width", "bottleneck"]);
    fails(&["intermediate.width=3"], &["classifier.fan_in", "4 is more than the 3 outputs"]);
    fails(&["classifier.head=sparse"], &["classifier.head"]);
    fails(&["optimizer.auxiliary.lr=0"], &["optimizer.auxiliary.lr"]);
    let frozen =
        ["auxiliary.weight=0.4", "auxiliary.cutoff_epoch=3", "encoder.kind=features", "encoder.features=f"];
    fails(&frozen, &["auxiliary.weight", "not trained"]);
    // A wide fan-in is no matter to a dense layer.
    place.train("run", &set(&["classifier.head=dense", "classifier.fan_in=1000", "train.epochs=1"]));
}
