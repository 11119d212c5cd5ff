//! Times the training step of the fixed fan-in layer alone: logits of all labels, loss, gradient of the features,
//! SGD update of weights and biases.
//!
//!     cargo run --release --example classifier_step -- [LABELS [FAN_IN [FEATURES [BATCH [DEVICE [GROUP [bf16]]]]]]]

use std::time::Instant;

use regrow::classifier::{FanIn, FanInOptions, Loss, Positives, Step, StepScale};
use regrow::device::{Device, DeviceOptions, Recording};
use regrow::kernels::columns_of;
use regrow::optimize::{Optimizer, Rule, Schedule};
use regrow::random::{Purpose, below, unit, words};

fn main() -> regrow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let size = |i: usize, default: usize| arguments.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (labels, fan_in, features, batch) = (size(0, 131_072), size(1, 32), size(2, 768), size(3, 64));
    let bf16_products = arguments.get(6).is_some_and(|argument| argument == "bf16");
    let options = DeviceOptions { bf16_products, ..DeviceOptions::default() };
    let device = Device::open(arguments.get(4).map(String::as_str), options)?;
    let layer = FanIn::new(
        &device,
        FanInOptions {
            labels,
            features,
            fan_in,
            group: size(5, 1),
            max_batch: batch,
            rule: Rule::Sgd,
            precision: Default::default(),
            train_bias: true,
            init_scale: 0.1,
            bias_init: -5.0,
            seed: 1,
            max_block_rows: 0,
            inverted_index: Default::default(),
        },
    )?;
    let optimizer = Optimizer {
        rule: Rule::Sgd,
        learning_rate: 0.01,
        weight_decay: 0.0,
        beta1: 0.0,
        beta2: 0.0,
        epsilon: 1e-8,
        schedule: Schedule::Constant { warmup: 0 },
    };
    let columns = columns_of(batch);
    let random = |i: u32| words(1, Purpose::Synth, 0, i, 0)[0];
    let mut x = vec![0.0_f32; features * columns];
    for (i, value) in x.iter_mut().enumerate().filter(|(i, _)| i % columns < batch) {
        *value = unit(random(i as u32)) - 0.5;
    }
    let mut pairs: Vec<[u32; 2]> =
        (0..3 * batch as u32).map(|i| [below(random(!i), labels as u32), i / 3]).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let x = device.upload("x", &x)?.whole();
    let dx = device.allocate("dx", x.bytes())?.whole();
    let losses = device.allocate("losses", 16)?;
    let positives =
        Positives { count: pairs.len(), pairs: device.upload("positives", pairs.as_flattened())?.whole() };
    let scale = StepScale { gradient: 1.0 / batch as f32, loss: 1.0 / batch as f32, place: 0 };

    let mut milliseconds = Vec::new();
    for step in 0..30 {
        let began = Instant::now();
        let mut recording = Recording::new();
        recording.clear(dx.clone());
        recording.clear(&losses);
        let rates = optimizer.rates(step);
        let (positives, losses) = (&positives, &losses.whole());
        let step = Step { batch, loss: Loss::Bce, scale, step: 0, rates, positives, x: &x, dx: &dx, losses };
        layer.record_step(&mut recording, &step);
        device.submit(recording)?;
        device.wait()?;
        milliseconds.push(began.elapsed().as_secs_f64() * 1e3);
    }
    // The first steps compile shaders and touch memory for the first time.
    let mut warm = milliseconds.split_off(5);
    warm.sort_by(f64::total_cmp);
    let median = warm[warm.len() / 2];
    let gflops = 6.0 * (labels * fan_in * batch) as f64 / median / 1e6;
    println!(
        "{labels} labels, fan-in {fan_in}, {features} features, batch {batch} on {}: median {median:.2} ms, best {:.2} \
         ms, {gflops:.0} GFLOP/s, loss {:.3}",
        device.name(),
        warm[0],
        device.read_vec::<f32>(&losses, 1)?[0],
    );
    Ok(())
}
