//! Products in bf16 on the CPU's matrix unit (`DeviceOptions::bf16_products`): those of the rounded numbers, the same bits
//! however they are cut, and a step of groups of labels that differs from the one in f32 by no more than that. A processor
//! without the unit computes in f32; the tests then hold it to that.

mod support;

use half::bf16;
use regrow::classifier::{FanIn, FanInOptions, Loss, Positives, Step, StepScale};
use regrow::device::{Device, DeviceOptions, Recording};
use regrow::kernels::activation::Activation;
use regrow::kernels::columns_of;
use regrow::kernels::matmul::Layout;
use regrow::kernels::products::{Epilogue, Product, Products};
use regrow::optimize::{Optimizer, Rule, Schedule};
use support::device::{Numbers, assert_close, sum_tolerance, upload, writable};
use support::product::Case;

fn device(threads: usize) -> Device {
    let options = DeviceOptions { threads, bf16_products: true, ..DeviceOptions::default() };
    Device::cpu(options).unwrap()
}

/// Whether the processor has the unit, as the device says.
fn rounds(device: &Device) -> bool {
    device.name().contains("bf16")
}

/// The case whose operands are what the device makes of them.
fn as_multiplied(device: &Device, mut case: Case) -> Case {
    if rounds(device) {
        let round = |number: &mut f32| *number = bf16::from_f32(*number).to_f32();
        case.a.iter_mut().chain(&mut case.b).for_each(round);
    }
    case
}

fn product_on(device: &Device, case: &Case, epilogue: Epilogue<'_>) -> Vec<f32> {
    let [m, n, _] = case.sizes;
    let [a, b] = [&case.a, &case.b].map(|values| upload(device, values));
    let c = writable(device, &case.before);
    let (sizes, layout) = (case.sizes, case.layout);
    let mut recording = Recording::new();
    let product = Product { sizes, layout, a: &a, b: &b, c: &c.whole(), epilogue, gradient: None };
    Products::floor().record(&mut recording, product);
    device.submit(recording).unwrap();
    device.read_vec(&c, m * n).unwrap()
}

#[test]
fn products_are_those_of_the_rounded_numbers() {
    let device = device(2);
    // On and off the sides of slabs; more than one cut of the depth and of the columns.
    let sizes = [[1, 1, 1], [7, 3, 5], [33, 65, 70], [64, 32, 96], [40, 520, 33], [3, 40, 1100]];
    for (seed, sizes) in sizes.into_iter().enumerate() {
        for layout in Layout::ALL {
            let case = Case::new(seed as u64, sizes, layout, 1.0);
            let truth = as_multiplied(&device, Case::new(seed as u64, sizes, layout, 1.0));
            let (product, [m, n, k]) = (truth.product(), sizes);
            let name = format!("{layout:?} product of {sizes:?}");
            assert_close(
                &name,
                &product_on(&device, &case, Epilogue::None),
                &product,
                sum_tolerance(k, &product),
            );

            let sum: Vec<f64> =
                product.iter().zip(&case.before).map(|(c, before)| c + f64::from(*before)).collect();
            let got = product_on(&device, &case, Epilogue::Accumulate);
            assert_close(&format!("{name}, accumulated"), &got, &sum, sum_tolerance(k + 1, &sum));

            let (bias, activated) = (upload(&device, &case.bias), writable(&device, &case.before));
            let (activation, slice) = (Activation::Relu, activated.whole());
            let sum: Vec<f64> = (0..m * n).map(|at| product[at] + f64::from(case.bias[at % n])).collect();
            let got = product_on(
                &device,
                &case,
                Epilogue::BiasActivation { bias: &bias, activation, activated: &slice },
            );
            assert_close(&format!("{name}, bias"), &got, &sum, sum_tolerance(k + 1, &sum));
            let positive: Vec<f32> = got.iter().map(|value| value.max(0.0)).collect();
            assert!(device.read_vec::<f32>(&activated, m * n).unwrap() == positive, "{name}, activated");
        }
    }
}

#[test]
fn bits_do_not_depend_on_tasks_or_threads() {
    let sizes = [150, 600, 1100];
    for layout in Layout::ALL {
        let case = Case::new(3, sizes, layout, 1.0);
        let whole = product_on(&device(1), &case, Epilogue::None);
        for threads in [2, 5] {
            let got = product_on(&device(threads), &case, Epilogue::None);
            assert!(got == whole, "{layout:?} on {threads} threads");
        }
    }
}

const LABELS: usize = 90;
const FEATURES: usize = 64;
const FAN_IN: usize = 40;
const BATCH: usize = 20;

/// Weights and gradient of the features after one step of groups of 32 labels.
fn group_step(device: &Device, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let options = FanInOptions {
        labels: LABELS,
        features: FEATURES,
        fan_in: FAN_IN,
        group: 32,
        max_batch: BATCH,
        rule: Rule::Sgd,
        precision: Default::default(),
        train_bias: true,
        init_scale: 1.0,
        bias_init: -1.0,
        seed: 5,
        max_block_rows: 0,
        inverted_index: Default::default(),
    };
    let layer = FanIn::new(device, options).unwrap();
    let optimizer = Optimizer {
        rule: Rule::Sgd,
        learning_rate: 1.0,
        weight_decay: 0.0,
        beta1: 0.0,
        beta2: 0.0,
        epsilon: 1e-8,
        schedule: Schedule::Constant { warmup: 0 },
    };
    let pairs: Vec<u32> = (0..BATCH as u32).flat_map(|sample| [4 * sample, sample]).collect();
    let x = device.upload("x", x).unwrap().whole();
    let dx = device.allocate("dx", x.bytes()).unwrap();
    let losses = device.allocate("losses", 16).unwrap();
    let pairs = device.upload("positives", &pairs).unwrap().whole();
    let step = Step {
        x: &x,
        dx: &dx.whole(),
        losses: &losses.whole(),
        batch: BATCH,
        positives: &Positives { count: BATCH, pairs },
        loss: Loss::Bce,
        scale: StepScale { gradient: 1.0, loss: 1.0, place: 0 },
        rates: optimizer.rates(0),
        step: 0,
    };
    let mut recording = Recording::new();
    recording.clear(&dx);
    layer.record_step(&mut recording, &step);
    device.submit(recording).unwrap();
    (layer.contents(device).unwrap().weights, device.read_vec(&dx, FEATURES * columns_of(BATCH)).unwrap())
}

#[test]
fn a_step_of_groups_differs_from_that_in_f32_by_the_rounding() {
    let columns = columns_of(BATCH);
    let mut x = Numbers::new(8).floats(FEATURES * columns, 1.0);
    x.chunks_exact_mut(columns).for_each(|row| row[BATCH..].fill(0.0));
    let exact = Device::cpu(DeviceOptions { threads: 2, ..DeviceOptions::default() }).unwrap();
    let (weights, dx) = group_step(&exact, &x);
    let device = device(2);
    let (rounded_weights, rounded_dx) = group_step(&device, &x);

    let largest = |numbers: &[f32]| numbers.iter().fold(0.0_f64, |most, n| most.max(f64::from(n.abs())));
    let (x_most, w_most) = (largest(&x), 1.0 / (FAN_IN as f64).sqrt());
    // Two operands are off by 2⁻⁹ each; a logit by the sum of that, its gradient by a quarter of it. Gradients of logits
    // are at most 1.
    let rounding = 2.0_f64.powi(-8);
    let gradient = FAN_IN as f64 * w_most * x_most * rounding / 4.0;
    // SGD at a rate of 1: the weights move by their gradients, sums over the batch; those of features over labels.
    let weights_bound = BATCH as f64 * x_most * (gradient + rounding);
    let dx_bound = LABELS as f64 * w_most * (gradient + rounding);
    for (name, got, want, bound) in
        [("weights", &rounded_weights, &weights, weights_bound), ("dx", &rounded_dx, &dx, dx_bound)]
    {
        let want: Vec<f64> = want.iter().map(|value| f64::from(*value)).collect();
        assert_close(name, got, &want, bound);
        let furthest =
            got.iter().zip(&want).fold(0.0_f64, |most, (g, w)| most.max((f64::from(*g) - w).abs()));
        assert_eq!(furthest > 0.0, rounds(&device), "{name} differ by {furthest}");
        // Far from the worst case, but no noise of f32 either.
        assert!(!rounds(&device) || furthest > bound / 1000.0, "{name} differ by {furthest}");
    }
    let again = group_step(&self::device(1), &x);
    assert!(again == (rounded_weights, rounded_dx), "other bits on one thread");
}
