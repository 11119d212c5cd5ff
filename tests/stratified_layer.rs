//! The fixed fan-in layer with stratified rows, on every engine: its step and ranking against formulas and against a free
//! layer with the same indices, its wiring and rewiring against the generator itself.

mod support;

use regrow::Error;
use regrow::classifier::{
    Contents, FanIn, FanInOptions, GrowthBatch, GrowthWorkspace, Head, Loss, Positives, Prune, Ranker,
    Regrow, Step, StepScale,
};
use regrow::device::{Device, DeviceOptions, Recording};
use regrow::kernels::fan_in_dlogits::Block;
use regrow::kernels::optimizer::Rule;
use regrow::kernels::rewire_mask::mask_words;
use regrow::kernels::storage::{Indices, Precision, Storage};
use regrow::kernels::{columns_of, fan_in_strata_gradient, index_words};
use regrow::random::{Purpose, below, words};
use support::device::{
    Numbers, Outputs, assert_close, compare, engines, garbage, run, sum_tolerance, upload, writable,
};
use support::layer::{Hyper, Layer};

const SCALE: f32 = 0.25;
const SEED: u64 = 0xfeed_5eed_0000_0003;

/// ⌊f · D / F⌋ and the next.
fn stratum(slot: usize, fan_in: usize, features: usize) -> [usize; 2] {
    [slot, slot + 1].map(|slot| slot * features / fan_in)
}

fn block(rows: usize, fan_in: usize, group: usize, batch: usize) -> Block {
    Block { rows, first_label: 0, fan_in, group, batch, precision: Precision::default() }
}

/// Strata of one feature, of unequal widths, of 256 features in a byte each, and of more, which take two; rows that end
/// within words; groups; several parts of the sweep and several runs of the feature gradient.
fn shapes() -> Vec<(Block, usize)> {
    vec![
        (block(1, 1, 1, 1), 3),
        (block(7, 3, 1, 7), 10),
        (block(33, 9, 4, 5), 9),
        (block(65, 33, 1, 33), 65),
        (block(300, 5, 1, 7), 12),
        (block(300, 9, 8, 33), 20),
        (block(75, 17, 32, 7), 40),
        (block(40, 3, 1, 20), 768),
        (block(40, 3, 8, 20), 769),
        (block(2500, 4, 8, 5), 70),
    ]
}

/// Indices of a layer within their strata, as features.
fn stratify(layer: &mut Layer, seed: u64) {
    let (fan_in, features) = (layer.block.fan_in, layer.features);
    let mut numbers = Numbers::new(seed + 300);
    for row in layer.indices.chunks_exact_mut(index_words(fan_in) * 2) {
        for (slot, index) in row[..fan_in].iter_mut().enumerate() {
            let [start, end] = stratum(slot, fan_in, features);
            *index = (start + numbers.below(end - start)) as u16;
        }
    }
}

fn sample(shape: (Block, usize), seed: u64, storage: Storage) -> Layer {
    let mut layer = Layer::new(shape, seed);
    layer.weights.iter_mut().for_each(|w| *w = storage.decode(storage.nearest(*w)));
    stratify(&mut layer, seed);
    layer
}

/// Numbers that every storage has and whose sums are exact.
fn integers(shape: (Block, usize), seed: u64) -> Layer {
    let mut layer = Layer::integers(shape, seed);
    stratify(&mut layer, seed);
    layer
}

fn contents(layer: &Layer) -> Contents {
    let fan_in = layer.block.fan_in;
    let rows = layer.indices.chunks_exact(index_words(fan_in) * 2);
    Contents {
        weights: layer.weights.clone(),
        indices: rows.flat_map(|row| row[..fan_in].to_vec()).collect(),
        bias: layer.bias.clone(),
    }
}

fn options(layer: &Layer, precision: Precision, rule: Rule, max_block_rows: usize) -> FanInOptions {
    let Block { rows, fan_in, group, batch, .. } = layer.block;
    FanInOptions {
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
        seed: SEED,
        max_block_rows,
    }
}

fn stratified(layer: &Layer, weights: Storage, moments: Storage) -> Precision {
    Precision { weights, moments, indices: Indices::Stratified { features: layer.features } }
}

fn on(device: &Device, layer: &Layer, options: FanInOptions) -> FanIn {
    let fan = FanIn::allocate(device, options).unwrap();
    fan.set_contents(device, &contents(layer)).unwrap();
    assert_eq!(fan.contents(device).unwrap(), contents(layer));
    fan
}

/// The positives of the labels that are there.
fn positives(device: &Device, layer: &Layer) -> Positives {
    let labels = layer.block.rows as u32;
    let mut pairs: Vec<[u32; 2]> = layer.positives.iter().copied().filter(|pair| pair[0] < labels).collect();
    let count = pairs.len();
    pairs.resize(count.max(1), [u32::MAX; 2]);
    Positives { count, pairs: upload(device, &pairs) }
}

/// One step; gives (loss, dx).
fn train(device: &Device, fan: &FanIn, layer: &Layer, rule: Rule, step: u64) -> (f32, Vec<f32>) {
    let batch = layer.block.batch;
    let area = layer.features * columns_of(batch);
    let (x, dx) = (upload(device, &layer.x), device.allocate("dx", (area * 4) as u64).unwrap());
    let losses = device.allocate("losses", 16).unwrap();
    let mut recording = Recording::new();
    recording.clear(&dx);
    recording.clear(&losses);
    fan.record_step(
        &mut recording,
        &Step {
            batch,
            loss: Loss::Bce,
            scale: StepScale { gradient: SCALE, loss: 1.0, place: 0 },
            step,
            rates: Hyper::SAMPLE.rates(rule),
            positives: &positives(device, layer),
            x: &x,
            dx: &dx.whole(),
            losses: &losses.whole(),
        },
    );
    device.submit(recording).unwrap();
    (device.read_vec::<f32>(&losses, 1).unwrap()[0], device.read_vec(&dx, area).unwrap())
}

fn terms(layer: &Layer) -> usize {
    layer.block.fan_in + layer.columns() + 8
}

#[test]
fn a_step_follows_the_formulas() {
    for (seed, shape) in shapes().into_iter().enumerate() {
        let layer = sample(shape, seed as u64, Storage::F32);
        let (losses, mut dlogits) = layer.loss(Loss::Bce);
        dlogits.iter_mut().for_each(|g| *g *= f64::from(SCALE));
        let gradients = layer.weight_gradient(&dlogits);
        let after = |(p, g): (&f32, f64)| Hyper::SAMPLE.step(Rule::Sgd, f64::from(*p), g, 0.0, 0.0)[0];
        let weights: Vec<f64> = layer.weights.iter().zip(gradients).map(after).collect();
        let (dx, loss) = (layer.feature_gradient(&dlogits), losses.iter().sum::<f64>());
        for (engine, device) in engines() {
            for max_block_rows in [0, 64 * layer.block.group] {
                let place = format!("{:?} in blocks of {max_block_rows} on {engine}", layer.block);
                let precision = stratified(&layer, Storage::F32, Storage::F32);
                let fan = on(device, &layer, options(&layer, precision, Rule::Sgd, max_block_rows));
                let (got_loss, got_dx) = train(device, &fan, &layer, Rule::Sgd, 2);
                let rows = layer.block.rows;
                assert_close(&place, &[got_loss], &[loss], sum_tolerance(terms(&layer) + rows, &[loss]));
                assert_close(&place, &got_dx, &dx, sum_tolerance(layer.block.fan_in + rows.min(200), &dx));
                let got = fan.contents(device).unwrap();
                assert_close(&place, &got.weights, &weights, sum_tolerance(terms(&layer), &weights));
                assert_eq!(got.indices, contents(&layer).indices, "{place}");
            }
        }
    }
}

/// Where indices lie is all that differs: with the same ones, both kinds of rows give the same bits, in every storage. The
/// features' gradient alone is summed in another order on GPUs.
#[test]
fn a_step_is_that_of_a_free_layer_with_the_same_indices() {
    let storages = [
        (Storage::F32, Storage::F32),
        (Storage::F16, Storage::F32),
        (Storage::Bf16, Storage::Bf16),
        (Storage::Fp8, Storage::Bf16),
        (Storage::F32, Storage::Bf16),
    ];
    for (seed, shape) in shapes().into_iter().enumerate() {
        // Two of the five with each shape: drivers compile a variant for every size and storage.
        for (weights, moments) in [seed, seed + 1].map(|i| storages[i % storages.len()]) {
            let layer = sample(shape, seed as u64, weights);
            let strata = stratified(&layer, weights, moments);
            let free = Precision { indices: Indices::Free, ..strata };
            for (engine, device) in engines() {
                let place = format!("{weights:?}, {moments:?}, {:?} on {engine}", layer.block);
                let [(got, got_dx), (want, want_dx)] = [strata, free].map(|precision| {
                    let fan = on(device, &layer, options(&layer, precision, Rule::AdamW, 0));
                    let mut dx = Vec::new();
                    let losses = [0, 1].map(|step| {
                        let (loss, gradient) = train(device, &fan, &layer, Rule::AdamW, step);
                        dx = gradient;
                        loss.to_bits()
                    });
                    let after = fan.contents(device).unwrap();
                    ((losses, after, fan.states(device).unwrap()), dx)
                });
                assert!(got == want, "{place}");
                let want_dx: Vec<f64> = want_dx.into_iter().map(f64::from).collect();
                let terms = layer.block.fan_in + layer.block.rows.min(200);
                assert_close(&place, &got_dx, &want_dx, sum_tolerance(terms, &want_dx));
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for (seed, shape) in shapes().into_iter().enumerate() {
        let layer = sample(shape, seed as u64, Storage::Bf16);
        for fused in [true, false] {
            let [one, three] = [1, 3].map(|threads| {
                let device =
                    Device::cpu(DeviceOptions { fused, threads, ..DeviceOptions::default() }).unwrap();
                let precision = stratified(&layer, Storage::Bf16, Storage::Bf16);
                let fan = on(&device, &layer, options(&layer, precision, Rule::AdamW, 0));
                let (loss, dx) = train(&device, &fan, &layer, Rule::AdamW, 2);
                (loss, dx, fan.contents(&device).unwrap(), fan.states(&device).unwrap())
            });
            assert!(one == three, "{:?}, fused {fused}", layer.block);
        }
    }
}

/// Also from scratch that holds anything, in several runs of labels, and added to what was there.
#[test]
fn the_feature_gradient_goes_into_strata() {
    for (seed, shape) in shapes().into_iter().enumerate() {
        let mut layer = sample(shape, seed as u64, Storage::F32);
        layer.block.precision = stratified(&layer, Storage::F32, Storage::F32);
        let (block, features) = (layer.block, layer.features);
        let area = features * layer.columns();
        let mut numbers = Numbers::new(seed as u64 + 40);
        let dlogits = numbers.floats(block.rows * layer.columns(), 1.0);
        let before = numbers.floats(area, 1.0);
        let packed = block.indices().pack(&contents(&layer).indices);
        let sent = layer.feature_gradient(&dlogits.iter().map(|g| f64::from(*g)).collect::<Vec<_>>());
        let want: Vec<f64> = sent.iter().zip(&before).map(|(dx, before)| dx + f64::from(*before)).collect();
        for runs in [1, 2, 5] {
            let case = format!("{runs} runs of {block:?} over {features} features");
            let got = compare(&case, |device| {
                let inputs = [upload(device, &dlogits), upload(device, &layer.weights)];
                let indices = upload(device, &packed);
                let partial = garbage(device, runs * area).whole();
                let dx = writable(device, &before);
                let bindings = [&inputs[0], &inputs[1], &indices, &partial, &dx.whole()];
                run(device, fan_in_strata_gradient::launches(block, features, runs, bindings));
                Outputs::of(device).close("dx", &dx, area, block.rows.min(200) + 8)
            });
            assert_close(&case, got.floats("dx"), &want, sum_tolerance(block.rows.min(200) + 8, &want));
        }
    }
}

#[test]
fn ranking_follows_the_formulas() {
    let shapes = [(5, 1, 22), (8, 16, 30), (2, 1, 600), (3, 8, 770)];
    for ((fan_in, group, features), narrow) in shapes.into_iter().zip(Storage::ALL) {
        let layer = integers((block(700, fan_in, group, 3), features), 5);
        let (z, columns) = (layer.logits(), layer.columns());
        for weights in [Storage::F32, narrow] {
            for (engine, device) in engines() {
                let precision = stratified(&layer, weights, Storage::F32);
                let head = Head::FanIn(on(device, &layer, options(&layer, precision, Rule::Sgd, 0)));
                let ranker = Ranker::new(device, &head, 5, 3).unwrap();
                let (nothing, x) = (upload(device, &[0_u32; 4]), upload(device, &layer.x));
                let mut recording = Recording::new();
                let ranked = ranker.record(&mut recording, &head, 3, &x, [&nothing, &nothing]);
                device.submit(recording).unwrap();
                for (sample, list) in ranked.collect(device).unwrap().into_iter().enumerate() {
                    let score = |row| (row as u32, z[row * columns + sample] as f32);
                    let mut want: Vec<(u32, f32)> = (0..700).map(score).collect();
                    want.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                    let case = format!("{weights:?}, {:?} on {engine}, sample {sample}", layer.block);
                    assert_eq!(list, want[..5], "{case}");
                }
            }
        }
    }
}

/// The `i`-th number below `end` that a slot draws.
fn drawn(purpose: Purpose, step: u32, row: usize, slot: usize, i: usize, end: usize) -> usize {
    let words = words(SEED, purpose, step, row as u32, (slot * 9 + i / 4) as u32);
    below(words[i % 4], end as u32) as usize
}

#[test]
fn the_first_wiring_draws_from_each_stratum() {
    for shape in shapes() {
        let layer = Layer::new(shape, 0);
        let Block { fan_in, group, .. } = layer.block;
        let precision = stratified(&layer, Storage::F32, Storage::F32);
        for (engine, device) in engines() {
            for max_block_rows in [0, 8 * group] {
                let options = options(&layer, precision, Rule::Sgd, max_block_rows);
                let wired = FanIn::new(device, options).unwrap().contents(device).unwrap();
                for (row, indices) in wired.indices.chunks_exact(fan_in).enumerate() {
                    for (slot, index) in indices.iter().enumerate() {
                        let [start, end] = stratum(slot, fan_in, layer.features);
                        let want = start + drawn(Purpose::ClassifierInit, 0, row, slot, 0, end - start);
                        assert_eq!(usize::from(*index), want, "{:?} on {engine}, row {row}", layer.block);
                    }
                }
            }
        }
    }
}

/// Every feature of a stratum is drawn as often as the others, to five standard deviations of a binomial.
#[test]
fn wiring_is_uniform_within_strata() {
    let layer = Layer::new((block(6000, 3, 1, 1), 20), 0);
    let device = Device::cpu(DeviceOptions::default()).unwrap();
    let precision = stratified(&layer, Storage::F32, Storage::F32);
    let fan = FanIn::new(&device, options(&layer, precision, Rule::Sgd, 0)).unwrap();
    let check = |what: &str| {
        let mut counts = [0_u32; 20];
        let wired = fan.contents(&device).unwrap();
        wired.indices.iter().for_each(|index| counts[usize::from(*index)] += 1);
        for (slot, [start, end]) in [0, 1, 2].map(|slot| (slot, stratum(slot, 3, 20))) {
            let share = 1.0 / (end - start) as f64;
            let (mean, deviation) = (6000.0 * share, (6000.0 * share * (1.0 - share)).sqrt());
            for count in &counts[start..end] {
                let off = (f64::from(*count) - mean).abs();
                assert!(off < 5.0 * deviation, "{what}, slot {slot}: {counts:?}, about {mean} each");
            }
        }
    };
    check("the first wiring");
    fan.rewire(&device, Prune::Fraction(1.0), Regrow { bound: 0.5, step: 7 }).unwrap();
    check("regrown");
}

/// Of the features of a slot's stratum but its own: the `place`-th.
fn other(own: usize, [start, _]: [usize; 2], place: usize) -> usize {
    start + place + usize::from(start + place >= own)
}

fn is_pruned(mask: &[u32], fan_in: usize, row: usize, slot: usize) -> bool {
    mask[row * mask_words(fan_in) + slot / 32] >> (slot % 32) & 1 == 1
}

#[test]
fn rewiring_stays_in_the_stratum() {
    for (seed, shape) in shapes().into_iter().enumerate() {
        let storages = [(Storage::F32, Storage::F32), (Storage::Fp8, Storage::Bf16)];
        let (weights, moments) = storages[seed % 2];
        let layer = sample(shape, seed as u64, weights);
        let Block { rows, fan_in, group, .. } = layer.block;
        let before = contents(&layer);
        for (engine, device) in engines() {
            let place = format!("{weights:?}, {:?} on {engine}", layer.block);
            let precision = stratified(&layer, weights, moments);
            let options = options(&layer, precision, Rule::AdamW, 64 * group);
            let fan = on(device, &layer, options);
            train(device, &fan, &layer, Rule::AdamW, 0);
            fan.set_contents(device, &before).unwrap();
            let prune = Prune::FractionPerRow(0.5);
            let mask = fan.pruned_slots(device, prune).unwrap();
            let counts = fan.rewire(device, prune, Regrow { bound: 0.0, step: 12 }).unwrap();
            assert_eq!(counts.pruned, (rows.div_ceil(group) * (fan_in / 2)) as u64, "{place}");
            assert_eq!(counts.regrown, counts.pruned, "{place}");
            let after = fan.contents(device).unwrap();
            let [first, second, ..] = fan.states(device).unwrap();
            for (i, (new, own)) in after.indices.iter().zip(&before.indices).enumerate() {
                let (row, slot) = (i / fan_in, i % fan_in);
                let stratum = stratum(slot, fan_in, layer.features);
                let others = stratum[1] - stratum[0] - 1;
                let own = usize::from(*own);
                // The only feature of a stratum stays; its weight is reset all the same.
                let want = if is_pruned(&mask, fan_in, row, slot) && others > 0 {
                    other(own, stratum, drawn(Purpose::Regrow, 12, row, slot, 0, others))
                } else {
                    own
                };
                assert_eq!(usize::from(*new), want, "{place}: row {row}, slot {slot}");
            }
            for label in 0..rows {
                for (slot, i) in (label * fan_in..(label + 1) * fan_in).enumerate() {
                    if is_pruned(&mask, fan_in, label / group, slot) {
                        assert_eq!([after.weights[i], first[i], second[i]], [0.0; 3], "{place}: {i}");
                    } else {
                        assert_eq!(after.weights[i], before.weights[i], "{place}: {i}");
                    }
                }
            }
        }
    }
}

/// Candidates are different features of the stratum, drawn in order; where there are fewer than wanted, all of them. With
/// integers every gradient is exact.
#[test]
fn growth_by_gradient_stays_in_the_stratum() {
    for (rows, fan_in, group, features) in
        [(130, 7, 1, 40), (261, 33, 4, 65), (261, 9, 8, 9), (75, 2, 8, 600), (130, 3, 1, 70)]
    {
        let layer = integers((block(rows, fan_in, group, 5), features), 3);
        let columns = layer.columns();
        let dlogits = layer.loss(Loss::SquaredHinge).1;
        let strength = |row: usize, index: usize| -> f64 {
            let of_label = |label: usize| -> f64 {
                let x = &layer.x[index * columns..][..columns];
                x.iter().zip(&dlogits[label * columns..]).map(|(x, g)| f64::from(*x) * g).sum()
            };
            (row * group..((row + 1) * group).min(rows)).map(|label| of_label(label).abs()).sum()
        };
        let choose = |row: usize, slot: usize, own: usize, candidates: usize| {
            let stratum = stratum(slot, fan_in, features);
            let others = stratum[1] - stratum[0] - 1;
            if others == 0 {
                return own;
            }
            let draw = |i| drawn(Purpose::Regrow, 12, row, slot, i, others);
            let mut chosen: Vec<usize> = Vec::new();
            for place in (0..32).map(draw).chain((1..=others).map(|i| (draw(31) + i) % others)) {
                let index = other(own, stratum, place);
                if !chosen.contains(&index) && chosen.len() < candidates {
                    chosen.push(index);
                }
            }
            assert_eq!(chosen.len(), candidates.min(others));
            // max_by gives the last of equals: the first drawn must win.
            let best =
                chosen.into_iter().rev().max_by(|a, b| strength(row, *a).total_cmp(&strength(row, *b)));
            best.unwrap()
        };
        for (engine, device) in engines() {
            for (weights, candidates) in [(Storage::F32, 4), (Storage::F32, 1), (Storage::Fp8, 32)] {
                let place = format!("{weights:?}, {candidates} of {:?} on {engine}", layer.block);
                let precision = stratified(&layer, weights, Storage::F32);
                let fan = on(device, &layer, options(&layer, precision, Rule::Sgd, 0));
                let prune = Prune::FractionPerRow(0.5);
                let mask = fan.pruned_slots(device, prune).unwrap();
                // Chunks of 64 rows of indices, the least.
                let workspace = GrowthWorkspace::new(device, &fan, 1).unwrap();
                let guide = GrowthBatch {
                    workspace: &workspace,
                    candidates,
                    batch: layer.block.batch,
                    loss: Loss::SquaredHinge,
                    positives: &positives(device, &layer),
                    x: &upload(device, &layer.x),
                };
                fan.rewire_by_gradient(device, prune, Regrow { bound: 0.0, step: 12 }, &guide).unwrap();
                let before = contents(&layer).indices;
                let after = fan.contents(device).unwrap().indices;
                for (i, (new, own)) in after.iter().zip(before).enumerate() {
                    let (row, slot, own) = (i / fan_in, i % fan_in, usize::from(own));
                    let pruned = is_pruned(&mask, fan_in, row, slot);
                    let want = if pruned { choose(row, slot, own, candidates) } else { own };
                    assert_eq!(usize::from(*new), want, "{place}: row {row}, slot {slot}");
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let device = Device::cpu(DeviceOptions::default()).unwrap();
    let layer = sample((block(7, 3, 1, 7), 10), 1, Storage::F32);
    let precision = stratified(&layer, Storage::F32, Storage::F32);
    let good = options(&layer, precision, Rule::Sgd, 0);
    let fan = on(&device, &layer, good);
    let mut outside = contents(&layer);
    outside.indices[3 * 2 + 1] = 7;
    let error = fan.set_contents(&device, &outside).unwrap_err();
    assert!(matches!(error, Error::Usage(_)), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("row 2, slot 1 holds 7, outside the slot's stratum 3..6"), "{message}");
    // The layer is as it was.
    assert_eq!(fan.contents(&device).unwrap(), contents(&layer));
    let refused = |options| FanIn::new(&device, options).map(|_| ()).unwrap_err().to_string();
    let other = Precision { indices: Indices::Stratified { features: 11 }, ..precision };
    assert!(refused(FanInOptions { precision: other, ..good }).contains("3 strata of 11 features"));
    assert!(refused(FanInOptions { fan_in: 11, ..good }).contains("between 1 and the 10 features"));
    let repeating = FanIn::allocate_with_duplicates(&device, FanInOptions { fan_in: 11, ..good });
    assert!(repeating.map(|_| ()).unwrap_err().to_string().contains("11 strata of 10 features"));
}
