//! The fixed fan-in layer, its losses, gradients and update, against PyTorch in float64, on every engine.

mod support;

use regrow::classifier::{Contents, FanIn, FanInOptions, Loss, Positives, Step as LayerStep, StepScale};
use regrow::device::{Device, Recording, Slice};
use regrow::kernels::fan_in_dlogits::{self, Block};
use regrow::kernels::optimizer::{Rates, Rule};
use regrow::kernels::storage::Precision;
use regrow::kernels::{columns_of, index_words};
use support::device::{engines, upload};
use support::golden::{Case, cases, scaled_error};

/// `name` of a loss in the golden files: which loss, and what its reduction divides by.
fn loss_of(name: &str, batch: usize, labels: usize) -> (Loss, f32) {
    let scale = if name.ends_with("_mean") { (1.0 / (batch * labels) as f64) as f32 } else { 1.0 };
    (if name.starts_with("bce") { Loss::Bce } else { Loss::SquaredHinge }, scale)
}

fn losses(case: &Case) -> Vec<String> {
    let list = case.json["losses"].as_array().expect("a case lists its losses");
    list.iter().map(|name| name.as_str().expect("losses are names").to_owned()).collect()
}

/// x [B, D] transposed to [D, columns].
fn transposed(x: &[f32], batch: usize, features: usize) -> Vec<f32> {
    let columns = columns_of(batch);
    let mut out = vec![0.0; features * columns];
    for (b, row) in x.chunks_exact(features).enumerate() {
        row.iter().enumerate().for_each(|(d, value)| out[d * columns + b] = *value);
    }
    out
}

fn positives(case: &Case) -> Vec<[u32; 2]> {
    let (rows, labels) = (case.i32("positive_row").0, case.i32("positive_label").0);
    let mut pairs: Vec<[u32; 2]> = labels.into_iter().zip(rows).map(|(l, b)| [l as u32, b as u32]).collect();
    pairs.sort_unstable();
    pairs
}

struct Sizes {
    batch: usize,
    features: usize,
    labels: usize,
    fan_in: usize,
    group: usize,
}

impl Sizes {
    fn of(case: &Case) -> Self {
        let [batch, features, labels, fan_in, group] = ["B", "D", "L", "F", "G"].map(|key| case.size(key));
        Self { batch, features, labels, fan_in, group }
    }
}

fn contents(case: &Case) -> Contents {
    Contents { weights: case.f32("weights").0, indices: case.u16("indices").0, bias: case.f32("bias").0 }
}

/// A layer whose optimizer is SGD with momentum 0: its buffers then hold the very gradients.
fn layer(device: &Device, case: &Case, max_block_rows: usize) -> FanIn {
    let Sizes { batch, features, labels, fan_in, group } = Sizes::of(case);
    let options = FanInOptions {
        labels,
        features,
        // Duplicate indices are legal, also more of them than there are features.
        fan_in: fan_in.min(features),
        group,
        max_batch: batch,
        rule: Rule::Momentum,
        precision: Default::default(),
        train_bias: true,
        init_scale: 1.0,
        bias_init: 0.0,
        seed: 0,
        max_block_rows,
        inverted_index: Default::default(),
    };
    let layer = if fan_in > features {
        FanIn::allocate_with_duplicates(device, FanInOptions { fan_in, ..options }).unwrap()
    } else {
        FanIn::allocate(device, options).unwrap()
    };
    layer.set_contents(device, &contents(case)).unwrap();
    layer
}

/// Runs `check` for every case, engine and cut into blocks.
fn everywhere(check: impl Fn(&str, &Device, &Case, usize)) {
    for case in cases("fan_in") {
        for (engine, device) in engines() {
            for max_block_rows in [0, 3 * case.size("G")] {
                check(
                    &format!("{} on {engine}, blocks {max_block_rows}", case.name),
                    device,
                    &case,
                    max_block_rows,
                );
            }
        }
    }
}

#[test]
fn golden_fan_in_logits() {
    everywhere(|place, device, case, max_block_rows| {
        let Sizes { batch, features, .. } = Sizes::of(case);
        let layer = layer(device, case, max_block_rows);
        let x = upload(device, &transposed(&case.f32("x").0, batch, features));
        let logits = layer.logits(device, batch, &x).unwrap();
        let error = scaled_error(&case.f32("logits").0, &logits);
        assert!(error <= case.tolerance("logits"), "{place}: logits are off by {error:e}");
    });
}

#[test]
fn golden_fan_in_gradients_and_losses() {
    everywhere(|place, device, case, max_block_rows| {
        for name in losses(case) {
            let step = Step::run(device, case, &name, max_block_rows);
            let relative = {
                let expected = case.number(&["expected", "loss", &name]);
                (f64::from(step.loss) - expected).abs() / expected.abs()
            };
            assert!(relative <= case.tolerance("loss"), "{place}, {name}: loss is off by {relative:e}");
            for (what, got) in [("dx", &step.dx), ("dweights", &step.dweights), ("dbias", &step.dbias)] {
                let error = scaled_error(&case.f32(&format!("{name}.{what}")).0, got);
                assert!(error <= case.tolerance(what), "{place}, {name}: {what} is off by {error:e}");
            }
        }
    });
}

/// What one step of a layer gives.
struct Step {
    loss: f32,
    dx: Vec<f32>,
    dweights: Vec<f32>,
    dbias: Vec<f32>,
}

impl Step {
    fn run(device: &Device, case: &Case, name: &str, max_block_rows: usize) -> Self {
        let Sizes { batch, features, labels, .. } = Sizes::of(case);
        let columns = columns_of(batch);
        let layer = layer(device, case, max_block_rows);
        let (loss, scale) = loss_of(name, batch, labels);
        let x = upload(device, &transposed(&case.f32("x").0, batch, features));
        let dx = device.allocate("dx", (features * columns * 4) as u64).unwrap();
        let losses = device.allocate("losses", 16).unwrap();
        let pairs = positives(case);
        let positives = Positives { count: pairs.len(), pairs: upload_pairs(device, &pairs) };
        let rates = Rates { rate: 0.5, keep: 1.0, ..Rates::default() };
        let mut recording = Recording::new();
        recording.clear(&dx);
        recording.clear(&losses);
        let scale = StepScale { gradient: scale, loss: scale, place: 2 };
        let (positives, x, dx_slice, losses_slice) = (&positives, &x, &dx.whole(), &losses.whole());
        let step = LayerStep {
            batch,
            loss,
            scale,
            step: 0,
            rates,
            positives,
            x,
            dx: dx_slice,
            losses: losses_slice,
        };
        layer.record_step(&mut recording, &step);
        device.submit(recording).unwrap();
        let [dweights, _, dbias, _] = layer.states(device).unwrap();
        let before = contents(case);
        let after = layer.contents(device).unwrap();
        // The update itself: w - rate * g, and nothing else moved.
        assert_eq!(after.indices, before.indices);
        for (after, (before, g)) in after.weights.iter().zip(before.weights.iter().zip(&dweights)) {
            let expected = before - 0.5 * g;
            assert!(
                (after - expected).abs() <= 1e-6 * expected.abs().max(g.abs()),
                "{after} is not {expected}"
            );
        }
        let columns_first: Vec<f32> = device.read_vec(&dx, features * columns).unwrap();
        let mut dx = vec![0.0; batch * features];
        for (d, row) in columns_first.chunks_exact(columns).enumerate() {
            assert!(
                row[batch..].iter().all(|value| *value == 0.0),
                "columns beyond the batch have a gradient"
            );
            row[..batch].iter().enumerate().for_each(|(b, value)| dx[b * features + d] = *value);
        }
        let loss = device.read_vec::<f32>(&losses, 4).unwrap()[2];
        Self { loss, dx, dweights, dbias }
    }
}

fn upload_pairs(device: &Device, pairs: &[[u32; 2]]) -> Slice {
    if pairs.is_empty() {
        device.allocate("no positives", 16).unwrap().whole()
    } else {
        upload(device, pairs)
    }
}

#[test]
fn golden_fan_in_logit_gradients() {
    for case in cases("fan_in") {
        let Sizes { batch, features, labels, fan_in, group } = Sizes::of(&case);
        let (columns, contents) = (columns_of(batch), contents(&case));
        for ((engine, device), name) in
            engines().into_iter().flat_map(|e| losses(&case).into_iter().map(move |l| (e, l)))
        {
            let (loss, scale) = loss_of(&name, batch, labels);
            let block =
                Block { rows: labels, first_label: 0, fan_in, group, batch, precision: Precision::default() };
            let padded: Vec<u16> = contents
                .indices
                .chunks_exact(fan_in)
                .flat_map(|row| row.iter().copied().chain((fan_in % 2 == 1).then_some(0)))
                .collect();
            assert_eq!(padded.len(), block.index_rows() * index_words(fan_in) * 2);
            let pairs = positives(&case);
            let dlogits = device.allocate("dlogits", (labels * columns * 4) as u64).unwrap();
            let label_loss = device.allocate("label losses", (labels * 4) as u64).unwrap();
            let inputs = [
                upload(device, &transposed(&case.f32("x").0, batch, features)),
                upload(device, &contents.weights),
                upload(device, &padded),
                upload(device, &contents.bias),
                upload_pairs(device, &pairs),
                dlogits.whole(),
                label_loss.whole(),
            ];
            let mut recording = Recording::new();
            recording.launch(fan_in_dlogits::launch(
                block,
                Some(loss),
                scale,
                pairs.len(),
                inputs.each_ref(),
            ));
            device.submit(recording).unwrap();
            let got: Vec<f32> = device.read_vec(&dlogits, labels * columns).unwrap();
            let mut by_sample = vec![0.0; batch * labels];
            for (l, row) in got.chunks_exact(columns).enumerate() {
                row[..batch].iter().enumerate().for_each(|(b, value)| by_sample[b * labels + l] = *value);
            }
            let error = scaled_error(&case.f32(&format!("{name}.dlogits")).0, &by_sample);
            let place = format!("{} on {engine}, {name}", case.name);
            assert!(error <= case.tolerance("dlogits"), "{place}: dlogits are off by {error:e}");
        }
    }
}
