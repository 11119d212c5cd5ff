//! The step and the ranking of a fixed fan-in layer with stratified rows, on every engine, against formulas and against a free
//! layer with the same indices.

mod support;

use regrow::Error;
use regrow::classifier::{FanIn, FanInOptions, Head, Loss, Ranker};
use regrow::device::{Device, DeviceKind, DeviceOptions, Recording};
use regrow::kernels::fan_in_strata_gradient;
use regrow::kernels::optimizer::Rule;
use regrow::kernels::storage::{Indices, Precision, Storage};
use support::device::{
    Numbers, Outputs, assert_close, compare, engines, garbage, gpu_plain, run, sum_tolerance, upload,
    writable,
};
use support::layer::{Hyper, Layer};
use support::strata::{SCALE, block, contents, integers, on, options, sample, shapes, stratified, train};

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
/// features' gradient alone is summed in another order on GPUs. Textures are for free rows alone and sum otherwise, so a
/// device without them takes the place of those that have them.
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
            let without_textures = engines()
                .into_iter()
                .filter(|(_, device)| device.kind() == DeviceKind::Cpu || device.texture_side().is_none());
            for (engine, device) in without_textures.chain([gpu_plain()]) {
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
