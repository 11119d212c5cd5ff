//! Optimizers over five steps, and schedules, against PyTorch in float64, on every engine.

mod support;

use regrow::device::Recording;
use regrow::kernels::optimizer_step;
use regrow::optimize::{Optimizer, Rule, Schedule, auxiliary_weight, learning_rate_factor, rewire_threshold};
use support::device::{engines, upload};
use support::golden::{Case, cases, entry_error, scaled_error};

fn optimizer(case: &Case) -> Optimizer {
    let settings = &case.json["optimizer"];
    let number = |key: &str| settings[key].as_f64();
    let momentum = number("momentum").unwrap_or(0.0);
    let rule = match settings["name"].as_str().expect("an optimizer has a name") {
        "adamw" => Rule::AdamW,
        "adam" => Rule::Adam,
        "sgd" if momentum == 0.0 => Rule::Sgd,
        "sgd" => Rule::Momentum,
        other => panic!("{}: unknown optimizer {other}", case.name),
    };
    let beta = |i: usize| settings["betas"][i].as_f64();
    let warmup = case.number(&["schedule", "warmup"]) as u64;
    let total = case.number(&["schedule", "total"]) as u64;
    Optimizer {
        rule,
        learning_rate: case.number(&["lr"]),
        weight_decay: case.number(&["weight_decay"]),
        beta1: beta(0).unwrap_or(momentum),
        beta2: beta(1).unwrap_or(0.999),
        epsilon: number("eps").unwrap_or(1e-8),
        schedule: Schedule::Cosine { warmup, total },
    }
}

#[test]
fn golden_optimizer_steps() {
    for case in cases("optim") {
        let optimizer = optimizer(&case);
        let (params, shape) = case.f32("params");
        let (grads, _) = case.f32("grads");
        let steps = shape[0] - 1;
        let count = params.len() / shape[0];
        for (step, lr) in case.numbers(&["expected", "lr"]).into_iter().enumerate() {
            let error = (optimizer.learning_rate_at(step as u64) - lr).abs();
            assert!(error <= 1e-12, "{}: learning rate at step {step} is off by {error:e}", case.name);
        }
        for (engine, device) in engines() {
            let parameters_buffer = device.upload("parameters", &params[..count]).unwrap();
            let [first, second] =
                ["first", "second"].map(|name| device.upload(name, &vec![0.0_f32; count]).unwrap());
            let (mut got, mut got_first, mut got_second) = (params[..count].to_vec(), Vec::new(), Vec::new());
            for step in 0..steps {
                let gradient = upload(device, &grads[step * count..(step + 1) * count]);
                let mut recording = Recording::new();
                let bindings = [&gradient, &parameters_buffer.whole(), &first.whole(), &second.whole()];
                let rates = optimizer.rates(step as u64);
                recording.launch(optimizer_step::launch(
                    count,
                    optimizer.rule,
                    rates,
                    Default::default(),
                    bindings,
                ));
                device.submit(recording).unwrap();
                got.extend(device.read_vec::<f32>(&parameters_buffer, count).unwrap());
                got_first.extend(device.read_vec::<f32>(&first, count).unwrap());
                got_second.extend(device.read_vec::<f32>(&second, count).unwrap());
            }
            let states =
                [("exp_avg", &got_first), ("exp_avg_sq", &got_second), ("momentum_buffer", &got_first)];
            let compared = states.into_iter().filter(|(name, _)| case.has(name)).chain([("params", &got)]);
            for (name, got) in compared {
                let error = entry_error(&case.f32(name).0, got, count);
                let tolerance = case.tolerance(name);
                assert!(error <= tolerance, "{} on {engine}: {name} is off by {error:e}", case.name);
            }
        }
    }
}

#[test]
fn golden_schedules() {
    for case in cases("schedules") {
        let list = case.json["schedules"].as_array().expect("a list of schedules");
        for schedule in list {
            let number =
                |key: &str| schedule[key].as_f64().unwrap_or_else(|| panic!("no {key} in {schedule}"));
            let text = |key: &str| schedule[key].as_str().unwrap_or_else(|| panic!("no {key} in {schedule}"));
            let total = number("total") as u64;
            let value = |step: u64| match text("schedule") {
                "learning_rate" => learning_rate_factor(step, number("warmup") as u64, total),
                "rewire_threshold" => rewire_threshold(number("start"), number("end"), step, total),
                "auxiliary_weight" => auxiliary_weight(number("start"), step, total),
                other => panic!("unknown schedule {other}"),
            };
            let got: Vec<f32> = (0..=total).map(|step| value(step) as f32).collect();
            let error = scaled_error(&case.f32(text("tensor")).0, &got);
            assert!(error <= case.tolerance("value"), "{schedule}: off by {error:e}");
        }
    }
}
