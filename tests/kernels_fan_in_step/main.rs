//! A label's logits, loss, gradients and optimizer step: the two forms of the kernel that computes all of it at once, the two
//! kernels that do it for groups of labels, and the one that takes groups through all of it, against their twins, against
//! f64 and against narrow roundings that may fall either way.

mod forms;
#[path = "../support/mod.rs"]
mod support;

use forms::{
    Form, SCALE, added_up, forms, layers, logit_gradients, options, outputs, partial_gradients, some_of,
    step, with_rounded_features,
};
use regrow::device::Buffer;
use regrow::kernels::fan_in_dlogits::{Block, Loss};
use regrow::kernels::fan_in_step::StepOptions;
use regrow::kernels::half_features;
use regrow::kernels::optimizer::Rule;
use regrow::kernels::storage::{Precision, Storage};
use support::device::{Outputs, assert_close, compare, engines, garbage, run, sum_tolerance, upload};
use support::layer::Hyper;

#[test]
fn steps_follow_the_formulas() {
    let halves = layers(Precision { features: Storage::F16, ..Precision::default() });
    let halves = some_of(halves).into_iter().map(with_rounded_features);
    for (i, layer) in layers(Precision::default()).into_iter().chain(halves).enumerate() {
        // Two rules a layer, each with another loss; every form is compiled anew.
        for (rule, loss) in [(i % 4, Loss::Bce), ((i + 2) % 4, Loss::SquaredHinge)] {
            let rule = Rule::ALL[rule];
            let (losses, gradients) = layer.losses(loss);
            let gradients: Vec<f64> = gradients.iter().map(|g| f64::from(SCALE) * g).collect();
            let terms = layer.block.fan_in + layer.columns() + 8;
            for form in forms(&layer) {
                let options = options(&layer, loss, rule, form);
                let case = format!("{loss:?}, {rule:?}, {form:?}, {:?}", layer.block);
                let got = compare(&case, |device| outputs(device, &layer, &options, form));
                let close = |name: &str, truth: &[f64]| {
                    let place = format!("{case}, {name}");
                    assert_close(&place, got.floats(name), truth, sum_tolerance(terms, truth));
                };
                close("dlogits", &logit_gradients(&layer, form, &gradients));
                let mut partial = partial_gradients(&layer, &gradients);
                if !matches!(form, Form::Pass(_)) {
                    partial.fill(0.0);
                }
                let slack = sum_tolerance(layer.block.rows + 8, &partial);
                assert_close(&format!("{case}, partial"), got.floats("partial"), &partial, slack);
                let truth = added_up(&layer, form, &losses);
                let slack = sum_tolerance(8 * terms, &truth);
                assert_close(&format!("{case}, losses"), got.floats("label_loss"), &truth, slack);
                let old: &[u32] = bytemuck::cast_slice(&layer.weights);
                assert_eq!(got.words("before"), old, "{case}");
                let hyper = Hyper::SAMPLE;
                let bias_gradient = gradients.chunks(layer.columns()).map(|row| row.iter().sum()).collect();
                let sides: [(_, _, _, Vec<f64>, _); 2] = [
                    (
                        ["weights", "first", "second"],
                        &layer.weights,
                        0,
                        layer.weight_gradient(&gradients),
                        hyper,
                    ),
                    (
                        ["bias", "bias_first", "bias_second"],
                        &layer.bias,
                        2,
                        bias_gradient,
                        Hyper { weight_decay: 0.0, ..hyper },
                    ),
                ];
                for (names, before, states, gradient, hyper) in sides {
                    let at = |values: &[f32], i: usize| f64::from(values[i]);
                    let [m, v] = [&layer.states[states], &layer.states[states + 1]];
                    let step = |i: usize| hyper.step(rule, at(before, i), gradient[i], at(m, i), at(v, i));
                    for (which, name) in names.into_iter().enumerate() {
                        if rule.states() >= which {
                            let truth: Vec<f64> = (0..before.len()).map(|i| step(i)[which]).collect();
                            close(name, &truth);
                        } else {
                            let untouched: &[f32] = bytemuck::cast_slice(&[7_u32; 4]);
                            assert_eq!(got.floats(name), untouched, "{case} touches {name}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_bias_that_is_not_trained_stays() {
    for layer in some_of(layers(Precision::default())) {
        for form in forms(&layer) {
            let options = StepOptions { train_bias: false, ..options(&layer, Loss::Bce, Rule::AdamW, form) };
            let case = format!("{form:?}, {:?}", layer.block);
            let got = compare(&case, |device| outputs(device, &layer, &options, form));
            assert_eq!(got.floats("bias"), layer.bias, "{case}");
            assert_eq!(got.floats("bias_first"), layer.states[2], "{case}");
        }
    }
}

/// The numbers next to `value` in a storage, below and above.
fn neighbours(storage: Storage, value: f64) -> [f64; 2] {
    let codes = match storage {
        Storage::F32 => return [value, value],
        Storage::F16 => 0x7c00,
        Storage::Bf16 => 0x7f80,
        Storage::Fp8 => 0x7f,
    };
    // Magnitudes grow with their codes.
    let magnitude = |code: u32| f64::from(storage.decode(code));
    let (mut low, mut high) = (0_u32, codes - 1);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if magnitude(middle) <= value.abs() { low = middle } else { high = middle - 1 }
    }
    let (below, above) = (magnitude(low), magnitude((low + 1).min(codes - 1)));
    if value < 0.0 { [-above, -below] } else { [below, above] }
}

#[test]
fn narrow_storage_is_rounded_to_a_neighbour_by_the_same_bits_everywhere() {
    let mut case = 0;
    for weights in Storage::ALL {
        for moments in [Storage::F32, Storage::Bf16] {
            let precision = Precision { weights, moments, ..Precision::default() };
            // Of the layers those in which words are shared, and rows of words are padded.
            for mut layer in some_of(layers(precision)) {
                // Each precision meets each rule that has states for its moments; every form is compiled anew.
                case += 1;
                let Block { rows, fan_in, .. } = layer.block;
                let (words, moment_words) = (layer.block.weight_words(), layer.block.moment_words());
                // What is stored is what the truth starts from.
                let stored = |storage: Storage, values: &[f32], words: usize| {
                    storage.unpack(&storage.pack(values, fan_in, words), fan_in, words)
                };
                layer.weights = stored(weights, &layer.weights, words);
                for state in 0..2 {
                    layer.states[state] = stored(moments, &layer.states[state], moment_words);
                }
                let rule = Rule::ALL[(case + case / 3) % 4];
                let (_, gradients) = layer.loss(Loss::Bce);
                let gradients: Vec<f64> = gradients.iter().map(|g| f64::from(SCALE) * g).collect();
                let gradient = layer.weight_gradient(&gradients);
                let at = |values: &[f32], i: usize| f64::from(values[i]);
                let truth: Vec<[f64; 3]> = (0..rows * fan_in)
                    .map(|i| {
                        let [m, v] = [&layer.states[0], &layer.states[1]];
                        Hyper::SAMPLE.step(rule, at(&layer.weights, i), gradient[i], at(m, i), at(v, i))
                    })
                    .collect();
                let terms = fan_in + layer.columns() + 8;
                let mut all: Vec<Vec<f32>> = Vec::new();
                // One of the two GPUs by turns, for the same reason.
                let [twins, fused_twins, gpus @ ..] = engines();
                for (engine, device) in [twins, fused_twins, gpus[case % 2]] {
                    for form in forms(&layer) {
                        let case = format!("{rule:?}, {form:?} on {engine}, {:?}", layer.block);
                        let after = step(device, &layer, &options(&layer, Loss::Bce, rule, form), form);
                        let read = |buffer: &Buffer, storage: Storage, words: usize| {
                            let packed = device.read_vec::<u32>(buffer, rows * words).unwrap();
                            storage.unpack(&packed, fan_in, words)
                        };
                        let before = read(&after.before, weights, words);
                        assert_eq!(before, layer.weights, "{case}");
                        let mut numbers = read(&after.weights, weights, words);
                        for (which, storage, buffer, words) in [
                            (0, weights, &after.weights, words),
                            (1, moments, &after.states[0], moment_words),
                            (2, moments, &after.states[1], moment_words),
                        ] {
                            if rule.states() < which {
                                continue;
                            }
                            let got = read(buffer, storage, words);
                            let truth: Vec<f64> = truth.iter().map(|step| step[which]).collect();
                            let slack = sum_tolerance(terms, &truth);
                            for (i, (got, truth)) in got.iter().zip(&truth).enumerate() {
                                let below = neighbours(storage, truth - slack)[0] - slack;
                                let above = neighbours(storage, truth + slack)[1] + slack;
                                let got = f64::from(*got);
                                assert!(
                                    (below..=above).contains(&got),
                                    "{case}, tensor {which}, element {i} is {got}, wanted {truth}"
                                );
                            }
                            numbers.extend(got);
                        }
                        all.push(numbers);
                    }
                }
                // Sums of another order may fall on the other side of a random number, and seldom do.
                for other in &all[1..] {
                    let differ = all[0].iter().zip(other).filter(|(a, b)| {
                        (f64::from(**a) - f64::from(**b)).abs() > sum_tolerance(terms, &[1.0])
                    });
                    let share = differ.count() as f64 / all[0].len() as f64;
                    assert!(share < 0.02, "{rule:?}, {:?}: {share} differ", layer.block);
                }
            }
        }
    }
}

#[test]
fn the_same_bits_from_run_to_run() {
    for layer in layers(Precision::default()) {
        for (engine, device) in engines() {
            for form in forms(&layer) {
                let options = options(&layer, Loss::Bce, Rule::AdamW, form);
                let bits = || outputs(device, &layer, &options, form).bits();
                assert_eq!(bits(), bits(), "{form:?} on {engine}, {:?}", layer.block);
            }
        }
    }
}

#[test]
fn features_are_rounded_to_the_nearest_half() {
    // Ties to even, both ends of the subnormals, the largest, what is beyond it, and everyday numbers.
    let mut numbers =
        vec![0.0, -0.0, 1.0, 1.000_488_3, 1.001_464_8, -2049.0, 65_504.0, -65_519.9, 6.1e-5, 5.97e-8];
    numbers.extend([2.0e-8, 3.0e-8, -9.0e-8, 6.097e-5, 1.0e-40, f32::NAN]);
    numbers.extend(support::device::Numbers::new(9).floats(1000, 3.0));
    let count = numbers.len();
    let codes: Vec<u16> = numbers.iter().map(|x| half::f16::from_f32(*x).to_bits()).collect();
    for packed in [true, false] {
        let got = compare(&format!("halves, packed {packed}"), |device| {
            let len = if packed { count / 2 } else { count };
            let halves = garbage(device, len);
            run(device, [half_features::launch(count, packed, &upload(device, &numbers), &halves.whole())]);
            Outputs::of(device).exact("halves", &halves, len)
        });
        let got: Vec<u16> = match packed {
            true => bytemuck::cast_slice(got.words("halves")).to_vec(),
            false => got.floats("halves").iter().map(|x| half::f16::from_f32(*x).to_bits()).collect(),
        };
        for ((got, want), x) in got.iter().zip(&codes).zip(&numbers) {
            assert_eq!(got, want, "{x:e} gives {got:#x}, wanted {want:#x}");
        }
    }
}
