//! Features as a file: `regrow encode` writes what the library computes, on both engines, and a classifier alone trains
//! on them as on any encoder.

mod support;

use std::fs;
use std::process::Stdio;

use regrow::config::Config;
use regrow::device::{Device, DeviceOptions};
use regrow::train::{EncoderSource, TextEncoder};
use serde_json::Value;
use support::cli::{Place, assert_same, failed, wait_until, written};
use support::models::{Stored, jsonl, serialized, text};

const SPLITS: [(&str, std::ops::Range<usize>); 3] = [("train", 0..29), ("dev", 100..106), ("test", 200..213)];

/// Kernels by the kind of the device, not by the clock.
const FIXED: &str = "train.deterministic=true";

/// A classifier on features; steps of eight.
const FEATURES: &str = "\
[encoder]
kind = \"features\"
features = \"features\"
dropout = 0.1
[classifier]
fan_in = 12
bias_init = -1.0
[rewire]
interval = 3
[optimizer.classifier]
lr = 0.05
warmup_steps = 4
[train]
batch_size = 8
epochs = 4
";

/// A place with three splits, the golden BERT in `model`, and `tiny.toml` for features.
fn place() -> Place {
    let place = Place::small();
    for (split, numbers) in SPLITS {
        place.write(&format!("data/{split}.jsonl"), jsonl(numbers));
    }
    place.golden("bert", "model");
    place.write("tiny.toml", FEATURES);
    place
}

/// A place with the features of all splits.
fn encoded() -> Place {
    let place = place();
    fs::create_dir(place.path("features")).unwrap();
    for (split, _) in SPLITS {
        let (input, output) = (format!("data/{split}.jsonl"), format!("features/{split}.safetensors"));
        encode(&place, "cpu", "model", &input, &output, &["--max-tokens", "16"]);
    }
    place
}

fn encode(place: &Place, device: &str, model: &str, input: &str, output: &str, more: &[&str]) {
    let fixed = ["encode", model, "--input", input, "--output", output, "--device", device];
    place.ok(&[&fixed, more].concat());
}

fn train(place: &Place, device: &str, run: &str, more: &[&str]) {
    let fixed = ["train", "tiny.toml", "--data", "data", "--out", run, "--device", device];
    place.ok(&[&fixed, more].concat());
}

/// The matrix that a file of `regrow encode` holds.
fn matrix(place: &Place, name: &str) -> (Vec<f32>, usize) {
    let tensors = place.tensors(name);
    assert_eq!(tensors.keys().collect::<Vec<_>>(), ["features"]);
    (tensors["features"].floats(), tensors["features"].shape[1])
}

fn open(device: &str) -> Device {
    Device::open(Some(device), DeviceOptions::default()).unwrap()
}

/// Rows of a library's encoder, so many texts at once.
fn rows(device: &Device, encoder: &TextEncoder, texts: &[String], batch: usize) -> Vec<f32> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    texts.chunks(batch).flat_map(|texts| encoder.encode(device, texts).unwrap()).collect()
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

#[test]
fn features_of_a_pretrained_model() {
    let place = place();
    let texts: Vec<String> = SPLITS[0].1.clone().map(text).collect();
    for name in ["bert", "roberta"] {
        place.golden(name, name);
        for (settings, width) in
            [(&[][..], 1), (&["encoder.pooling=cls", "encoder.pooled_layers=2", "encoder.layers=2"], 2)]
        {
            let mut widths = Vec::new();
            let mut on_the_cpu = Vec::new();
            for device in ["cpu", place.first_adapter()] {
                let engine = open(device);
                let folder = place.path(name).to_string_lossy().into_owned();
                // The program and this test have caches of their own: a measured choice of kernels might differ.
                let own = ["encoder.kind=transformer", "data.max_tokens=16", "train.batch_size=5", FIXED];
                let all: Vec<String> = own.iter().chain(settings).map(|&setting| setting.into()).collect();
                let config =
                    Config::with_settings(&[&all[..], &[format!("encoder.model={folder}")]].concat())
                        .unwrap();
                let source = EncoderSource::find(&config, &mut |_| Ok(())).unwrap();
                let encoder = TextEncoder::pretrained(&engine, &config, &source, 5).unwrap();
                let expected = rows(&engine, &encoder, &texts, 5);

                let mut more = vec!["--max-tokens", "16", "--batch", "5", "--set", FIXED];
                settings.iter().for_each(|setting| more.extend(["--set", setting]));
                encode(&place, device, name, "data/train.jsonl", "out.safetensors", &more);
                let (got, columns) = matrix(&place, "out.safetensors");
                assert_eq!((got.len(), columns), (29 * encoder.width(), encoder.width()));
                assert!(bits(&got) == bits(&expected), "{name} on {device}: not what the library gives");
                // Other texts in the batch are nothing to a text.
                more[3] = "29";
                encode(&place, device, name, "data/train.jsonl", "out.safetensors", &more);
                assert!(bits(&matrix(&place, "out.safetensors").0) == bits(&got), "{name} on {device}");
                widths.push(columns);
                if device == "cpu" {
                    on_the_cpu = got;
                } else {
                    let far = on_the_cpu.iter().zip(&got).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(far < 1e-5, "{name}: the engines differ by {far:e}");
                }
            }
            let hidden = if name == "bert" { 32 } else { 36 };
            assert_eq!(widths, [width * hidden; 2]);
        }
    }
}

#[test]
fn features_of_a_run() {
    let place = place();
    let texts: Vec<String> = SPLITS[2].1.clone().map(text).collect();
    let kinds: [(&str, &[&str]); 2] = [
        ("transformer", &["encoder.model=model", "data.max_tokens=16", "encoder.layers=1"]),
        ("bag", &["encoder.dim=16", "encoder.hidden=[24]"]),
    ];
    for (kind, settings) in kinds {
        let kind = format!("encoder.kind={kind}");
        let mut more = vec!["--set", &kind, "--fresh", "--set", FIXED];
        settings.iter().for_each(|setting| more.extend(["--set", setting]));
        train(&place, "cpu", "run", &more);
        let best = place.path("run/best");
        assert!(best.is_dir(), "dev chooses a model");
        for device in ["cpu", place.first_adapter()] {
            let engine = open(device);
            for (model, folder) in [("run", "run/best"), ("run/model", "run/model")] {
                let encoder = TextEncoder::open(&place.path(folder), &engine, 4).unwrap();
                let expected = rows(&engine, &encoder, &texts, 4);
                encode(&place, device, model, "data/test.jsonl", "out.safetensors", &["--batch", "4"]);
                let (got, _) = matrix(&place, "out.safetensors");
                assert!(bits(&got) == bits(&expected), "{kind} on {device}: {model}");
            }
        }
    }
}

/// P@1 in percent, from the files alone: docs/model.md.
fn precision(place: &Place, model: &str, split: &str) -> f64 {
    let tensors = place.tensors(&format!("{model}/model.safetensors"));
    let names = place.text(&format!("{model}/labels.txt"));
    let (features, width) = matrix(place, &format!("features/{split}.safetensors"));
    let [_, fan_in] = tensors["classifier.weights"].shape[..] else { panic!("a matrix") };
    let (weights, bias) = (tensors["classifier.weights"].floats(), tensors["classifier.bias"].floats());
    let indices: Vec<u16> = bytemuck::pod_collect_to_vec(&tensors["classifier.indices"].bytes);
    let lines = place.text(&format!("data/{split}.jsonl"));
    let right = lines.lines().zip(features.chunks_exact(width)).filter(|(line, row)| {
        let score = |label: usize| {
            let slots = label * fan_in..(label + 1) * fan_in;
            let terms =
                slots.map(|slot| f64::from(weights[slot]) * f64::from(row[usize::from(indices[slot])]));
            f64::from(bias[label]) + terms.sum::<f64>()
        };
        let best = (0..bias.len()).max_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap();
        let line: Value = serde_json::from_str(line).unwrap();
        line["labels"][0] == names.lines().nth(best).unwrap()
    });
    100.0 * right.count() as f64 / lines.lines().count() as f64
}

#[test]
fn a_classifier_learns_on_features() {
    let place = encoded();
    for device in ["cpu", place.first_adapter()] {
        let settings = ["train.epochs=60", "classifier.fan_in=32", "rewire.interval=30"];
        let settings = settings.map(|setting| ["--set", setting]).concat();
        train(&place, device, "run", &[&settings[..], &["--fresh"]].concat());
        for split in ["train", "dev", "test"] {
            let last = ["evaluate", "run", "--last", "--split", split, "--json", "--device", device];
            let reached = place.ok(&last).json_lines()[0]["P@1"].as_f64().expect("P@1");
            let counted = precision(&place, "run/model", split);
            // A percentage of at most 29 documents, divided in another order.
            assert!((reached - counted).abs() < 1e-9, "{reached} and {counted}, {split} on {device}");
            // Seven labels of equal size: 14 % by chance.
            assert!(split != "train" || reached > 80.0, "P@1 {reached} on {device}");
        }
        assert_eq!(place.epochs("run").len(), 60);
        assert!(place.path("run/best").is_dir(), "dev chooses a model");
    }
}

/// Twice the same, on any number of threads, and also when it is killed in between.
#[test]
fn same_bits_however_interrupted() {
    let place = encoded();
    let settings = ["--set", "train.epochs=40", "--set", "train.checkpoint_every=1"];
    for device in ["cpu", place.first_adapter()] {
        let [whole, again, run] = ["whole", "again", "run"].map(|name| format!("{name}{device}"));
        train(&place, device, &whole, &settings);
        train(&place, device, &again, &[&settings[..], &["--threads", "1"]].concat());
        assert_same(&place.trained(&whole), &place.trained(&again));
        let resume = [&settings[..], &["--resume"]].concat();
        let checkpoint = place.path(&format!("{run}/checkpoint.safetensors"));
        let mut killed = 0;
        for _ in 0..3 {
            let before = written(&checkpoint);
            let fixed = ["train", "tiny.toml", "--data", "data", "--out", &run, "--device", device];
            let mut command = place.command(&[&fixed, &resume[..]].concat());
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            wait_until(&mut child, || written(&checkpoint) != before);
            let _ = child.kill();
            killed += u32::from(child.wait().unwrap().code().is_none());
        }
        assert!(killed >= 1, "the run ended before it was killed even once");
        train(&place, device, &run, &resume);
        assert_same(&place.trained(&whole), &place.trained(&run));
        assert_eq!(place.metrics(&whole), place.metrics(&run));
    }
}

/// A file of NumPy's format, version 1, as `numpy.save` writes it.
fn npy(numbers: &[f32], width: usize) -> Vec<u8> {
    let shape = format!("({}, {width})", numbers.len() / width);
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    let header = format!("{header:<117}\n");
    let length = (header.len() as u16).to_le_bytes();
    let numbers = numbers.iter().flat_map(|number| number.to_le_bytes());
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes()].concat().into_iter().chain(numbers).collect()
}

#[test]
fn arrays_of_numpy_are_the_same() {
    let place = encoded();
    train(&place, "cpu", "tensors", &[]);
    for (split, _) in SPLITS {
        let name = format!("features/{split}.safetensors");
        let (numbers, width) = matrix(&place, &name);
        fs::remove_file(place.path(&name)).unwrap();
        place.write(&format!("features/{split}.npy"), npy(&numbers, width));
    }
    train(&place, "cpu", "arrays", &[]);
    assert_same(&place.trained("tensors"), &place.trained("arrays"));
    assert_eq!(place.metrics("tensors"), place.metrics("arrays"));
    let (mut numbers, width) = (vec![0.0; 29 * 32], 32);
    numbers[5] = 1.0;
    place.write("features/train.npy", npy(&numbers, width));
    train(&place, "cpu", "others", &[]);
    assert!(place.trained("arrays") != place.trained("others"), "the features do not matter");
}

/// A matrix as a file that regrow reads.
fn file(rows: usize, width: usize) -> Vec<u8> {
    let numbers: Vec<f32> = (0..rows * width).map(|i| (i % 13) as f32 - 6.0).collect();
    serialized(&[("features".to_owned(), Stored::f32s(&[rows, width], &numbers))].into())
}

#[test]
fn features_that_do_not_fit() {
    let place = encoded();
    train(&place, "cpu", "run", &[]);
    let fresh = ["train", "tiny.toml", "--data", "data", "--out", "run", "--fresh", "--device", "cpu"];
    let fails = |what: &[&str]| {
        place.fails(&fresh, 2, &[&["config encoder.features: "], what].concat());
    };
    let wrong = |split: &str, bytes: &[u8], what: &[&str]| {
        let name = format!("features/{split}.safetensors");
        let whole = place.read(&name);
        place.write(&name, bytes);
        fails(what);
        place.write(&name, whole);
    };
    wrong("train", &file(28, 32), &["the features of train have 28 rows, but there are 29 documents"]);
    wrong("dev", &file(7, 32), &["the features of dev have 7 rows, but there are 6 documents"]);
    wrong("test", &file(0, 32), &["the features of test have 0 rows, but there are 13 documents"]);
    wrong("dev", &file(6, 31), &["dev", "31 numbers", "32"]);
    wrong("test", &file(13, 33), &["test", "33 numbers", "32"]);
    for (split, _) in SPLITS {
        let (name, aside) = (place.path(&format!("features/{split}.safetensors")), place.path("aside"));
        fs::rename(&name, &aside).unwrap();
        fails(&["features has n", &format!("{split}.safetensors"), &format!("{split}.npy")]);
        fs::rename(&aside, &name).unwrap();
    }
    let set = |setting: &str, what: &[&str]| {
        place.fails(&[&fresh[..], &["--set", setting]].concat(), 2, what);
    };
    set("encoder.features=", &["config encoder.features: names no folder", "regrow encode"]);
    set(
        "encoder.features=gone",
        &["config encoder.features: gone has neither train.safetensors nor train.npy"],
    );
    set("classifier.fan_in=33", &["config classifier.fan_in: 33 is more than the 32 features"]);
    let damaged = |bytes: &[u8], what: &[&str]| {
        let name = "features/train.safetensors";
        let whole = place.read(name);
        place.write(name, bytes);
        place.fails(&fresh, 5, &[&[name], what].concat());
        place.write(name, whole);
    };
    let whole = place.read("features/train.safetensors");
    damaged(&whole[..whole.len() - 1], &["no intact safetensors file"]);
    damaged(&whole[..20], &["no intact safetensors file"]);
    let mut broken = whole.clone();
    let last = broken.len() - 4;
    broken[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    damaged(&broken, &["row 28, column 31 is not a finite number"]);
    damaged(&file(29, 0), &["rows of 0 numbers"]);
}

/// A run on features that are not those it began with.
#[test]
fn features_that_changed() {
    let place = encoded();
    train(&place, "cpu", "run", &[]);
    let resume = ["train", "tiny.toml", "--data", "data", "--out", "run", "--resume", "--device", "cpu"];
    let evaluate = ["evaluate", "run", "--split", "train", "--device", "cpu"];
    let whole = place.read("features/train.safetensors");
    for (split, rows) in [("train", 29), ("dev", 6), ("test", 13)] {
        place.write(&format!("features/{split}.safetensors"), file(rows, 16));
    }
    place.fails(&resume, 5, &["run/checkpoint.safetensors", "other data"]);
    place.fails(&evaluate, 2, &["train", "16 numbers", "32"]);
    for (split, rows) in [("train", 29), ("dev", 6), ("test", 13)] {
        place.write(&format!("features/{split}.safetensors"), file(rows, 32));
    }
    place.fails(&resume, 5, &["run/checkpoint.safetensors", "other data"]);
    place.ok(&evaluate);
    place.write("features/train.safetensors", whole);
    train(&place, "cpu", "run", &["--resume"]);
}

#[test]
fn texts_for_a_model_of_features() {
    let place = encoded();
    train(&place, "cpu", "run", &[]);
    place.write("texts", "river stone\n");
    let what = ["this model takes features, not texts", "encoder.kind = \"features\"", "regrow evaluate"];
    for device in ["cpu", place.first_adapter()] {
        for model in ["run", "run/model"] {
            place.fails(&["predict", model, "--input", "texts", "--device", device], 2, &what);
            let encode =
                ["encode", model, "--input", "texts", "--output", "out.safetensors", "--device", device];
            place.fails(&encode, 2, &what);
        }
    }
    let piped = place.run_with("river\n", &["predict", "run", "--device", "cpu"]);
    failed(&piped, 2, &what);
    // Splits without features, here all but train, cannot be evaluated on.
    fs::remove_file(place.path("features/test.safetensors")).unwrap();
    let evaluate = ["evaluate", "run", "--device", "cpu"];
    place.fails(&evaluate, 2, &["config encoder.features: ", "no test.safetensors"]);
}
