//! Connections that follow documents, against a slow reference that sorts, over blocks of labels and narrow storage: what
//! moves, where to, and that nothing else changes. A second call with the same scores changes nothing.

mod support;

use std::collections::BTreeSet;

use regrow::classifier::{Contents, FanIn, FanInOptions, Loss, Positives, Step, StepScale};
use regrow::device::{Device, Recording};
use regrow::kernels::columns_of;
use regrow::kernels::optimizer::Rule;
use regrow::kernels::storage::{Precision, Storage};
use support::device::{Numbers, engines, upload};
use support::layer::Hyper;

const BATCH: usize = 5;

/// Labels, connections, features.
type Shape = (usize, usize, usize);

fn layer(device: &Device, (labels, fan_in, features): Shape, precision: Precision, rule: Rule) -> FanIn {
    let options = FanInOptions {
        labels,
        features,
        fan_in,
        group: 1,
        max_batch: BATCH,
        rule,
        precision,
        train_bias: true,
        init_scale: 1.0,
        bias_init: 0.0,
        seed: 11,
        max_block_rows: 64,
        inverted_index: Default::default(),
    };
    FanIn::new(device, options).unwrap()
}

/// One step, after which weights are of all magnitudes and states are not zero.
fn train(device: &Device, layer: &FanIn, rule: Rule, numbers: &mut Numbers) {
    let area = layer.options.features * columns_of(BATCH);
    let x = numbers.floats(area, 1.0);
    let (x, dx) = (upload(device, &x), device.allocate("dx", (area * 4) as u64).unwrap());
    let losses = device.allocate("losses", 16).unwrap();
    let mut recording = Recording::new();
    recording.clear(&dx);
    recording.clear(&losses);
    let step = Step {
        batch: BATCH,
        loss: Loss::Bce,
        scale: StepScale { gradient: 0.5, loss: 1.0, place: 0 },
        step: 2,
        rates: Hyper::SAMPLE.rates(rule),
        positives: &Positives { count: 1, pairs: upload(device, &[[0_u32, 1]]) },
        x: &x,
        dx: &dx.whole(),
        losses: &losses.whole(),
    };
    layer.record_step(&mut recording, &step);
    device.submit(recording).unwrap();
}

/// The features that a row has afterwards, and the slots that stay: the stronger half, and whatever of the rest is at one
/// of the best features that this half does not have.
fn truth(weights: &[f32], indices: &[u16], scores: &[f32]) -> (BTreeSet<u16>, BTreeSet<usize>) {
    let mut order: Vec<usize> = (0..indices.len()).collect();
    order.sort_by(|a, b| weights[*b].abs().partial_cmp(&weights[*a].abs()).unwrap().then(a.cmp(b)));
    let strong = &order[..indices.len() / 2];
    let mut features: BTreeSet<u16> = strong.iter().map(|slot| indices[*slot]).collect();
    while features.len() < indices.len() {
        let free = (0..scores.len() as u16).filter(|feature| !features.contains(feature));
        // Of equal ones the first: max_by gives the last, so go from behind.
        let best = free.rev().max_by(|a, b| scores[usize::from(*a)].total_cmp(&scores[usize::from(*b)]));
        features.insert(best.unwrap());
    }
    let stay = (0..indices.len()).filter(|slot| strong.contains(slot) || features.contains(&indices[*slot]));
    let stay = stay.collect();
    (features, stay)
}

/// Scores in steps, so that many are equal; every fifth label has no documents.
fn scores((labels, _, features): Shape, numbers: &mut Numbers) -> Vec<f32> {
    let of = |i: usize| if (i / features).is_multiple_of(5) { 0.0 } else { numbers.below(16) as f32 / 8.0 };
    (0..labels * features).map(of).collect()
}

fn check(
    place: &str,
    shape: Shape,
    scores: &[f32],
    before: (&Contents, &[Vec<f32>; 4]),
    after: (&Contents, &[Vec<f32>; 4]),
) -> u64 {
    let (labels, fan_in, features) = shape;
    let mut moved = 0;
    for label in 0..labels {
        let slots = label * fan_in..(label + 1) * fan_in;
        let [old, new] = [before.0, after.0].map(|contents| &contents.indices[slots.clone()]);
        let scores = &scores[label * features..][..features];
        let (wanted, mut stay) = truth(&before.0.weights[slots.clone()], old, scores);
        if scores.iter().all(|score| *score == 0.0) {
            stay = (0..fan_in).collect();
        } else {
            assert_eq!(new.iter().copied().collect::<BTreeSet<_>>(), wanted, "{place}: label {label}");
        }
        for (slot, i) in slots.enumerate() {
            let numbers = |(contents, states): (&Contents, &[Vec<f32>; 4])| {
                let state = |which: usize| states[which].get(i).copied().unwrap_or(0.0);
                [contents.weights[i], state(0), state(1)]
            };
            if stay.contains(&slot) {
                assert_eq!(
                    (new[slot], numbers(after)),
                    (old[slot], numbers(before)),
                    "{place}: {label}, {slot}"
                );
            } else {
                moved += 1;
                let [_, _, second] = numbers(before);
                assert_eq!(numbers(after), [0.0, 0.0, second], "{place}: {label}, {slot}");
            }
        }
    }
    assert_eq!(after.0.bias, before.0.bias, "{place}");
    assert_eq!(after.1[2..], before.1[2..], "{place}");
    moved
}

#[test]
fn the_weaker_half_goes_where_the_documents_are() {
    let narrow = |weights, moments| Precision { weights, moments, ..Precision::default() };
    let cases = [
        (narrow(Storage::F32, Storage::F32), Rule::AdamW),
        (narrow(Storage::Fp8, Storage::Bf16), Rule::AdamW),
        (narrow(Storage::F16, Storage::Bf16), Rule::Momentum),
        (narrow(Storage::Bf16, Storage::F32), Rule::Sgd),
    ];
    for (seed, shape) in [(150, 6, 40), (7, 5, 5), (70, 1, 3), (66, 33, 300)].into_iter().enumerate() {
        for (precision, rule) in cases {
            for (engine, device) in engines() {
                let place = format!("{shape:?}, {precision:?}, {rule:?} on {engine}");
                let mut numbers = Numbers::new(seed as u64);
                let layer = layer(device, shape, precision, rule);
                train(device, &layer, rule, &mut numbers);
                let scores = scores(shape, &mut numbers);
                let state = || (layer.contents(device).unwrap(), layer.states(device).unwrap());
                let before = state();
                // In two runs of labels, neither of which ends where a block does.
                let (first, second) = scores.split_at(shape.0 / 3 * shape.2);
                let mut counts = layer.follow_documents(device, 0, first).unwrap();
                let rest = layer.follow_documents(device, shape.0 / 3, second).unwrap();
                counts.pruned += rest.pruned;
                let after = state();
                let moved = check(&place, shape, &scores, (&before.0, &before.1), (&after.0, &after.1));
                assert_eq!(counts.pruned, moved, "{place}");
                assert_eq!(moved > 0, shape.1 < shape.2, "{place}");
                let again = layer.follow_documents(device, 0, &scores).unwrap();
                assert_eq!((again.pruned, again.connections), (0, (shape.0 * shape.1) as u64), "{place}");
                assert_eq!(state(), after, "{place}");
            }
        }
    }
}
