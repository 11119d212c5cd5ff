//! The fixed fan-in layer with weights in 16 and 8 bits and optimizer states in bf16, on every engine: what is read is
//! what was stored, and what is written is a neighbour of the exact result, the upper one as often as it should.

mod support;

use regrow::classifier::{
    Contents, FanIn, FanInOptions, Head, Loss, Positives, Prune, Ranker, Regrow, Step, StepScale,
};
use regrow::device::{Buffer, Device, DeviceOptions, Recording};
use regrow::kernels::columns_of;
use regrow::kernels::fan_in_dlogits::Block;
use regrow::kernels::optimizer::Rule;
use regrow::kernels::rewire_mask::mask_words;
use regrow::kernels::storage::{Indices, Precision, Rounding, StateStorage, Storage};
use regrow::kernels::{embedding_update, optimizer_step};
use support::device::{
    Numbers, Outputs, assert_close, compare, engines, run, sum_tolerance, upload, writable,
};
use support::layer::{Hyper, Layer};

const SCALE: f32 = 0.25;

const fn stored_in(weights: Storage, moments: Storage) -> Precision {
    Precision { weights, moments, features: Storage::F32, indices: Indices::Free }
}

const F16: Precision = stored_in(Storage::F16, Storage::F32);
const BF16: Precision = stored_in(Storage::Bf16, Storage::Bf16);
const FP8: Precision = stored_in(Storage::Fp8, Storage::Bf16);
const BF16_STATES: Precision = stored_in(Storage::F32, Storage::Bf16);

fn precisions() -> [Precision; 4] {
    [F16, BF16, FP8, BF16_STATES]
}

/// Odd fan-ins, so that rows end within words; groups; more than one part of the sweep.
fn shapes() -> Vec<(Block, usize)> {
    let block = |rows, fan_in, group, batch| Block {
        rows,
        first_label: 0,
        fan_in,
        group,
        batch,
        precision: Precision::default(),
    };
    vec![
        (block(1, 1, 1, 1), 3),
        (block(7, 3, 1, 7), 10),
        (block(33, 6, 4, 16), 70),
        (block(65, 33, 1, 33), 65),
        (block(300, 5, 1, 7), 12),
        (block(300, 9, 8, 33), 20),
        (block(75, 17, 32, 7), 20),
        (block(75, 48, 32, 20), 60),
    ]
}

/// A layer whose weights the storage has.
fn sample(shape: (Block, usize), seed: u64, storage: Storage) -> Layer {
    let mut layer = Layer::new(shape, seed);
    layer.weights.iter_mut().for_each(|w| *w = storage.decode(storage.nearest(*w)));
    layer
}

fn contents(layer: &Layer) -> Contents {
    let fan_in = layer.block.fan_in;
    let rows = layer.indices.chunks_exact(fan_in.next_multiple_of(2));
    Contents {
        weights: layer.weights.clone(),
        indices: rows.flat_map(|row| row[..fan_in].to_vec()).collect(),
        bias: layer.bias.clone(),
    }
}

fn on_device(device: &Device, layer: &Layer, precision: Precision, rule: Rule) -> FanIn {
    let Block { rows, fan_in, group, batch, .. } = layer.block;
    let options = FanInOptions {
        labels: rows,
        features: layer.features,
        fan_in,
        group,
        max_batch: batch,
        rule,
        precision,
        train_bias: true,
        init_scale: 1.0,
        bias_init: 0.0,
        seed: 11,
        max_block_rows: 0,
        inverted_index: Default::default(),
    };
    let on_device = FanIn::allocate(device, options).unwrap();
    on_device.set_contents(device, &contents(layer)).unwrap();
    on_device
}

/// One step; gives (loss, dx).
fn train(device: &Device, on_device: &FanIn, layer: &Layer, rule: Rule) -> (f32, Vec<f32>) {
    let batch = layer.block.batch;
    // The layer's positives name labels before and after it, which are not there.
    let labels = layer.block.rows as u32;
    let pairs: Vec<[u32; 2]> = layer.positives.iter().copied().filter(|pair| pair[0] < labels).collect();
    let positives = if pairs.is_empty() { upload(device, &[[u32::MAX; 2]]) } else { upload(device, &pairs) };
    let area = layer.features * columns_of(batch);
    let (x, dx) = (upload(device, &layer.x), device.allocate("dx", (area * 4) as u64).unwrap());
    let losses = device.allocate("losses", 16).unwrap();
    let mut recording = Recording::new();
    recording.clear(&dx);
    recording.clear(&losses);
    on_device.record_step(
        &mut recording,
        &Step {
            batch,
            loss: Loss::Bce,
            scale: StepScale { gradient: SCALE, loss: 1.0, place: 0 },
            step: 2,
            rates: Hyper::SAMPLE.rates(rule),
            positives: &Positives { count: pairs.len(), pairs: positives },
            x: &x,
            dx: &dx.whole(),
            losses: &losses.whole(),
        },
    );
    device.submit(recording).unwrap();
    (device.read_vec::<f32>(&losses, 1).unwrap()[0], device.read_vec(&dx, area).unwrap())
}

/// The distance between the two numbers of a storage that a number lies between.
fn step_at(storage: Storage, value: f64) -> f64 {
    let [below, above] = [0, u16::MAX].map(|random| storage.encode(value as f32, random));
    let sign = storage.nearest(-0.0);
    let above = if above == below { (below & !sign) + 1 } else { above & !sign };
    (f64::from(storage.decode(above)) - f64::from(storage.decode(below & !sign))).abs()
}

/// Every stored number is a neighbour of the truth, which f32 knows to `tolerance`.
fn assert_neighbours(place: &str, storage: Storage, got: &[f32], truth: &[f64], tolerance: f64) {
    assert_eq!(got.len(), truth.len(), "{place}");
    for (i, (got, truth)) in got.iter().zip(truth).enumerate() {
        let step = if storage == Storage::F32 { 0.0 } else { step_at(storage, *truth) };
        let error = (f64::from(*got) - truth).abs();
        assert!(
            error <= step + tolerance,
            "{place}: element {i} is {got:e}, the exact result {truth:e} ± {step:e}"
        );
    }
}

/// Truth after one step that starts without states: (weights, first states, second states), and the features' gradient.
fn truth(layer: &Layer, rule: Rule) -> ([Vec<f64>; 3], Vec<f64>, f64) {
    let (losses, mut dlogits) = layer.loss(Loss::Bce);
    dlogits.iter_mut().for_each(|g| *g *= f64::from(SCALE));
    let gradients = layer.weight_gradient(&dlogits);
    let steps: Vec<[f64; 3]> = layer
        .weights
        .iter()
        .zip(&gradients)
        .map(|(w, g)| Hyper::SAMPLE.step(rule, f64::from(*w), *g, 0.0, 0.0))
        .collect();
    let of = |which: usize| steps.iter().map(|step| step[which]).collect();
    ([of(0), of(1), of(2)], layer.feature_gradient(&dlogits), losses.iter().sum())
}

/// A step reads what is stored and writes neighbours.
fn check_steps(precision: Precision) {
    for (seed, shape) in shapes().into_iter().enumerate() {
        let layer = sample(shape, seed as u64, precision.weights);
        let (rows, terms) = (layer.block.rows, layer.block.fan_in + layer.columns() + 8);
        for rule in [Rule::Sgd, Rule::AdamW] {
            let ([weights, first, second], dx, loss) = truth(&layer, rule);
            for (engine, device) in engines() {
                let place = format!("{precision:?}, {rule:?}, {:?} on {engine}", layer.block);
                let on_device = on_device(device, &layer, precision, rule);
                assert_eq!(on_device.contents(device).unwrap(), contents(&layer), "{place}");
                let (got_loss, got_dx) = train(device, &on_device, &layer, rule);
                assert_close(&place, &[got_loss], &[loss], sum_tolerance(terms + rows, &[loss]));
                let terms_of_dx = layer.block.fan_in + rows.min(200);
                assert_close(&place, &got_dx, &dx, sum_tolerance(terms_of_dx, &dx));
                let got = on_device.contents(device).unwrap();
                assert_eq!(got.indices, contents(&layer).indices, "{place}");
                // An Adam step divides by a root: a relative error of the gradient is one of the step.
                let tolerance = sum_tolerance(terms, &weights) + 1e-5 * Hyper::SAMPLE.learning_rate;
                assert_neighbours(&place, precision.weights, &got.weights, &weights, tolerance);
                if rule == Rule::AdamW {
                    let [got_first, got_second, ..] = on_device.states(device).unwrap();
                    for (got, truth) in [(&got_first, &first), (&got_second, &second)] {
                        assert_neighbours(&place, precision.moments, got, truth, sum_tolerance(terms, truth));
                    }
                }
            }
        }
    }
}

// A test each, since drivers take long to compile all their kernels.
#[test]
fn a_step_of_weights_in_f16_writes_neighbours() {
    check_steps(F16);
}

#[test]
fn a_step_of_weights_and_states_in_bf16_writes_neighbours() {
    check_steps(BF16);
}

#[test]
fn a_step_of_weights_in_fp8_writes_neighbours() {
    check_steps(FP8);
}

#[test]
fn a_step_of_states_in_bf16_writes_neighbours() {
    check_steps(BF16_STATES);
}

/// The mean place between the neighbours that was rounded to is the place where the exact number lies: over many
/// numbers, four standard deviations of a sum of roundings, each at most half a step.
#[test]
fn a_step_is_unbiased() {
    let block =
        Block { rows: 3000, first_label: 0, fan_in: 7, group: 1, batch: 5, precision: Precision::default() };
    for precision in precisions().into_iter().filter(|precision| precision.weights != Storage::F32) {
        let layer = sample((block, 20), 3, precision.weights);
        let ([weights, ..], ..) = truth(&layer, Rule::Sgd);
        for (engine, device) in engines() {
            let on_device = on_device(device, &layer, precision, Rule::Sgd);
            train(device, &on_device, &layer, Rule::Sgd);
            let got = on_device.contents(device).unwrap().weights;
            let places = got
                .iter()
                .zip(&weights)
                .map(|(got, truth)| (f64::from(*got) - truth) / step_at(precision.weights, *truth));
            let mean = places.sum::<f64>() / weights.len() as f64;
            let limit = 4.0 * 0.5 / (weights.len() as f64).sqrt();
            assert!(mean.abs() < limit, "{precision:?} on {engine}: {mean} of a step, at most {limit}");
            let moved = got.iter().zip(&layer.weights).filter(|(got, before)| got != before).count();
            assert!(moved > 0, "{precision:?} on {engine}: no weight moved");
        }
    }
}

#[test]
fn the_same_bits_again_and_with_more_threads() {
    let block =
        Block { rows: 400, first_label: 0, fan_in: 5, group: 1, batch: 5, precision: Precision::default() };
    for precision in precisions() {
        let layer = sample((block, 20), 4, precision.weights);
        let run = |device: &Device| {
            let on_device = on_device(device, &layer, precision, Rule::AdamW);
            train(device, &on_device, &layer, Rule::AdamW);
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            let [first, second, ..] = on_device.states(device).unwrap();
            [bits(on_device.contents(device).unwrap().weights), bits(first), bits(second)]
        };
        for (engine, device) in engines() {
            assert_eq!(run(device), run(device), "{precision:?} on {engine}");
        }
        for fused in [true, false] {
            let [one, three] = [1, 3].map(|threads| {
                run(&Device::cpu(DeviceOptions { fused, threads, ..DeviceOptions::default() }).unwrap())
            });
            assert_eq!(one, three, "{precision:?}, fused {fused}");
        }
    }
}

#[test]
fn rewiring_sees_the_stored_weights() {
    for (seed, shape) in shapes().into_iter().enumerate().filter(|(_, (block, _))| block.group == 1) {
        for precision in precisions() {
            let layer = sample(shape, 20 + seed as u64, precision.weights);
            let (fan_in, before) = (layer.block.fan_in, &layer.weights);
            let mut order: Vec<usize> = (0..before.len()).collect();
            order.sort_by(|a, b| before[*a].abs().total_cmp(&before[*b].abs()).then(a.cmp(b)));
            let mut pruned = order[..before.len() / 4].to_vec();
            pruned.sort_unstable();
            for (engine, device) in engines() {
                let place = format!("{precision:?}, {:?} on {engine}", layer.block);
                let on_device = on_device(device, &layer, precision, Rule::AdamW);
                let mask = on_device.pruned_slots(device, Prune::Fraction(0.25)).unwrap();
                let bit = |i: &usize| {
                    mask[i / fan_in * mask_words(fan_in) + i % fan_in / 32] >> (i % fan_in % 32) & 1 == 1
                };
                assert_eq!((0..before.len()).filter(bit).collect::<Vec<_>>(), pruned, "{place}");
                let bound = 0.5;
                let counts = on_device
                    .rewire(
                        device,
                        Prune::Fraction(0.25),
                        Regrow { bound, step: 5, keep_second_moment: false },
                    )
                    .unwrap();
                assert_eq!(counts.pruned, pruned.len() as u64, "{place}");
                let after = on_device.contents(device).unwrap().weights;
                for (i, (after, before)) in after.iter().zip(before).enumerate() {
                    if pruned.binary_search(&i).is_ok() {
                        assert!(after.abs() <= bound, "{place}: a new weight {after}");
                    } else {
                        assert_eq!(after.to_bits(), before.to_bits(), "{place}: a slot that stays");
                    }
                }
            }
        }
    }
}

#[test]
fn ranking_reads_what_is_stored() {
    let block =
        Block { rows: 700, first_label: 0, fan_in: 5, group: 1, batch: 3, precision: Precision::default() };
    // Small integers, which every storage has: scores are exact.
    let layer = Layer::integers((block, 20), 5);
    let (z, columns) = (layer.logits(), layer.columns());
    for precision in precisions() {
        for (engine, device) in engines() {
            let head = Head::FanIn(on_device(device, &layer, precision, Rule::Sgd));
            let ranker = Ranker::new(device, &head, 5, 3).unwrap();
            let nothing = upload(device, &[0_u32; 4]);
            let mut recording = Recording::new();
            let x = upload(device, &layer.x);
            let ranked = ranker.record(&mut recording, &head, 3, &x, [&nothing, &nothing]);
            device.submit(recording).unwrap();
            for (sample, list) in ranked.collect(device).unwrap().into_iter().enumerate() {
                let mut want: Vec<(u32, f32)> =
                    (0..700).map(|row| (row as u32, z[row * columns + sample] as f32)).collect();
                want.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                assert_eq!(list, want[..5], "{precision:?} on {engine}, sample {sample}");
            }
        }
    }
}

/// States of a dense tensor and of an embedding table in bf16, words shared between rows of odd width: parameters move as
/// with exact states, the states are neighbours of the exact ones, the upper one as often as it should.
#[test]
fn states_of_encoders_in_bf16() {
    let states = StateStorage { moments: Storage::Bf16, rounding: Rounding::new(5, 9), tensor: 3 };
    for (vocabulary, hidden) in [(1, 1), (7, 33), (131, 5), (65, 64)] {
        let count = vocabulary * hidden;
        let mut numbers = Numbers::new(count as u64);
        let (parameters, gradient) = (numbers.floats(count, 1.0), numbers.floats(count, 1.0));
        let tokens: Vec<u32> = (0..vocabulary as u32).collect();
        let truth: Vec<[f64; 3]> = (parameters.iter().zip(&gradient))
            .map(|(p, g)| Hyper::SAMPLE.step(Rule::AdamW, f64::from(*p), f64::from(*g), 0.0, 0.0))
            .collect();
        let of = |which: usize| truth.iter().map(|truth| truth[which]).collect::<Vec<_>>();
        let words = count.div_ceil(2);
        let case = format!("states of {vocabulary} x {hidden}");
        let got = compare(&case, |device| {
            let [gradient, tokens] = [upload(device, &gradient), upload(device, &tokens)];
            let [tensor, table] = [(); 2].map(|()| writable(device, &parameters));
            let [m1, v1, m2, v2] = [(); 4].map(|()| writable(device, &vec![0_u32; words]));
            let rates = Hyper::SAMPLE.rates(Rule::AdamW);
            let flat = [&gradient, &tensor.whole(), &m1.whole(), &v1.whole()];
            let rows = [&gradient, &tokens, &table.whole(), &m2.whole(), &v2.whole()];
            run(
                device,
                [
                    optimizer_step::launch(count, Rule::AdamW, rates, states, flat),
                    embedding_update::launch(
                        vocabulary,
                        hidden,
                        vocabulary,
                        Rule::AdamW,
                        rates,
                        states,
                        rows,
                    ),
                ],
            );
            // One step from the same states, of the same numbers: tensor and table get the same bits.
            let read = |buffer: &Buffer| device.read_vec::<u32>(buffer, words).unwrap();
            assert_eq!([read(&m1), read(&v1)], [read(&m2), read(&v2)], "{case} on {}", device.name());
            for (which, buffer) in [(1, &m1), (2, &v1)] {
                let got = Storage::Bf16.unpack(&read(buffer), count, words);
                let place = format!("{case}, state {which} on {}", device.name());
                assert_neighbours(&place, Storage::Bf16, &got, &of(which), sum_tolerance(4, &of(which)));
                let places = got.iter().zip(of(which)).filter(|(_, truth)| *truth != 0.0);
                let places =
                    places.map(|(got, truth)| (f64::from(*got) - truth) / step_at(Storage::Bf16, truth));
                let limit = 4.0 * 0.5 / (count as f64).sqrt();
                let mean = places.sum::<f64>() / count as f64;
                assert!(
                    mean.abs() < limit,
                    "{place}: rounded by {mean} of a step on average, at most {limit}"
                );
            }
            Outputs::of(device).close("tensor", &tensor, count, 4).close("table", &table, count, 4)
        });
        let tolerance = sum_tolerance(16, &of(0)) + 1e-5 * Hyper::SAMPLE.learning_rate;
        assert_close(&case, got.floats("tensor"), &of(0), tolerance);
        assert_close(&case, got.floats("table"), &of(0), tolerance);
    }
}
