//! Twenty training steps of encoder and classifier against PyTorch in float64.

mod support;

use regrow::classifier::Contents;
use regrow::config::Config;
use regrow::data::{Batch, Split};
use regrow::device::Device;
use regrow::encoder::{PARAMETER_PREFIX, Pooling};
use regrow::optimize::{Optimizer, Rule, Schedule};
use regrow::pretrained::Architecture;
use regrow::train::{EncoderSizes, FeedSizes, Model, ModelSizes};
use support::device::engines;
use support::encoder::{load_weights, unpadded};
use support::golden::{Case, cases, folder};

/// The cases that need neither auxiliary head nor intermediate layer.
fn plain_cases() -> Vec<Case> {
    let plain = |case: &Case| case.json["auxiliary"].is_null() && case.json["penultimate"] == false;
    let cases: Vec<Case> = cases("trajectory").into_iter().filter(plain).collect();
    assert!(!cases.is_empty(), "a trajectory without auxiliary head and intermediate layer");
    cases
}

#[test]
fn losses_and_parameters() {
    for case in plain_cases() {
        for (engine, device) in engines() {
            check(&format!("{} on {engine}", case.name), device, &case);
        }
    }
}

fn config(case: &Case) -> Config {
    let loss = case.json["loss"].as_str().expect("a loss");
    let (loss, reduction) = loss.rsplit_once('_').expect("loss and reduction");
    let settings = [
        "encoder.kind=transformer".to_owned(),
        format!("encoder.model={}", case.name),
        "encoder.dropout=0".to_owned(),
        "encoder.hidden_dropout=0".to_owned(),
        "encoder.attention_dropout=0".to_owned(),
        format!("data.max_tokens={}", case.size("T")),
        format!("classifier.loss={loss}"),
        format!("classifier.reduction={reduction}"),
        format!("classifier.fan_in={}", case.size("F")),
        format!("train.batch_size={}", case.size("B")),
        format!("train.accumulate={}", case.json["accumulation"]),
        format!(
            "optimizer.encoder.kind={}",
            case.json["encoder_optimizer"]["name"].as_str().expect("a name")
        ),
        format!(
            "optimizer.classifier.kind={}",
            case.json["classifier_optimizer"]["name"].as_str().expect("a name")
        ),
        format!(
            "optimizer.classifier.momentum={}",
            case.json["classifier_optimizer"]["momentum"].as_f64().unwrap_or(0.0)
        ),
    ];
    Config::with_settings(&settings).unwrap()
}

fn optimizer(case: &Case, part: &str) -> Optimizer {
    let section = &case.json[&format!("{part}_optimizer")];
    let momentum = section["momentum"].as_f64();
    let beta = |i: usize| section["betas"][i].as_f64();
    let rule = match section["name"].as_str() {
        Some("adamw") => Rule::AdamW,
        Some("adam") => Rule::Adam,
        Some("sgd") if momentum == Some(0.0) => Rule::Sgd,
        _ => Rule::Momentum,
    };
    let count = |key: &str| case.number(&["schedule", key]) as u64;
    Optimizer {
        rule,
        learning_rate: case.number(&["lr", part]),
        weight_decay: case.number(&["weight_decay", part]),
        beta1: beta(0).or(momentum).unwrap_or(0.0),
        beta2: beta(1).unwrap_or(0.999),
        epsilon: section["eps"].as_f64().unwrap_or(1e-8),
        schedule: Schedule::Cosine { warmup: count("warmup"), total: count("total") },
    }
}

fn check(place: &str, device: &Device, case: &Case) {
    let config = config(case);
    let (rows, labels, accumulation) =
        (case.size("B"), case.size("L"), case.json["accumulation"].as_u64().expect("a number") as usize);
    let split = split(case, rows);
    let folder = folder().join(case.json["model"].as_str().expect("a model"));
    let architecture = Architecture::read(&folder.join("config.json")).unwrap();
    let step_documents = rows * accumulation;
    let sizes = ModelSizes {
        encoder: EncoderSizes::Transformer { architecture, pooling: Pooling::Mean },
        labels,
        train_batch: step_documents,
        feed: FeedSizes::of_split(&split, step_documents, rows),
        bias_init: 0.0,
        max_block_rows: 32,
    };
    let model = Model::new(device, &config, sizes).unwrap();
    load_weights(device, &folder, &architecture, model.encoder.parameters());
    let start = Contents {
        weights: case.f32("init.classifier.weights").0,
        indices: case.u16("init.classifier.indices").0,
        bias: case.f32("init.classifier.bias").0,
    };
    model.classifier.set_contents(device, &start).unwrap();
    let before: Vec<Vec<f32>> =
        model.encoder.parameters().iter().map(|p| device.read_vec(&p.values, p.len()).unwrap()).collect();

    let optimizers = ["encoder", "classifier"].map(|part| optimizer(case, part));
    let [encoder, classifier] = optimizers.each_ref();
    let losses = case.numbers(&["expected", "main"]);
    let documents: Vec<u32> = (0..split.len() as u32).collect();
    for (step, documents) in documents.chunks(step_documents).enumerate() {
        let batch = Batch::assemble(&split, documents, rows);
        let outcome = model.train_step(device, &config, [encoder, classifier], &batch, step as u64).unwrap();
        let got = f64::from(outcome.loss(device).unwrap());
        let expected =
            losses[step * accumulation..][..accumulation].iter().sum::<f64>() / accumulation as f64;
        let error = (got - expected).abs() / expected;
        assert!(
            error <= case.tolerance("loss"),
            "{place}: loss of step {step} is {got}, expected {expected}"
        );
    }

    let mut encoder = Part::default();
    for (parameter, before) in model.encoder.parameters().iter().zip(before) {
        let name = format!("final.encoder.{}", parameter.name.strip_prefix(PARAMETER_PREFIX).unwrap());
        if case.json["not_compared"].as_array().expect("a list").iter().all(|skipped| *skipped != name[..]) {
            let after: Vec<f32> = device.read_vec(&parameter.values, parameter.len()).unwrap();
            encoder.add(&before, &case.f32(&name).0, &after);
        }
    }
    encoder.check(place, case, "encoder");
    let end = model.classifier.contents(device).unwrap();
    let mut classifier = Part::default();
    classifier.add(&start.weights, &case.f32("final.classifier.weights").0, &end.weights);
    classifier.add(&start.bias, &case.f32("final.classifier.bias").0, &end.bias);
    classifier.check(place, case, "classifier");
    assert_eq!(end.indices, start.indices, "{place}");
}

/// The micro-batches, one after the other, as documents of a split.
fn split(case: &Case, rows: usize) -> Split {
    let ((ids, shape), (mask, _)) = (case.i32("batch.input_ids"), case.i32("batch.attention_mask"));
    let documents = unpadded(&ids, &mask, shape[2]);
    let mut labels = vec![Vec::new(); documents.len()];
    for triple in case.i32("batch.positives").0.chunks_exact(3) {
        labels[triple[0] as usize * rows + triple[1] as usize].push(triple[2] as u32);
    }
    Split::from_documents(documents.into_iter().zip(labels))
}

/// Errors over all parameters of a part together.
#[derive(Default)]
struct Part {
    largest: f64,
    difference: f64,
    change: f64,
}

impl Part {
    fn add(&mut self, before: &[f32], truth: &[f32], got: &[f32]) {
        assert_eq!((before.len(), truth.len()), (got.len(), got.len()));
        for ((before, truth), got) in before.iter().zip(truth).zip(got) {
            let [before, truth, got] = [before, truth, got].map(|value| f64::from(*value));
            assert!(got.is_finite());
            self.largest = self.largest.max((got - truth).abs());
            self.difference += (got - truth).powi(2);
            self.change += (truth - before).powi(2);
        }
    }

    fn check(&self, place: &str, case: &Case, part: &str) {
        let change = (self.difference / self.change).sqrt();
        assert!(
            change <= case.tolerance(&format!("{part}_change")),
            "{place}: {part} changed wrongly by {change:e}"
        );
        let largest = self.largest;
        assert!(largest <= case.tolerance(&format!("{part}_abs")), "{place}: {part} is off by {largest:e}");
    }
}
