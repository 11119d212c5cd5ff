//! Which slots are pruned, against NumPy, on every engine and with the layer cut into blocks.

mod support;

use regrow::classifier::{Contents, FanIn, FanInOptions, Prune, Regrow};
use regrow::device::Device;
use regrow::kernels::optimizer::Rule;
use regrow::kernels::rewire_mask::mask_words;
use support::device::engines;
use support::golden::{Case, cases};

fn layer(device: &Device, case: &Case, max_block_rows: usize) -> FanIn {
    let [labels, fan_in, features, group] = ["L", "F", "D", "G"].map(|key| case.size(key));
    let options = FanInOptions {
        labels,
        features,
        fan_in,
        group,
        max_batch: 1,
        rule: Rule::AdamW,
        precision: Default::default(),
        train_bias: true,
        init_scale: 1.0,
        bias_init: 0.25,
        seed: 9,
        max_block_rows,
        inverted_index: Default::default(),
    };
    let layer = FanIn::new(device, options).unwrap();
    let contents =
        Contents { weights: case.f32("weights").0, indices: case.u16("indices").0, bias: vec![0.25; labels] };
    layer.set_contents(device, &contents).unwrap();
    layer
}

/// The bits of the masks as bytes, [rows of indices, F].
fn unpacked(words: &[u32], fan_in: usize) -> Vec<u8> {
    let rows = words.chunks_exact(mask_words(fan_in));
    rows.flat_map(|row| (0..fan_in).map(|slot| (row[slot / 32] >> (slot % 32) & 1) as u8)).collect()
}

fn rules(case: &Case) -> [(&'static str, Prune); 3] {
    let fraction = case.number(&["fraction"]);
    [
        ("mask_threshold", Prune::Threshold(case.number(&["threshold"]))),
        ("mask_fraction", Prune::Fraction(fraction)),
        ("mask_per_row", Prune::FractionPerRow(fraction)),
    ]
}

#[test]
fn golden_rewire_masks() {
    for case in cases("rewire") {
        let fan_in = case.size("F");
        for (engine, device) in engines() {
            for max_block_rows in [0, 2 * case.size("G"), 7 * case.size("G")] {
                let layer = layer(device, &case, max_block_rows);
                for (mask, prune) in rules(&case) {
                    let got = unpacked(&layer.pruned_slots(device, prune).unwrap(), fan_in);
                    let place = format!("{} on {engine}, blocks of {max_block_rows}: {mask}", case.name);
                    assert!(got == case.u8(mask).0, "{place} differs");
                }
            }
        }
    }
}

/// After a rewiring exactly the slots of the mask have another index and weight zero; all else is untouched.
#[test]
fn golden_rewire_touches_the_mask_alone() {
    for case in cases("rewire") {
        let [labels, fan_in, group, features] = ["L", "F", "G", "D"].map(|key| case.size(key));
        for (engine, device) in engines() {
            let layer = layer(device, &case, 5 * group);
            let before = layer.contents(device).unwrap();
            let counts = layer
                .rewire(
                    device,
                    Prune::Fraction(case.number(&["fraction"])),
                    Regrow { bound: 0.0, step: 3, keep_second_moment: false },
                )
                .unwrap();
            let after = layer.contents(device).unwrap();
            let (mask, _) = case.u8("mask_fraction");
            let place = format!("{} on {engine}", case.name);
            assert_eq!(counts.pruned, mask.iter().map(|bit| u64::from(*bit)).sum::<u64>(), "{place}");
            assert_eq!((counts.pruned_again, counts.regrown), (0, counts.pruned), "{place}");
            for (bit, (before, after)) in mask.iter().zip(before.indices.iter().zip(&after.indices)) {
                let pruned = *bit == 1;
                assert_eq!(before == after, !pruned, "{place}: {before} became {after}, pruned: {pruned}");
                assert!(usize::from(*after) < features);
            }
            let weights_after = case.f32("weights_after").0;
            for (label, slot) in (0..labels).flat_map(|label| (0..fan_in).map(move |slot| (label, slot))) {
                let (got, want) =
                    (after.weights[label * fan_in + slot], weights_after[label * fan_in + slot]);
                assert_eq!(got.to_bits(), want.to_bits(), "{place}: weight {slot} of label {label}");
            }
            assert_eq!(before.bias, after.bias, "{place}");
        }
    }
}
