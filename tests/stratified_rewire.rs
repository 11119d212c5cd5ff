//! Wiring and rewiring of stratified rows, on every engine, against the generator itself.

mod support;

use regrow::classifier::{FanIn, GrowthBatch, GrowthWorkspace, Loss, Prune, Regrow};
use regrow::device::{Device, DeviceOptions};
use regrow::kernels::fan_in_dlogits::Block;
use regrow::kernels::optimizer::Rule;
use regrow::kernels::rewire_mask::mask_words;
use regrow::kernels::storage::Storage;
use regrow::random::{Purpose, below, words};
use support::device::{engines, upload};
use support::layer::Layer;
use support::strata::{
    SEED, block, contents, integers, on, options, positives, sample, shapes, stratified, stratum, train,
};

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
    fan.rewire(&device, Prune::Fraction(1.0), Regrow { bound: 0.5, step: 7, keep_second_moment: false })
        .unwrap();
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
        let keep_second_moment = seed % 3 == 1;
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
            let [_, second_before, ..] = fan.states(device).unwrap();
            assert!(second_before.iter().any(|moment| *moment > 0.0), "{place}");
            let regrow = Regrow { bound: 0.0, step: 12, keep_second_moment };
            let counts = fan.rewire(device, prune, regrow).unwrap();
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
                        let kept = if keep_second_moment { second_before[i] } else { 0.0 };
                        assert_eq!([after.weights[i], first[i], second[i]], [0.0, 0.0, kept], "{place}: {i}");
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
                fan.rewire_by_gradient(
                    device,
                    prune,
                    Regrow { bound: 0.0, step: 12, keep_second_moment: false },
                    &guide,
                )
                .unwrap();
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
