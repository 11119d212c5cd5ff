//! The one-pass form of the classifier's step on the CPU against the launches that it stands for, on every engine.

mod support;

use regrow::device::{Buffer, Device, DeviceOptions, Recording};
use regrow::kernels::fan_in_dlogits::{Block, Loss};
use regrow::kernels::fan_in_step::StepOptions;
use regrow::kernels::inverted_index::Sort;
use regrow::kernels::lists::Windows;
use regrow::kernels::optimizer::Rule;
use regrow::kernels::storage::{Precision, Rounding};
use regrow::kernels::{Fetch, fan_in_feature_gradient, fan_in_step, fan_in_sweep, loss_sum};
use support::device::{Outputs, assert_close, compare, garbage, inverted, sum_tolerance, upload, writable};
use support::layer::{Hyper, Layer, shapes};

/// Of the gradients and of the loss.
const SCALE: f32 = 0.25;
const LOSS_SCALE: f32 = 0.5;

/// One training step of a block, recorded as a fused group.
fn step<'a>(device: &'a Device, layer: &Layer, loss: Loss, rule: Rule, train_bias: bool) -> Outputs<'a> {
    let block = layer.block;
    let Block { rows, fan_in, .. } = block;
    let (features, columns, rates) = (layer.features, layer.columns(), Hyper::SAMPLE.rates(rule));
    let area = features * columns;
    let (x, indices, positives) =
        (upload(device, &layer.x), upload(device, &layer.indices), upload(device, &layer.positives));
    let windows = Windows::with_an_index_each(rows, features + 1);
    let sort = Sort { block, features, lists: windows.lists, fetch: Fetch::Cheap };
    let index = inverted(device, sort, &indices);
    let [offsets, connections] = index.each_ref().map(Buffer::whole);

    let state = |i: usize| -> Buffer {
        let has = rule.states() > i % 2;
        writable(device, if has { layer.states[i].as_slice() } else { &[7.0; 4] })
    };
    let (weights, bias) = (writable(device, &layer.weights), writable(device, &layer.bias));
    let states = [state(0), state(1), state(2), state(3)];
    let before: Vec<f32> = (0..area).map(|i| i as f32 / area as f32).collect();
    let (dx, losses) = (writable(device, &before), writable(device, &[1.0_f32, 2.0, 3.0, 4.0]));
    let bytes = fan_in_sweep::partial_bytes(rows, features, block.batch);
    let partial = garbage(device, bytes as usize / 4).whole();
    let [dlogits, label_loss] = [rows * columns, rows].map(|len| garbage(device, len).whole());
    let old_weights = garbage(device, rows * fan_in).whole();
    let ([w, b, dx_slice, ring], [m, v, bm, bv]) =
        ([&weights, &bias, &dx, &losses].map(|b| b.whole()), states.each_ref().map(|b| b.whole()));

    let count = layer.positives.len();
    let options = StepOptions {
        loss,
        scale: SCALE,
        positives: count,
        rule,
        rates,
        rounding: Rounding::default(),
        train_bias,
        fetch: Fetch::Cheap,
    };
    let back = [&dlogits, &old_weights, &offsets, &connections, &dx_slice];
    let members = vec![
        fan_in_step::launch(
            block,
            &options,
            [&x, &indices, &positives],
            [&w, &b, &m, &v, &bm, &bv],
            [&dlogits, &old_weights, &label_loss],
        ),
        loss_sum::launch(rows, 1, LOSS_SCALE, &label_loss, &ring),
        fan_in_feature_gradient::launch(block, features, windows, Fetch::Cheap, back),
    ];
    let bindings = [&x, &indices, &positives, &w, &b, &m, &v, &bm, &bv, &partial, &dx_slice, &ring];
    let params = fan_in_sweep::params(
        block,
        features,
        count,
        loss,
        SCALE,
        LOSS_SCALE,
        1,
        rule,
        rates,
        Rounding::default(),
        train_bias,
    );
    let mut recording = Recording::new();
    recording.fused(&fan_in_sweep::FUSED, bindings.map(Clone::clone).to_vec(), params, members);
    device.submit(recording).unwrap();

    let lens = |i: usize, len: usize| if rule.states() > i { len } else { 4 };
    let terms = fan_in + columns + 8;
    // A feature may be in every row.
    Outputs::of(device)
        .close("weights", &weights, rows * fan_in, terms)
        .close("bias", &bias, rows, terms)
        .close("first", &states[0], lens(0, rows * fan_in), terms)
        .close("second", &states[1], lens(1, rows * fan_in), terms)
        .close("bias_first", &states[2], lens(0, rows), terms)
        .close("bias_second", &states[3], lens(1, rows), terms)
        .close("dx", &dx, area, fan_in + rows.min(200))
        .close("losses", &losses, 4, terms)
}

fn layers() -> Vec<Layer> {
    let mut all = shapes();
    let block = |rows, first_label, fan_in, group, batch| Block {
        rows,
        first_label,
        fan_in,
        group,
        batch,
        precision: Precision::default(),
    };
    // More than one part; more labels in a part than the least; a batch that needs several registers.
    all.extend([
        (block(300, 7, 5, 1, 7), 12),
        (block(301, 8, 5, 4, 33), 12),
        (block(4200, 0, 3, 4, 16), 5),
        (block(40, 0, 6, 1, 200), 9),
        // The groups of the config, with a last one that is not whole, odd fan-ins and several parts.
        (block(300, 8, 9, 8, 33), 20),
        (block(21, 16, 16, 8, 16), 16),
        (block(139, 32, 17, 16, 50), 40),
        (block(75, 0, 33, 32, 7), 35),
        (block(300, 64, 5, 64, 20), 11),
        // Groups and fan-ins of matrix units: partial groups, partial tiles of samples, more than one of either.
        (block(139, 32, 16, 16, 50), 40),
        (block(75, 0, 48, 32, 7), 60),
        (block(150, 64, 32, 64, 40), 50),
        // A batch of more than one tile.
        (block(21, 8, 9, 8, 300), 12),
    ]);
    all.into_iter().enumerate().map(|(seed, shape)| Layer::new(shape, seed as u64)).collect()
}

#[test]
fn one_pass_does_what_the_launches_do() {
    for layer in layers() {
        for loss in [Loss::Bce, Loss::SquaredHinge] {
            for rule in Rule::ALL {
                let case = format!("{loss:?}, {rule:?}, {:?}", layer.block);
                compare(&case, |device| step(device, &layer, loss, rule, true));
            }
        }
        let case = format!("a bias that is not trained, {:?}", layer.block);
        let got = compare(&case, |device| step(device, &layer, Loss::Bce, Rule::AdamW, false));
        assert_eq!(got.floats("bias"), layer.bias, "{case}");
        assert_eq!(got.floats("bias_second"), layer.states[3], "{case}");
    }
}

#[test]
fn one_pass_follows_the_formulas() {
    for layer in layers() {
        for loss in [Loss::Bce, Loss::SquaredHinge] {
            let case = format!("{loss:?} of {:?}", layer.block);
            let device = Device::cpu(DeviceOptions::default()).unwrap();
            let got = step(&device, &layer, loss, Rule::Sgd, true);
            let (losses, mut dlogits) = layer.loss(loss);
            dlogits.iter_mut().for_each(|g| *g *= f64::from(SCALE));
            let terms = layer.block.fan_in + layer.columns() + 8;
            let step = |p: &f32, g: f64, hyper: Hyper| hyper.step(Rule::Sgd, f64::from(*p), g, 0.0, 0.0)[0];
            let gradients = layer.weight_gradient(&dlogits);
            let weights: Vec<f64> =
                layer.weights.iter().zip(gradients).map(|(p, g)| step(p, g, Hyper::SAMPLE)).collect();
            assert_close(&case, got.floats("weights"), &weights, sum_tolerance(terms, &weights));
            let no_decay = Hyper { weight_decay: 0.0, ..Hyper::SAMPLE };
            let gradients = dlogits.chunks(layer.columns()).map(|row| row.iter().sum::<f64>());
            let bias: Vec<f64> =
                layer.bias.iter().zip(gradients).map(|(p, g)| step(p, g, no_decay)).collect();
            assert_close(&case, got.floats("bias"), &bias, sum_tolerance(terms, &bias));
            let mut dx = layer.feature_gradient(&dlogits);
            let area = dx.len() as f64;
            dx.iter_mut().enumerate().for_each(|(i, dx)| *dx += i as f64 / area);
            assert_close(&case, got.floats("dx"), &dx, sum_tolerance(layer.block.fan_in + 200, &dx));
            let total = 2.0 + f64::from(LOSS_SCALE) * losses.iter().sum::<f64>();
            let ring = [1.0, total, 3.0, 4.0];
            assert_close(&case, got.floats("losses"), &ring, sum_tolerance(terms, &ring));
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    for layer in layers() {
        for fused in [true, false] {
            let bits = [1, 2, 3].map(|threads| {
                let device =
                    Device::cpu(DeviceOptions { fused, threads, ..DeviceOptions::default() }).unwrap();
                step(&device, &layer, Loss::Bce, Rule::AdamW, true).bits()
            });
            assert_eq!(bits[0], bits[1], "1 and 2 threads, fused {fused}, {:?}", layer.block);
            assert_eq!(bits[0], bits[2], "1 and 3 threads, fused {fused}, {:?}", layer.block);
        }
    }
}

#[test]
fn a_nan_reaches_the_loss_in_one_pass() {
    let block =
        Block { rows: 5, first_label: 0, fan_in: 3, group: 1, batch: 3, precision: Precision::default() };
    // A label without positives, and one that every sample has.
    for label in [0, 2] {
        let mut layer = Layer::new((block, 6), 2);
        layer.weights[label * 3] = f32::NAN;
        for loss in [Loss::Bce, Loss::SquaredHinge] {
            let device = Device::cpu(DeviceOptions::default()).unwrap();
            let got = step(&device, &layer, loss, Rule::Sgd, true);
            assert!(got.floats("losses")[1].is_nan(), "{loss:?}, label {label}: {:?}", got.floats("losses"));
        }
    }
}
