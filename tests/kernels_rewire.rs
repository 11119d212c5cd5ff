//! Pruning and regrowing against their twins, and against plain constructions.

mod support;

use std::collections::BTreeSet;

use regrow::device::Device;
use regrow::kernels::fan_in_dlogits::Block;
use regrow::kernels::rewire_histogram::Digit;
use regrow::kernels::rewire_mask::{Rule, mask_words};
use regrow::kernels::rewire_regrow::Growth;
use regrow::kernels::storage::Precision;
use regrow::kernels::{index_words, rewire_histogram, rewire_mask, rewire_regrow};
use regrow::random::{Purpose, below, unit, words};
use support::device::{Numbers, Outputs, compare, garbage, run, upload, writable};
use support::layer::{Layer, shapes};

/// Blocks whose weights are multiples of 1/8: scores are exact everywhere, and many are equal. Partial groups have
/// one or two labels, so that means are exact as well.
fn coarse() -> Vec<Layer> {
    let block = |rows, fan_in, group| Block {
        rows,
        first_label: 0,
        fan_in,
        group,
        batch: 1,
        precision: Precision::default(),
    };
    let shapes = [
        (block(1, 1, 1), 3),
        (block(7, 3, 1), 10),
        (block(130, 33, 1), 70),
        (block(65, 32, 4), 65),
        (block(66, 5, 4), 9),
        (block(300, 70, 4), 70),
        // 32 · F · G, the comparisons of a word's slots with their row, is more than loops of software Vulkan do.
        (block(128, 64, 64), 64),
    ];
    let coarsen = |(seed, shape)| {
        let mut layer = Layer::new(shape, seed as u64 + 10);
        layer.weights.iter_mut().for_each(|w| *w = (*w * 8.0).round() / 8.0);
        layer
    };
    shapes.into_iter().enumerate().map(coarsen).collect()
}

/// Scores by position row · F + slot.
fn scores(layer: &Layer) -> Vec<f32> {
    let Block { rows, fan_in, group, .. } = layer.block;
    let of = |position: usize| {
        let (index_row, slot) = (position / fan_in, position % fan_in);
        let labels = index_row * group..((index_row + 1) * group).min(rows);
        let count = labels.len() as f64;
        (labels.map(|row| f64::from(layer.weights[row * fan_in + slot].abs())).sum::<f64>() / count) as f32
    };
    (0..layer.block.index_rows() * fan_in).map(of).collect()
}

/// A mask as positions.
fn positions(mask: &[u32], fan_in: usize) -> Vec<usize> {
    let words = mask_words(fan_in);
    let of_row = |(row, mask): (usize, &[u32])| {
        let mask = mask.to_vec();
        (0..words * 32).filter(move |slot| mask[slot / 32] >> (slot % 32) & 1 == 1).map(move |slot| {
            assert!(slot < fan_in, "a bit beyond the fan-in");
            row * fan_in + slot
        })
    };
    mask.chunks(words).enumerate().flat_map(of_row).collect()
}

fn mask_of(case: &str, layer: &Layer, rule: Rule) -> Vec<usize> {
    let len = layer.block.index_rows() * mask_words(layer.block.fan_in);
    let got = compare(case, |device| {
        let mask = garbage(device, len);
        run(device, [rewire_mask::launch(layer.block, rule, &upload(device, &layer.weights), &mask.whole())]);
        Outputs::of(device).exact("mask", &mask, len)
    });
    positions(got.words("mask"), layer.block.fan_in)
}

#[test]
fn masks_by_threshold_are_strict() {
    for layer in coarse() {
        let scores = scores(&layer);
        for threshold in [0.0, 0.125, 0.5, 2.0] {
            let want: Vec<usize> = (0..scores.len()).filter(|i| scores[*i] < threshold).collect();
            let case = format!("threshold {threshold} of {:?}", layer.block);
            assert_eq!(mask_of(&case, &layer, Rule::Threshold(threshold)), want, "{case}");
        }
    }
}

#[test]
fn masks_of_each_row_take_its_smallest() {
    for layer in coarse() {
        let (scores, fan_in) = (scores(&layer), layer.block.fan_in);
        for count in [0, 1, fan_in / 2, fan_in] {
            let mut want: Vec<usize> = Vec::new();
            for row in 0..layer.block.index_rows() {
                let mut slots: Vec<usize> = (row * fan_in..(row + 1) * fan_in).collect();
                slots.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
                want.extend(&slots[..count]);
            }
            want.sort_unstable();
            let case = format!("{count} per row of {:?}", layer.block);
            assert_eq!(mask_of(&case, &layer, Rule::PerRow(count as u32)), want, "{case}");
        }
    }
}

/// The histogram of one digit, the same on every engine; what was counted before stays.
fn digit(layer: &Layer, digit: Digit) -> Vec<u32> {
    let got = compare(&format!("{digit:?} of {:?}", layer.block), |device| {
        let counts = writable(device, &[1000_u32; 256]);
        run(
            device,
            [rewire_histogram::launch(layer.block, digit, &upload(device, &layer.weights), &counts.whole())],
        );
        Outputs::of(device).exact("counts", &counts, 256)
    });
    got.words("counts").iter().map(|count| count - 1000).collect()
}

/// The key with exactly `k` smaller ones, or as many equal ones as it takes: (key, how many of its equals).
fn select(mut k: u32, mut digit: impl FnMut(u32, u32) -> Vec<u32>) -> (u32, u32) {
    let mut prefix = 0;
    for shift in [24, 16, 8, 0] {
        let counts = digit(shift, prefix);
        let bin = (0..256)
            .find(|bin| counts[..=*bin].iter().sum::<u32>() > k)
            .expect("k is below the number of keys");
        k -= counts[..bin].iter().sum::<u32>();
        prefix = prefix << 8 | bin as u32;
    }
    (prefix, k)
}

#[test]
fn digits_find_the_smallest_of_the_layer() {
    for layer in coarse() {
        let scores = scores(&layer);
        let mut sorted: Vec<usize> = (0..scores.len()).collect();
        sorted.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(a.cmp(b)));
        for k in [0, scores.len() / 3, scores.len() - 1] {
            let by_score = |shift, prefix| digit(&layer, Digit { shift, prefix, equal_score: None });
            let (key, equals) = select(k as u32, by_score);
            let by_position = |shift, prefix| digit(&layer, Digit { shift, prefix, equal_score: Some(key) });
            let (position_end, _) = select(equals, by_position);
            let case = format!("the {k} smallest of {:?}", layer.block);
            let mut want = sorted[..k].to_vec();
            want.sort_unstable();
            assert_eq!(mask_of(&case, &layer, Rule::Selected { key, position_end }), want, "{case}");
        }
    }
}

/// Everything that regrowing changes.
#[derive(Clone)]
struct Wired {
    regrown: Vec<u32>,
    layer: Layer,
    counts: [u32; 3],
}

/// Regrows on every engine.
fn regrow(case: &str, before: &Wired, mask: &[u32], growth: Growth) -> Wired {
    let layer = &before.layer;
    let (count, index_count) = (layer.weights.len(), layer.indices.len() / 2);
    let got = compare(case, |device: &'static Device| {
        let has = |state: usize| growth.states >= state;
        let state =
            |state: usize| -> &[f32] { if has(state) { &layer.states[state - 1] } else { &[7.0; 4] } };
        let (regrown, weights) = (writable(device, &before.regrown), writable(device, &layer.weights));
        let indices = writable(device, bytemuck::cast_slice::<u16, u8>(&layer.indices));
        let (first, second) = (writable(device, state(1)), writable(device, state(2)));
        let counts = writable(device, &before.counts);
        let [r, w, i, m, v, c] = [&regrown, &weights, &indices, &first, &second, &counts].map(|b| b.whole());
        let launch =
            rewire_regrow::launch(layer.block, growth, [&upload(device, mask), &r, &w, &i, &m, &v, &c]);
        run(device, [launch]);
        Outputs::of(device)
            .exact("regrown", &regrown, mask.len())
            .exact("weights", &weights, count)
            .exact("indices", &indices, index_count)
            .exact("first", &first, if has(1) { count } else { 4 })
            .exact("second", &second, if has(2) { count } else { 4 })
            .exact("counts", &counts, 3)
    });
    let mut after = before.clone();
    after.regrown = got.words("regrown").to_vec();
    after.layer.weights = got.floats("weights").to_vec();
    after.layer.indices = bytemuck::cast_slice(got.words("indices")).to_vec();
    for (state, name) in ["first", "second"].into_iter().enumerate() {
        if growth.states > state {
            after.layer.states[state] = got.floats(name).to_vec();
        } else {
            assert_eq!(got.floats(name), [7.0; 4], "{case} touches a state that is not there");
        }
    }
    after.counts.copy_from_slice(got.words("counts"));
    after
}

/// The indices of a row of indices.
fn row_of(layer: &Layer, row: usize) -> &[u16] {
    &layer.indices[row * index_words(layer.block.fan_in) * 2..][..layer.block.fan_in]
}

/// What must hold after any rewiring, whatever was drawn.
fn check_regrown(case: &str, before: &Wired, mask: &[u32], growth: Growth, after: &Wired) {
    let Block { rows, fan_in, group, .. } = before.layer.block;
    let pruned: BTreeSet<usize> = positions(mask, fan_in).into_iter().collect();
    assert_eq!(after.regrown, mask, "{case}");
    for row in 0..before.layer.block.index_rows() {
        let (old, new) = (row_of(&before.layer, row), row_of(&after.layer, row));
        assert_eq!(
            new.iter().collect::<BTreeSet<_>>().len(),
            fan_in,
            "{case}: duplicates in row {row}: {new:?}"
        );
        assert!(new.iter().all(|index| usize::from(*index) < growth.features), "{case}: row {row}: {new:?}");
        for slot in 0..fan_in {
            let is_pruned = pruned.contains(&(row * fan_in + slot));
            if is_pruned && fan_in < growth.features {
                // Not where the slot was, nor where a slot is whose turn has not come.
                assert!(
                    !old[slot..].contains(&new[slot]),
                    "{case}: row {row} slot {slot}: {old:?} to {new:?}"
                );
            } else {
                assert_eq!(old[slot], new[slot], "{case}: row {row} slot {slot}");
            }
            for label in row * group..((row + 1) * group).min(rows) {
                let i = label * fan_in + slot;
                for state in 0..growth.states {
                    let want = if is_pruned { 0.0 } else { before.layer.states[state][i] };
                    assert_eq!(
                        after.layer.states[state][i].to_bits(),
                        want.to_bits(),
                        "{case}: state of {i}"
                    );
                }
                let (old, new) = (before.layer.weights[i], after.layer.weights[i]);
                assert!(!is_pruned || new.abs() <= growth.bound, "{case}: new weight {new}");
                assert!(is_pruned || old.to_bits() == new.to_bits(), "{case}: weight {i}");
            }
        }
    }
}

#[test]
fn regrowing_changes_the_pruned_slots_alone() {
    let mut cases = shapes();
    let tight = |features| {
        (
            Block {
                rows: 33,
                first_label: 12,
                fan_in: 9,
                group: 4,
                batch: 1,
                precision: Precision::default(),
            },
            features,
        )
    };
    // All features in use, and one or two free.
    cases.extend([tight(9), tight(10), tight(11)]);
    for (seed, shape) in cases.into_iter().enumerate() {
        let layer = Layer::new(shape, seed as u64);
        let (fan_in, index_rows) = (layer.block.fan_in, layer.block.index_rows());
        let mut numbers = Numbers::new(seed as u64 + 50);
        let mut random_mask = |share: usize| -> Vec<u32> {
            let mut mask = vec![0; index_rows * mask_words(fan_in)];
            for row in 0..index_rows {
                for slot in (0..fan_in).filter(|_| numbers.below(100) < share) {
                    mask[row * mask_words(fan_in) + slot / 32] |= 1 << (slot % 32);
                }
            }
            mask
        };
        let masks = [random_mask(30), random_mask(60), random_mask(0)];
        for (states, bound) in [(0, 0.0), (1, 0.5), (2, 0.25)] {
            let regrown = vec![0; masks[0].len()];
            let mut wired = Wired { regrown, layer: layer.clone(), counts: [5, 6, 7] };
            for (step, mask) in masks.iter().enumerate() {
                let growth = Growth {
                    features: layer.features,
                    bound,
                    seed: 0xfeed_5eed_0000_0001,
                    step: step as u32,
                    first_wiring: false,
                    states,
                };
                let case = format!("regrowing {:?} of {} features, step {step}", layer.block, layer.features);
                let after = regrow(&case, &wired, mask, growth);
                check_regrown(&case, &wired, mask, growth, &after);
                let count = |words: &mut dyn Iterator<Item = u32>| words.map(u32::count_ones).sum::<u32>();
                let pruned = count(&mut mask.iter().copied());
                let again = count(&mut mask.iter().zip(&wired.regrown).map(|(now, before)| now & before));
                let [p, a, r] = wired.counts;
                assert_eq!(after.counts, [p + pruned, a + again, r + pruned], "{case}");
                wired = after;
            }
        }
    }
}

/// A layer as it is before its first wiring.
fn unwired(block: Block, features: usize) -> Wired {
    let mut layer = Layer::new((block, features), 0);
    layer.indices.fill(0);
    layer.weights.fill(0.0);
    Wired { regrown: vec![0; block.index_rows() * mask_words(block.fan_in)], layer, counts: [0; 3] }
}

fn wire(block: Block, features: usize, bound: f32) -> Wired {
    let before = unwired(block, features);
    let mask = vec![u32::MAX; before.regrown.len()];
    let growth = Growth { features, bound, seed: 42, step: 0, first_wiring: true, states: 2 };
    regrow(&format!("wiring {block:?} of {features} features"), &before, &mask, growth)
}

#[test]
fn the_first_wiring_has_no_duplicates() {
    let mut all: Vec<(Block, usize)> = shapes();
    // Every feature is used.
    all.push((
        Block { rows: 17, first_label: 4, fan_in: 33, group: 4, batch: 1, precision: Precision::default() },
        33,
    ));
    for (block, features) in all {
        let Block { rows, fan_in, group, first_label, .. } = block;
        let wired = wire(block, features, 0.5);
        for row in 0..block.index_rows() {
            let indices = row_of(&wired.layer, row);
            assert_eq!(indices.iter().collect::<BTreeSet<_>>().len(), fan_in, "{block:?}: {indices:?}");
            assert!(indices.iter().all(|index| usize::from(*index) < features));
            // By the generator itself: the first draw of the first slot, and all weights.
            let number = (first_label / group + row) as u32;
            let draw = |sub| words(42, Purpose::ClassifierInit, 0, number, sub);
            assert_eq!(u32::from(indices[0]), below(draw(0)[0], features as u32), "{block:?} row {row}");
            for label in row * group..((row + 1) * group).min(rows) {
                for slot in 0..fan_in {
                    let member = ((label - row * group) * fan_in + slot) as u32;
                    let word = draw(0x8000_0000 + member / 4)[member as usize % 4];
                    let want = 0.5 * (2.0 * unit(word) - 1.0);
                    assert_eq!(wired.layer.weights[label * fan_in + slot], want, "{block:?} label {label}");
                }
            }
        }
        assert!(wired.layer.states[..2].iter().flatten().all(|state| *state == 0.0), "{block:?}");
    }
}

#[test]
fn the_wiring_does_not_depend_on_blocks() {
    let block = |rows, first_label| Block {
        rows,
        first_label,
        fan_in: 5,
        group: 4,
        batch: 1,
        precision: Precision::default(),
    };
    let (whole, head, tail) =
        (wire(block(30, 0), 20, 0.5), wire(block(12, 0), 20, 0.5), wire(block(18, 12), 20, 0.5));
    assert_eq!(whole.layer.indices, [head.layer.indices, tail.layer.indices].concat());
    assert_eq!(whole.layer.weights, [head.layer.weights, tail.layer.weights].concat());
}

#[test]
fn half_words_of_other_rows_stay_as_they_are() {
    // An odd fan-in leaves half a word at the end of each row: regrowing must not touch it.
    let block =
        Block { rows: 5, first_label: 0, fan_in: 3, group: 1, batch: 1, precision: Precision::default() };
    let mut layer = Layer::new((block, 50), 1);
    layer.indices.iter_mut().skip(3).step_by(4).for_each(|padding| *padding = 0xabcd);
    let before = Wired { regrown: vec![0; 5], layer, counts: [0; 3] };
    let growth = Growth { features: 50, bound: 1.0, seed: 1, step: 1, first_wiring: false, states: 0 };
    let after = regrow("padding", &before, &[0b111, 0, 0b100, 0b111, 0b010], growth);
    assert!(after.layer.indices.iter().skip(3).step_by(4).all(|padding| *padding == 0xabcd));
}
