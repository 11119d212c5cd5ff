//! Whole runs with the encoder on one device and the classifier on another (`classifier.device`): they compute what one
//! device computes, resume to the same bytes, and say where everything lies.

mod support;

use regrow::classifier::Ranker;
use regrow::config::Config;
use regrow::data::{Batch, LabelClusters, MicroBatch, Split};
use regrow::device::{Device, DeviceOptions};
use regrow::train::{
    AuxiliarySizes, Calendar, Devices, EncoderSizes, FeedSizes, Model, ModelSizes, Schedules,
};
use serde_json::Value;
use support::cli::{Place, assert_same, wait_until, written};

fn with_data() -> Place {
    let place = Place::new();
    place.synth();
    place
}

/// `--set` before each.
fn set<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    settings.iter().flat_map(|setting| ["--set", setting]).collect()
}

fn arguments<'a>(run: &'a str, device: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["train", "tiny.toml", "--data", "data", "--out", run, "--device", device][..], more].concat()
}

fn number(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or_else(|| panic!("no {key} in {line}"))
}

/// Everything above the encoder that there is.
const ALL: &[&str] = &[
    "intermediate.width=20",
    "intermediate.activation=relu",
    "optimizer.intermediate.lr=0.02",
    "optimizer.intermediate.warmup_steps=5",
    "auxiliary.weight=0.4",
    "auxiliary.cutoff_epoch=2",
    "auxiliary.cluster_size=7",
    "rewire.growth=gradient",
];

/// What lies where, as the settings say it: (--device, classifier.device).
fn both_ways(place: &Place) -> [(&'static str, String); 2] {
    let gpu = place.first_adapter();
    [("cpu", format!("classifier.device={gpu}")), (gpu, "classifier.device=cpu".to_owned())]
}

/// Only the order of sums differs between the engines, as where each runs alone (see `end_to_end_heads`).
#[test]
fn two_devices_compute_what_one_does() {
    let place = with_data();
    for (run, settings) in [("plain", &[][..]), ("all", ALL)] {
        place.ok(&arguments(run, "cpu", &set(settings)));
        let one = place.epochs(run);
        for (device, classifier) in both_ways(&place) {
            let name = format!("{run}-{device}");
            place.ok(&arguments(&name, device, &set(&[settings, &[&classifier]].concat())));
            for (one, two) in one.iter().zip(place.epochs(&name)) {
                for key in ["loss", "auxiliary_loss"].into_iter().filter(|key| !one[key].is_null()) {
                    let [a, b] = [one, &two].map(|line| number(line, key));
                    assert!((a - b).abs() < 1e-3 * a, "{name}: {key} {a} on the CPU, {b} on two devices");
                }
            }
            // The folder does not remember where it was trained, and ranks on one device or two.
            let second = classifier.split_once('=').unwrap().1;
            let evaluate = ["evaluate", &name, "--last", "--json", "--device", device];
            let split = place.ok(&[&evaluate[..], &["--classifier-device", second]].concat());
            let [split, alone] =
                [split, place.ok(&evaluate)].map(|done| number(&done.json_lines()[0], "P@1"));
            assert!(split > 45.0 && (split - alone).abs() <= 1.0, "{name}: P@1 {split} and {alone}");
            let text = "some words of no label\n";
            let predict = ["predict", &name, "--device", device, "--classifier-device", second];
            let done = place.run_with(text, &predict);
            let labels = done.json_lines()[0]["labels"].as_array().map_or(0, Vec::len);
            assert_eq!(labels, 5, "{}", done.err);
        }
    }
}

/// Two devices that are the same engine compute the very bits of one: the crossing changes nothing.
#[test]
fn the_crossing_changes_no_bit() {
    let cpus =
        [0, 0].map(|threads| Device::cpu(DeviceOptions { threads, ..DeviceOptions::default() }).unwrap());
    let [one, two] = [
        losses_and_bits(Devices::from(&cpus[0])),
        losses_and_bits(Devices { encoder: &cpus[0], classifier: &cpus[1] }),
    ];
    assert_eq!(one, two);
}

/// An encoder that is not trained gets nothing back; ranking crosses once.
#[test]
fn fixed_features_cross_one_way() {
    let cpus =
        [0, 0].map(|threads| Device::cpu(DeviceOptions { threads, ..DeviceOptions::default() }).unwrap());
    let settings = ["encoder.kind=features", "encoder.features=nowhere", "classifier.fan_in=3"];
    let config = Config::with_settings(&settings.map(str::to_owned)).unwrap();
    let sizes = ModelSizes {
        encoder: EncoderSizes::Features(6),
        labels: 5,
        auxiliary: None,
        train_batch: 3,
        feed: FeedSizes { positives: 4, filtered: 1, ..FeedSizes::of_documents(3, 3, 1) },
        bias_init: -0.5,
        max_block_rows: 0,
    };
    let batch = Batch {
        documents: vec![0, 1, 2],
        positives: vec![[0, 1], [2, 0], [2, 2], [4, 1]],
        features: (0..18).map(|i| (i * 7 % 11) as f32 / 4.0 - 1.0).collect(),
        micro_batches: vec![MicroBatch {
            offsets: vec![0; 4],
            bucket_offsets: vec![0],
            ..MicroBatch::default()
        }],
        ..Batch::default()
    };
    let schedules = Schedules::new(&config, &Calendar::new(&config, 30));
    let results = |devices: Devices<'_>| {
        let model = Model::new(devices, &config, sizes).unwrap();
        let losses: Vec<u32> = (0..4)
            .map(|step| model.train_step(devices, &config, &schedules, &batch, step).unwrap())
            .map(|outcome| outcome.loss(devices).unwrap().to_bits())
            .collect();
        let ranker = Ranker::new(devices.classifier, &model.classifier, 5, 3).unwrap();
        let filter = |document: usize| if document == 1 { vec![4] } else { Vec::new() };
        let ranked = model.rank(devices, &ranker, &batch, &filter).unwrap().collect(devices).unwrap();
        assert_eq!(ranked.iter().map(Vec::len).collect::<Vec<_>>(), [5, 4, 5]);
        (losses, ranked)
    };
    let one = results(Devices::from(&cpus[0]));
    assert!(one.0[3] < one.0[0], "the loss falls");
    assert_eq!(one, results(Devices { encoder: &cpus[0], classifier: &cpus[1] }));
}

/// Some steps of a small model with everything on it: the losses, and then the encoder's numbers, as bits.
fn losses_and_bits(devices: Devices<'_>) -> Vec<u32> {
    let more = [
        "encoder.dim=8",
        "encoder.hidden=[6]",
        "classifier.fan_in=3",
        "train.batch_size=4",
        "train.epochs=9",
    ];
    let settings: Vec<String> =
        ALL.iter().filter(|s| !s.contains("growth")).chain(&more).map(|s| (*s).to_owned()).collect();
    let config = Config::with_settings(&settings).unwrap();
    let clusters = LabelClusters::new(vec![0, 1, 2, 0, 1]).unwrap();
    let sizes = ModelSizes {
        encoder: EncoderSizes::Bag { vocabulary: 11 },
        labels: 5,
        auxiliary: Some(AuxiliarySizes { clusters: 3, bias_init: -0.25 }),
        train_batch: 4,
        feed: FeedSizes { positives: 8, ..FeedSizes::of_documents(4, 4, 4) },
        bias_init: -0.5,
        max_block_rows: 0,
    };
    let model = Model::new(devices, &config, sizes).unwrap();
    let document = |i: u32| (vec![i, (i * 3 + 1) % 11, 10 - i], vec![i % 5, (i + 2) % 5]);
    let documents = (0..4).map(document).map(|(tokens, mut labels): (Vec<u32>, Vec<u32>)| {
        labels.sort_unstable();
        (tokens, labels)
    });
    let split = Split::from_documents(documents.collect::<Vec<_>>());
    let schedules = Schedules::new(&config, &Calendar::new(&config, 40));
    let mut bits = Vec::new();
    for step in 0..5 {
        let mut batch = Batch::assemble(&split, &[0, 1, 2, 3], 4);
        batch.find_clusters(&clusters);
        let outcome = model.train_step(devices, &config, &schedules, &batch, step).unwrap();
        let losses = outcome.losses(devices).unwrap();
        bits.extend([losses.main, losses.auxiliary.unwrap()].map(f32::to_bits));
    }
    for parameter in model.encoder.parameters() {
        bits.extend(devices.encoder.read_vec::<u32>(&parameter.values, parameter.len()).unwrap());
    }
    bits
}

/// Twelve documents a step in micro-batches of four, and a last step of four and one.
const MICRO_BATCHES: &[&str] = &["train.accumulate=3", "train.deterministic=true"];

/// The bound is that of the engines alone (see `end_to_end_transformer`).
#[test]
fn micro_batches_cross_between_engines() {
    let place = Place::small();
    let losses =
        |run: &str| -> Vec<f64> { place.epochs(run).iter().map(|line| number(line, "loss")).collect() };
    let settings = [MICRO_BATCHES, &["train.epochs=6"]].concat();
    place.ok(&arguments("one", "cpu", &set(&settings)));
    let one = losses("one");
    assert!(one.len() == 6 && one[5] < one[0]);
    for (device, classifier) in both_ways(&place) {
        place.ok(&arguments(device, device, &set(&[&settings[..], &[&classifier]].concat())));
        for (one, two) in one.iter().zip(losses(device)) {
            assert!((one - two).abs() < 2e-6 * one, "{device} and {classifier}: {two}, {one} on the CPU");
        }
    }
}

fn killed_and_resumed(device: &str, settings: &[&str], place: &Place) {
    let more = set(settings);
    place.ok(&arguments("whole", device, &[&more[..], &["--fresh"]].concat()));
    let resume = [&more[..], &["--resume"]].concat();
    let checkpoint = place.path("run/checkpoint.safetensors");
    let mut killed = 0;
    for _ in 0..3 {
        let before = written(&checkpoint);
        let mut child = place.command(&arguments("run", device, &resume)).spawn().unwrap();
        wait_until(&mut child, || written(&checkpoint) != before);
        let _ = child.kill();
        killed += u32::from(child.wait().unwrap().code().is_none());
    }
    assert!(killed >= 1, "the run ended before it was killed even once");
    place.ok(&arguments("run", device, &resume));
    assert_same(&place.trained("run"), &place.trained("whole"));
    assert_eq!(place.metrics("run"), place.metrics("whole"));
}

const LONG: &[&str] = &["train.epochs=6", "train.checkpoint_every=3"];

#[test]
fn a_run_to_the_gpu_killed_and_resumed() {
    let place = with_data();
    let [(device, classifier), _] = both_ways(&place);
    killed_and_resumed(device, &[ALL, LONG, &[&classifier]].concat(), &place);
}

#[test]
fn a_run_to_the_cpu_killed_and_resumed() {
    let place = with_data();
    let [_, (device, classifier)] = both_ways(&place);
    killed_and_resumed(device, &[ALL, LONG, &[&classifier]].concat(), &place);
}

#[test]
fn a_run_of_micro_batches_killed_and_resumed() {
    for way in 0..2 {
        let place = Place::small();
        let (device, classifier) = &both_ways(&place)[way];
        let settings = ["train.epochs=8", "train.checkpoint_every=1", classifier];
        killed_and_resumed(device, &[MICRO_BATCHES, &settings].concat(), &place);
    }
}

/// Each device is named with what lies on it, and another may be taken when the run goes on.
#[test]
fn files_tell_what_lies_where() {
    let place = with_data();
    let [(device, classifier), _] = both_ways(&place);
    place.ok(&arguments("run", device, &set(&[&classifier])));
    let json = |name: &str| serde_json::from_slice::<Value>(&place.read(name)).unwrap();
    let (where_, plan) = (json("run/device.json"), json("run/plan.json"));
    let second = &plan["classifier_device"];
    assert_eq!([&where_["device"], &where_["classifier_device"]], [&plan["device"], &second["device"]]);
    assert_ne!(plan["device"], second["device"]);
    let names = |plan: &Value| -> Vec<String> {
        let buffers = plan["memory"]["buffers"].as_array().unwrap();
        buffers.iter().map(|buffer| buffer["name"].as_str().unwrap().to_owned()).collect()
    };
    let [encoder, heads] = [&plan, second].map(names);
    let has = |names: &[String], name: &str| names.iter().any(|known| known == name);
    for (name, below) in [
        ("encoder.embedding.weight", true),
        ("classifier weights", false),
        ("losses", false),
        ("features", false),
    ] {
        assert_eq!([has(&encoder, name), has(&heads, name)], [below, !below], "{name}");
    }
    let planned =
        plan["memory"]["peak_bytes"].as_u64().unwrap() + second["memory"]["peak_bytes"].as_u64().unwrap();
    let taken = json("run/memory.json")["buffers_peak_bytes"].as_u64().unwrap();
    assert!(taken >= planned / 2 && taken < 2 * planned, "{taken} of {planned}");
    let report = place.ok(&["report", "run"]);
    assert!(report.out.contains("report.html"));
    let lines =
        place.ok(&["plan", "tiny.toml", "--labels", "100", "--device", device, "--set", &classifier]).out;
    assert!(lines.contains("encoder on CPU") && lines.contains("\nclassifier on "), "{lines}");
    // The same device by another way is one device.
    place.ok(&arguments("same", "cpu", &set(&["classifier.device=CPU"])));
    assert!(json("same/device.json")["classifier_device"].is_null());
    // Where a run goes on is free.
    place.ok(&arguments("run", "cpu", &["--resume"]));
}

#[test]
fn a_device_that_does_not_exist() {
    let place = with_data();
    place.train("run", &[]);
    let what = ["classifier.device", "no adapter matches `nosuch`"];
    place.fails(&arguments("other", "cpu", &set(&["classifier.device=nosuch"])), 3, &what);
    let plan =
        ["plan", "tiny.toml", "--labels", "100", "--device", "cpu", "--set", "classifier.device=nosuch"];
    place.fails(&plan, 3, &what);
    let evaluate = ["evaluate", "run", "--device", "cpu", "--classifier-device", "nosuch"];
    place.fails(&evaluate, 3, &["--classifier-device", "no adapter matches `nosuch`"]);
    for verb in ["evaluate", "predict"] {
        let done = place.run(&[verb, "run", "--device", "cpu", "--classifier-device", ""]);
        assert_eq!(done.code, Some(2), "{}", done.err);
        assert!(done.err.starts_with("error: a value is required for '--classifier-device "), "{}", done.err);
    }
}

/// A driver that computes on the processor takes memory of the process that is no buffer's.
#[test]
fn drivers_of_software_are_planned() {
    let place = with_data();
    let gpu = place.first_adapter();
    let software = place.ok(&["devices", "--json"]).json_lines()[0]["adapters"][0]["kind"] == "software_gpu";
    let classifier = format!("classifier.device={gpu}");
    for (settings, wanted) in
        [(["--device", gpu], software), (["--set", &classifier], software), (["--device", "cpu"], false)]
    {
        let lines = place.ok(&[&["plan", "tiny.toml", "--labels", "100"], &settings[..]].concat()).out;
        assert_eq!(lines.contains("the driver and its compiler"), wanted, "{settings:?}: {lines}");
    }
}
