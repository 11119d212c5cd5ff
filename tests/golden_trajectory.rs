//! Twenty training steps of encoder and classifier against PyTorch in float64.

mod support;

use regrow::classifier::{Contents, FanIn, Prune};
use regrow::config::Config;
use regrow::data::{Batch, LabelClusters, Split};
use regrow::device::Device;
use regrow::encoder::{PARAMETER_PREFIX, Pooling};
use regrow::optimize::{Optimizer, Rule, Schedule};
use regrow::pretrained::Architecture;
use regrow::train::{AuxiliarySizes, EncoderSizes, FeedSizes, Model, ModelSizes, Schedules};
use support::device::engines;
use support::encoder::{load_weights, unpadded};
use support::golden::{Case, cases, folder};

#[test]
fn losses_and_parameters() {
    for case in cases("trajectory") {
        for (engine, device) in engines() {
            check(&format!("{} on {engine}", case.name), device, &case);
        }
    }
}

fn has_penultimate(case: &Case) -> bool {
    case.json["penultimate"] == true
}

fn has_auxiliary(case: &Case) -> bool {
    !case.json["auxiliary"].is_null()
}

fn config(case: &Case) -> Config {
    let loss = case.json["loss"].as_str().expect("a loss");
    let (loss, reduction) = loss.rsplit_once('_').expect("loss and reduction");
    let optimizer = |part: &str| case.json[part]["name"].as_str().expect("a name");
    let encoder = optimizer("encoder_optimizer");
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
        format!("intermediate.width={}", if has_penultimate(case) { case.size("D") } else { 0 }),
        // The mean over documents and clusters, whatever the main loss is.
        "auxiliary.normalisation=mean".to_owned(),
        format!("optimizer.encoder.kind={encoder}"),
        format!("optimizer.intermediate.kind={encoder}"),
        format!("optimizer.auxiliary.kind={encoder}"),
        format!("optimizer.classifier.kind={}", optimizer("classifier_optimizer")),
        format!(
            "optimizer.classifier.momentum={}",
            case.json["classifier_optimizer"]["momentum"].as_f64().unwrap_or(0.0)
        ),
    ];
    Config::with_settings(&settings).unwrap()
}

/// The schedule of a part; intermediate layer and auxiliary head belong to the encoder's optimizer.
fn optimizer(case: &Case, part: &str) -> Optimizer {
    let owner = if part == "classifier" { "classifier" } else { "encoder" };
    let section = &case.json[&format!("{owner}_optimizer")];
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

fn schedules(case: &Case) -> Schedules {
    let count = |key: &str| case.number(&["auxiliary", key]) as u64;
    if has_auxiliary(case) {
        assert_eq!(count("decay_steps"), count("off_from_step"), "{}", case.name);
    }
    // Parts that a case does not have are never stepped.
    let [intermediate, auxiliary] = [("penultimate", has_penultimate(case)), ("aux", has_auxiliary(case))]
        .map(|(part, has)| optimizer(case, if has { part } else { "encoder" }));
    Schedules {
        encoder: optimizer(case, "encoder"),
        intermediate,
        classifier: optimizer(case, "classifier"),
        auxiliary,
        auxiliary_start: if has_auxiliary(case) { case.number(&["auxiliary", "start"]) } else { 0.0 },
        auxiliary_steps: if has_auxiliary(case) { count("decay_steps") } else { 0 },
    }
}

/// The `number`-th rewiring: the layer must find the given slots, which then get their new indices, and zeros.
fn rewire(place: &str, device: &Device, case: &Case, layer: &FanIn, number: usize) {
    let (labels, fan_in) = (layer.options.labels, layer.options.fan_in);
    let slots: Vec<usize> = case
        .i32(&format!("rewire.{number}.slots"))
        .0
        .chunks_exact(2)
        .map(|slot| slot[0] as usize * fan_in + slot[1] as usize)
        .collect();
    let share = (slots.len() as f64 + 0.5) / (labels * fan_in) as f64;
    let masks = layer.pruned_slots(device, Prune::Fraction(share)).unwrap();
    let words = fan_in.div_ceil(32);
    let pruned = |slot: &usize| {
        let (row, slot) = (slot / fan_in, slot % fan_in);
        masks[row * words + slot / 32] >> (slot % 32) & 1 == 1
    };
    assert_eq!((0..labels * fan_in).filter(pruned).collect::<Vec<_>>(), slots, "{place}: rewiring {number}");

    let mut contents = layer.contents(device).unwrap();
    for (slot, index) in slots.iter().zip(case.u16(&format!("rewire.{number}.new_indices")).0) {
        contents.indices[*slot] = index;
        contents.weights[*slot] = 0.0;
    }
    layer.set_contents(device, &contents).unwrap();
    for block in &layer.blocks {
        let first = block.shape.first_label * fan_in;
        for moments in [&block.first, &block.second] {
            let mut values: Vec<f32> = device.read_vec(moments, block.shape.rows * fan_in).unwrap();
            let mine = slots.iter().filter_map(|slot| slot.checked_sub(first));
            mine.filter(|slot| *slot < block.shape.rows * fan_in).for_each(|slot| values[slot] = 0.0);
            device.write(moments, 0, bytemuck::cast_slice(&values)).unwrap();
        }
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
    let clusters = has_auxiliary(case).then(|| {
        let of_label = case.i32("cluster_of_label").0;
        LabelClusters::new(of_label.into_iter().map(|cluster| cluster as u32).collect()).unwrap()
    });
    let sizes = ModelSizes {
        encoder: EncoderSizes::Transformer { architecture, pooling: Pooling::Mean },
        labels,
        auxiliary: has_auxiliary(case).then(|| AuxiliarySizes { clusters: case.size("C"), bias_init: 0.0 }),
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
    let classifier = model.classifier.fan_in().expect("a fixed fan-in layer");
    classifier.set_contents(device, &start).unwrap();
    let pair = |when: &str, part: &str| {
        ["weight", "bias"].map(|tensor| case.f32(&format!("{when}.{part}.{tensor}")).0)
    };
    if let Some(layer) = &model.intermediate {
        for (parameter, values) in layer.parameters().iter().zip(pair("init", "penultimate")) {
            parameter.write(device, &values).unwrap();
        }
    }
    if let Some(head) = &model.auxiliary {
        let [weights, bias] = pair("init", "aux");
        head.set_contents(device, &weights, &bias).unwrap();
    }
    let before: Vec<Vec<f32>> =
        model.encoder.parameters().iter().map(|p| device.read_vec(&p.values, p.len()).unwrap()).collect();

    let schedules = schedules(case);
    let expected = |loss: &str, step: usize| {
        let losses = case.numbers(&["expected", loss]);
        losses[step * accumulation..][..accumulation].iter().sum::<f64>() / accumulation as f64
    };
    let rewirings = case.numbers(&["rewire_after_steps"]);
    let documents: Vec<u32> = (0..split.len() as u32).collect();
    for (step, documents) in documents.chunks(step_documents).enumerate() {
        let mut batch = Batch::assemble(&split, documents, rows);
        clusters.iter().for_each(|clusters| batch.find_clusters(clusters));
        let outcome = model.train_step(device, &config, &schedules, &batch, step as u64).unwrap();
        let losses = outcome.losses(device).unwrap();
        let close = |loss: &str, got: f64| {
            let expected = expected(loss, step);
            let error = (got - expected).abs() / expected;
            assert!(
                error <= case.tolerance("loss"),
                "{place}: {loss} loss of step {step} is {got}, expected {expected}"
            );
        };
        let main = f64::from(losses.main);
        close("main", main);
        let weight = schedules.auxiliary_weight(step as u64);
        assert_eq!(losses.auxiliary.is_some(), weight.is_some(), "{place}: step {step}");
        let total = losses.auxiliary.zip(weight).map_or(main, |(auxiliary, weight)| {
            close("aux", f64::from(auxiliary));
            let golden = case.numbers(&["expected", "aux_weight"])[step];
            assert!((weight - golden).abs() < 1e-12, "{place}: weight {weight} of step {step}");
            (1.0 - weight) * main + weight * f64::from(auxiliary)
        });
        close("total", total);
        if let Some(number) = rewirings.iter().position(|after| *after as usize == step + 1) {
            rewire(place, device, case, classifier, number);
        }
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
    let end = classifier.contents(device).unwrap();
    let mut part = Part::default();
    part.add(&start.weights, &case.f32("final.classifier.weights").0, &end.weights);
    part.add(&start.bias, &case.f32("final.classifier.bias").0, &end.bias);
    part.check(place, case, "classifier");
    let indices = if rewirings.is_empty() { start.indices } else { case.u16("final.classifier.indices").0 };
    assert_eq!(end.indices, indices, "{place}");
    if let Some(layer) = &model.intermediate {
        let end = layer.parameters().each_ref().map(|p| device.read_vec(&p.values, p.len()).unwrap());
        check_pair(place, case, "penultimate", pair("init", "penultimate"), end);
    }
    if let Some(head) = &model.auxiliary {
        check_pair(place, case, "aux", pair("init", "aux"), head.contents(device).unwrap().into());
    }
}

/// A linear layer's weight and bias after the last step.
fn check_pair(place: &str, case: &Case, name: &str, before: [Vec<f32>; 2], after: [Vec<f32>; 2]) {
    let mut part = Part::default();
    for ((tensor, before), after) in ["weight", "bias"].iter().zip(before).zip(after) {
        part.add(&before, &case.f32(&format!("final.{name}.{tensor}")).0, &after);
    }
    part.check(place, case, name);
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
