//! Growth by gradient against a slow reference that draws its candidates from the generator itself, and rewiring at its
//! limits: nothing or everything pruned, no free feature.

mod support;

use std::collections::BTreeSet;

use regrow::classifier::{
    Contents, FanIn, FanInOptions, GrowthBatch, GrowthWorkspace, Positives, Prune, Regrow, RewireCounts,
};
use regrow::device::Device;
use regrow::kernels::fan_in_dlogits::{Block, Loss};
use regrow::kernels::index_words;
use regrow::kernels::optimizer::Rule;
use regrow::kernels::rewire_gradient::{launches, slots_at_once};
use regrow::kernels::rewire_mask::mask_words;
use regrow::kernels::rewire_regrow::{self, Growth};
use regrow::kernels::storage::{Precision, Storage};
use regrow::random::{Purpose, below, words};
use support::device::{Numbers, Outputs, compare, engines, run, upload, writable};
use support::layer::{Layer, shapes};

const SEED: u64 = 0xfeed_5eed_0000_0002;
const STEP: u32 = 12;

fn growth(features: usize) -> Growth {
    Growth { features, bound: 0.0, seed: SEED, step: STEP, first_wiring: false, states: 0 }
}

/// The shapes of every kernel test, and rows with no, one, two and three free features.
fn cases() -> Vec<(Block, usize)> {
    let tight = |features| {
        (
            Block {
                rows: 33,
                first_label: 12,
                fan_in: 9,
                group: 4,
                batch: 5,
                precision: Precision::default(),
            },
            features,
        )
    };
    let wide = (
        Block { rows: 3, first_label: 1, fan_in: 70, group: 1, batch: 17, precision: Precision::default() },
        74,
    );
    shapes().into_iter().chain([9, 10, 11, 12].map(tight)).chain([wide]).collect()
}

/// Some slots pruned, in the mask's words.
fn random_mask(block: Block, numbers: &mut Numbers) -> Vec<u32> {
    let words = mask_words(block.fan_in);
    let mut mask = vec![0; block.index_rows() * words];
    for row in 0..block.index_rows() {
        for slot in (0..block.fan_in).filter(|_| numbers.below(2) == 0) {
            mask[row * words + slot / 32] |= 1 << (slot % 32);
        }
    }
    mask
}

/// The indices of all rows after growth: each pruned slot, in order, takes the strongest of its candidates.
fn reference(
    layer: &Layer,
    dlogits: &[f32],
    mask: &[u32],
    candidates: usize,
    seed: u64,
    step: u32,
) -> Vec<u16> {
    let Block { rows, first_label, fan_in, group, .. } = layer.block;
    let (columns, features) = (layer.columns(), layer.features as u32);
    let mut out = layer.indices.clone();
    for (row, indices) in out.chunks_exact_mut(index_words(fan_in) * 2).enumerate() {
        let number = (first_label / group + row) as u32;
        let strength = |index: u32| -> f64 {
            let of_label = |label: usize| -> f64 {
                let x = &layer.x[index as usize * columns..][..columns];
                x.iter().zip(&dlogits[label * columns..]).map(|(x, g)| f64::from(*x) * f64::from(*g)).sum()
            };
            (row * group..((row + 1) * group).min(rows)).map(|label| of_label(label).abs()).sum()
        };
        for slot in 0..fan_in {
            if mask[row * mask_words(fan_in) + slot / 32] >> (slot % 32) & 1 == 0 {
                continue;
            }
            let drawn = |i: u32| {
                let words = words(seed, Purpose::Regrow, step, number, slot as u32 * 9 + i / 4);
                below(words[i as usize % 4], features)
            };
            let walk = (1..=features).map(|i| (drawn(31) + i) % features);
            let mut chosen: Vec<u32> = Vec::new();
            for index in (0..32).map(drawn).chain(walk) {
                let free = !indices[..fan_in].contains(&(index as u16)) && !chosen.contains(&index);
                if free && chosen.len() < candidates {
                    chosen.push(index);
                }
            }
            // max_by gives the last of equals: the first drawn must win.
            let best = chosen.into_iter().rev().max_by(|a, b| strength(*a).total_cmp(&strength(*b)));
            indices[slot] = best.map_or(indices[slot], |index| index as u16);
        }
    }
    out
}

/// Small integers: every gradient is exact in any order, and ties are common.
#[test]
fn slots_take_the_strongest_of_their_candidates() {
    for (seed, shape) in cases().into_iter().enumerate() {
        let layer = Layer::integers(shape, seed as u64);
        let block = layer.block;
        let mut numbers = Numbers::new(seed as u64 + 70);
        let mut dlogits = numbers.integers(block.rows * layer.columns(), 3);
        dlogits.chunks_mut(layer.columns()).for_each(|row| row[block.batch..].fill(0.0));
        let mask = random_mask(block, &mut numbers);
        let most = |candidates| slots_at_once(block, layer.features, candidates, true);
        for (candidates, slots) in [(1, most(1)), (3, 2), (8, most(8)), (32, 1)] {
            let case = format!("{candidates} candidates of {} features, {block:?}", layer.features);
            let got = compare(&case, |device| {
                let indices = writable(device, bytemuck::cast_slice::<u16, u8>(&layer.indices));
                let inputs = [upload(device, &mask), upload(device, &layer.x), upload(device, &dlogits)];
                let bindings = [&inputs[0], &inputs[1], &inputs[2], &indices.whole()];
                run(device, launches(block, growth(layer.features), candidates, slots, bindings));
                Outputs::of(device).exact("indices", &indices, layer.indices.len() / 2)
            });
            let got: Vec<u16> = bytemuck::cast_slice(got.words("indices")).to_vec();
            let want = reference(&layer, &dlogits, &mask, candidates, SEED, STEP);
            assert!(got == want, "{case}: {got:?}, wanted {want:?}");
            for row in got.chunks_exact(index_words(block.fan_in) * 2) {
                let different: BTreeSet<&u16> = row[..block.fan_in].iter().collect();
                assert_eq!(different.len(), block.fan_in, "{case}: {row:?}");
            }
        }
    }
}

#[test]
fn one_candidate_is_random_growth() {
    for (seed, shape) in cases().into_iter().enumerate() {
        let layer = Layer::new(shape, seed as u64);
        let block = layer.block;
        let mask = random_mask(block, &mut Numbers::new(seed as u64));
        let got = compare(&format!("{block:?}"), |device| {
            let [one, random] =
                [0, 1].map(|_| writable(device, bytemuck::cast_slice::<u16, u8>(&layer.indices)));
            let (mask, x) = (upload(device, &mask), upload(device, &layer.x));
            let dlogits = upload(device, &vec![1.0_f32; block.rows * layer.columns()]);
            let bindings = [&mask, &x, &dlogits, &one.whole()];
            let slots = slots_at_once(block, layer.features, 1, true);
            run(device, launches(block, growth(layer.features), 1, slots, bindings));
            let words = mask_words(block.fan_in) * block.index_rows();
            let others = [words, 4, 4, 4].map(|len| writable(device, &vec![0_u32; len]).whole());
            let weights = writable(device, &layer.weights).whole();
            let [regrown, first, second, counts] = others.each_ref();
            let bindings = [&mask, regrown, &weights, &random.whole(), first, second, counts];
            let slots = rewire_regrow::slots_at_once(block, layer.features, 1, 0, true);
            run(device, rewire_regrow::launches(block, growth(layer.features), slots, bindings));
            let count = layer.indices.len() / 2;
            Outputs::of(device).exact("one", &one, count).exact("random", &random, count)
        });
        assert_eq!(got.words("one"), got.words("random"), "{block:?} of {} features", layer.features);
    }
}

/// On software Vulkan a launch stays below the iterations after which loops end; elsewhere one does all.
#[test]
fn launches_are_cut_where_loops_end_early() {
    let block =
        Block { rows: 1, first_label: 0, fan_in: 128, group: 1, batch: 64, precision: Precision::default() };
    assert_eq!(slots_at_once(block, 768, 8, false), 128);
    // 64 draws or steps of 64 + 10 comparisons, and 8 candidates of 18 products: 4,880 a slot.
    assert_eq!(slots_at_once(block, 768, 8, true), 8);
}

fn options(layer: &Layer, max_block_rows: usize) -> FanInOptions {
    let Block { rows, fan_in, group, batch, .. } = layer.block;
    FanInOptions {
        labels: rows,
        features: layer.features,
        fan_in,
        group,
        max_batch: batch,
        rule: Rule::AdamW,
        precision: layer.block.precision,
        train_bias: true,
        init_scale: 1.0,
        bias_init: 0.0,
        seed: SEED,
        max_block_rows,
        inverted_index: Default::default(),
    }
}

fn on(device: &Device, layer: &Layer, max_block_rows: usize) -> FanIn {
    let Block { fan_in, .. } = layer.block;
    let fan = FanIn::new(device, options(layer, max_block_rows)).unwrap();
    let rows = layer.indices.chunks_exact(index_words(fan_in) * 2);
    let indices = rows.flat_map(|row| row[..fan_in].to_vec()).collect();
    let contents = Contents { weights: layer.weights.clone(), indices, bias: layer.bias.clone() };
    fan.set_contents(device, &contents).unwrap();
    fan
}

/// The whole layer, its logit gradients recomputed in chunks: with integers and the squared hinge they are exact, so
/// every engine must choose what the reference chooses. The integers are whole in narrow storage too.
#[test]
fn a_layer_grows_where_the_batch_leans() {
    let [f32, bf16, fp8] = [Storage::F32, Storage::Bf16, Storage::Fp8]
        .map(|weights| Precision { weights, ..Precision::default() });
    let shapes = [(130, 7, 1, 40), (261, 33, 4, 65)];
    let cases = [f32, bf16, fp8].into_iter().flat_map(|precision| shapes.map(|shape| (shape, precision)));
    for ((rows, fan_in, group, features), precision) in cases {
        let block = Block { rows, first_label: 0, fan_in, group, batch: 5, precision };
        let layer = Layer::integers((block, features), 3);
        let dlogits: Vec<f32> = layer.loss(Loss::SquaredHinge).1.iter().map(|g| *g as f32).collect();
        for (engine, device) in engines() {
            for max_block_rows in [0, 64 * group] {
                let fan = on(device, &layer, max_block_rows);
                let mask = fan.pruned_slots(device, Prune::FractionPerRow(0.5)).unwrap();
                let own: Vec<[u32; 2]> =
                    layer.positives.iter().copied().filter(|[label, _]| (*label as usize) < rows).collect();
                let positives = Positives { count: own.len(), pairs: upload(device, &own) };
                let x = upload(device, &layer.x);
                // Chunks of 64 rows of indices, the least.
                let workspace = GrowthWorkspace::new(device, &fan, 1).unwrap();
                let guide = GrowthBatch {
                    workspace: &workspace,
                    candidates: 4,
                    batch: block.batch,
                    loss: Loss::SquaredHinge,
                    positives: &positives,
                    x: &x,
                };
                let regrow = Regrow { bound: 0.0, step: STEP, keep_second_moment: false };
                let counts =
                    fan.rewire_by_gradient(device, Prune::FractionPerRow(0.5), regrow, &guide).unwrap();
                let place = format!("{block:?} in blocks of {max_block_rows} on {engine}");
                let index_rows = block.index_rows() as u64;
                assert_eq!(counts.pruned, index_rows * (fan_in as u64 / 2), "{place}");
                assert_eq!(counts.connections, index_rows * fan_in as u64, "{place}");
                let want = reference(&layer, &dlogits, &mask, 4, SEED, STEP);
                let want: Vec<u16> = want
                    .chunks_exact(index_words(fan_in) * 2)
                    .flat_map(|row| row[..fan_in].to_vec())
                    .collect();
                let after = fan.contents(device).unwrap();
                assert!(after.indices == want, "{place}");
                for (label, slot) in (0..rows).flat_map(|label| (0..fan_in).map(move |slot| (label, slot))) {
                    let pruned = mask[label / group * mask_words(fan_in) + slot / 32] >> (slot % 32) & 1 == 1;
                    let want = if pruned { 0.0 } else { layer.weights[label * fan_in + slot] };
                    assert_eq!(after.weights[label * fan_in + slot], want, "{place}: {label}, {slot}");
                }
            }
        }
    }
}

/// The first wiring of rows that use every feature: a walk over all of them for nearly each slot.
#[test]
fn rows_of_all_features_are_wired() {
    let layer = Layer::new(
        (
            Block {
                rows: 3,
                first_label: 0,
                fan_in: 200,
                group: 1,
                batch: 1,
                precision: Precision::default(),
            },
            200,
        ),
        1,
    );
    let [(_, twins), others @ ..] = engines();
    let wired = |device| FanIn::new(device, options(&layer, 0)).unwrap().contents(device).unwrap();
    let want = wired(twins);
    for row in want.indices.chunks_exact(200) {
        assert!(row.iter().copied().collect::<BTreeSet<_>>().into_iter().eq(0..200), "{row:?}");
    }
    for (engine, device) in others {
        assert!(wired(device) == want, "{engine}");
    }
}

/// Nothing pruned, everything pruned, and rows that use every feature: by each rule, random and by gradient.
#[test]
fn rewiring_at_its_limits() {
    for features in [9, 10, 30] {
        let block = Block {
            rows: 21,
            first_label: 0,
            fan_in: 9,
            group: 1,
            batch: 3,
            precision: Precision::default(),
        };
        let layer = Layer::new((block, features), 8);
        let connections = (block.rows * block.fan_in) as u64;
        let all = [Prune::Fraction(1.0), Prune::FractionPerRow(1.0), Prune::Threshold(1e30)];
        let none = [Prune::Fraction(0.0), Prune::FractionPerRow(0.0), Prune::Threshold(0.0)];
        for (engine, device) in engines() {
            for (prune, by_gradient) in all.iter().chain(&none).flat_map(|p| [(*p, false), (*p, true)]) {
                let place = format!("{prune:?}, by gradient {by_gradient}, {features} features, on {engine}");
                let fan = on(device, &layer, 8);
                let before = fan.contents(device).unwrap();
                let workspace = GrowthWorkspace::new(device, &fan, 1 << 20).unwrap();
                let positives = Positives { count: 0, pairs: upload(device, &[[0_u32; 2]; 2]) };
                let guide = GrowthBatch {
                    workspace: &workspace,
                    candidates: 32,
                    batch: block.batch,
                    loss: Loss::Bce,
                    positives: &positives,
                    x: &upload(device, &layer.x),
                };
                let rewire = |step| {
                    let regrow = Regrow { bound: 0.0, step, keep_second_moment: false };
                    if by_gradient {
                        fan.rewire_by_gradient(device, prune, regrow, &guide).unwrap()
                    } else {
                        fan.rewire(device, prune, regrow).unwrap()
                    }
                };
                let pruned = if all.contains(&prune) { connections } else { 0 };
                let want = RewireCounts { pruned, pruned_again: 0, regrown: pruned, connections };
                assert_eq!(rewire(1), want, "{place}");
                assert_eq!(want.turnover(), if pruned > 0 { 1.0 } else { 0.0 }, "{place}");
                let after = fan.contents(device).unwrap();
                if pruned == 0 {
                    assert!(after == before, "{place}");
                } else {
                    assert!(after.weights.iter().all(|weight| *weight == 0.0), "{place}");
                    // With every feature in use a slot keeps its own; with one free, a row has all but one.
                    assert!(features > 9 || after.indices == before.indices, "{place}");
                }
                for row in after.indices.chunks_exact(9) {
                    assert_eq!(row.iter().collect::<BTreeSet<_>>().len(), 9, "{place}: {row:?}");
                    assert!(row.iter().all(|index| usize::from(*index) < features), "{place}: {row:?}");
                }
                assert_eq!(after.bias, before.bias, "{place}");
                // What was regrown at once is pruned again.
                assert_eq!(rewire(2), RewireCounts { pruned_again: pruned, ..want }, "{place}");
            }
        }
    }
}
