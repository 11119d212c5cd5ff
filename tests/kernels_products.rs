//! Dense products, on every tier of every engine, against f64.

mod support;

use std::collections::BTreeSet;

use regrow::device::{Device, DeviceKind, Recording, Slice};
use regrow::kernels::activation::Activation;
use regrow::kernels::matmul::Layout;
use regrow::kernels::matmul_maximum;
use regrow::kernels::products::{Epilogue, Operand, Product, ProductOptions, Products};
use support::device::{
    Numbers, Outputs, ULP, assert_close, compare, engines, garbage, gpu_uniform, run, sum_tolerance, upload,
    writable,
};
use support::product::Case;

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    None,
    Bias,
    Activation(Activation),
    Accumulate,
}

/// c and activated, as a tier of a device computes them.
fn run_case(
    case: &Case,
    device: &'static Device,
    products: &Products,
    what: What,
    gradient: Option<Operand>,
) -> Outputs<'static> {
    let [m, n, k] = case.sizes;
    let [a, b, bias] = [&case.a, &case.b, &case.bias].map(|values| upload(device, values));
    let c = if what == What::Accumulate { writable(device, &case.before) } else { garbage(device, m * n) };
    let activated = garbage(device, m * n);
    let slice = activated.whole();
    let epilogue = match what {
        What::None => Epilogue::None,
        What::Bias => Epilogue::Bias(&bias),
        What::Activation(activation) => {
            Epilogue::BiasActivation { bias: &bias, activation, activated: &slice }
        }
        What::Accumulate => Epilogue::Accumulate,
    };
    let (sizes, layout) = (case.sizes, case.layout);
    let product = Product { sizes, layout, a: &a, b: &b, c: &c.whole(), epilogue, gradient };
    let mut recording = Recording::new();
    products.record(&mut recording, product);
    device.submit(recording).unwrap();
    let outputs = Outputs::of(device).close("c", &c, m * n, k + 1);
    match what {
        What::Activation(_) => outputs.within("activated", &activated, m * n, 4e-6 * (k + 1) as f64),
        _ => outputs,
    }
}

const SIZES: [[usize; 3]; 9] = [
    [1, 1, 1],
    [7, 3, 5],
    [33, 65, 17],
    [65, 33, 70],
    [2, 130, 3],
    // Whole vectors of four.
    [4, 8, 12],
    [68, 36, 20],
    [64, 64, 64],
    [100, 132, 8],
];

/// erf by its series without alternating signs, good to 1e-15 for |x| < 6.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while f64::abs(term) > 1e-17 * f64::abs(sum) {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    if x == 0.0 { 0.0 } else { 2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum }
}

fn activation_of(activation: Activation, x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
    match activation {
        Activation::Gelu if x.abs() < 6.0 => 0.5 * x * (1.0 + erf(x / 2.0_f64.sqrt())),
        Activation::Gelu | Activation::Relu => x.max(0.0),
        Activation::GeluTanh => 0.5 * x * (1.0 + inner.tanh()),
    }
}

/// The tiers that every engine has, each once; f32 throughout.
const EXACT_TIERS: [&str; 3] = ["floor", "tiled32", "tiled64"];

#[test]
fn products_in_every_layout_and_tier() {
    for (seed, sizes) in SIZES.into_iter().enumerate() {
        for layout in Layout::ALL {
            let case = Case::new(seed as u64, sizes, layout, 1.0);
            let (product, [_, n, k]) = (case.product(), sizes);
            let whats = [What::None, What::Bias, What::Accumulate]
                .into_iter()
                .chain(Activation::ALL.map(What::Activation));
            // Each epilogue with some of the layouts and sizes, each tier with all.
            for (i, what) in
                whats.enumerate().filter(|(i, _)| *i == 0 || (i + seed + layout as usize).is_multiple_of(4))
            {
                let tiers = if i == 0 { &EXACT_TIERS[..] } else { &EXACT_TIERS[(seed + i) % 3..][..1] };
                for tier in tiers {
                    let name = format!("{layout:?} product of {sizes:?} on {tier}, {what:?}");
                    let got = compare(&name, |device| {
                        run_case(&case, device, &Products::named(device, tier).unwrap(), what, None)
                    });
                    let truth: Vec<f64> = (product.iter().enumerate())
                        .map(|(at, value)| match what {
                            What::None => *value,
                            What::Accumulate => value + f64::from(case.before[at]),
                            _ => value + f64::from(case.bias[at % n]),
                        })
                        .collect();
                    assert_close(&name, got.floats("c"), &truth, sum_tolerance(k + 1, &truth));
                    if let What::Activation(activation) = what {
                        // Slopes stay below 1.13; the approximation of erf is off by 1.5e-7, which x multiplies.
                        let want: Vec<f64> = truth.iter().map(|x| activation_of(activation, *x)).collect();
                        let largest = truth.iter().fold(1.0_f64, |l, x| l.max(x.abs()));
                        let tolerance = 1.13 * sum_tolerance(k + 1, &truth) + 5e-7 * largest;
                        assert_close(&name, got.floats("activated"), &want, tolerance);
                    }
                }
            }
        }
    }
}

/// Every device that the tests open, once.
fn devices() -> Vec<(&'static str, &'static Device)> {
    engines().into_iter().chain([gpu_uniform()]).collect()
}

#[test]
fn cooperative_products_are_those_of_rounded_operands() {
    // Only on adapters that have cooperative matrices; `maxima_and_scales` and the tests of shaders run anywhere.
    for (engine, device) in devices() {
        let Ok(products) = Products::named(device, "cooperative") else { continue };
        for (seed, sizes) in SIZES.into_iter().enumerate() {
            for layout in Layout::ALL {
                let case = Case::new(seed as u64, sizes, layout, 1.0);
                let (n, product, magnitudes) = (sizes[1], case.product(), case.magnitudes());
                for what in [What::None, What::Bias, What::Accumulate, What::Activation(Activation::Gelu)] {
                    let name = format!("{layout:?} product of {sizes:?} on {engine}, {what:?}");
                    let got = run_case(&case, device, &products, what, None);
                    for (at, value) in product.iter().copied().enumerate() {
                        let value = match what {
                            What::None => value,
                            What::Accumulate => value + f64::from(case.before[at]),
                            _ => value + f64::from(case.bias[at % n]),
                        };
                        // Each operand is off by up to 2^-11 of itself, each sum by its f32.
                        let tolerance = magnitudes[at] * 2.0 * 2.0_f64.powi(-11) + 32.0 * ULP;
                        assert_close(&name, &got.floats("c")[at..=at], &[value], tolerance);
                        if let What::Activation(activation) = what {
                            let got = &got.floats("activated")[at..=at];
                            let want = activation_of(activation, value);
                            assert_close(&name, got, &[want], 1.13 * tolerance + 1e-6);
                        }
                    }
                }
            }
        }
    }
}

/// Largest numbers of a gradient.
const SMALL: [f32; 3] = [1e-9, 1e-30, 1e6];

#[test]
fn tiny_gradients_survive_every_tier() {
    let sizes = [37, 20, 33];
    for (engine, device) in devices() {
        for tier in Products::names(device) {
            let products = Products::named(device, tier).unwrap();
            for layout in Layout::ALL {
                for (gradient, size) in
                    [Operand::A, Operand::B].into_iter().flat_map(|o| SMALL.map(|s| (o, s)))
                {
                    for what in [What::None, What::Accumulate] {
                        let mut case = Case::new(7, sizes, layout, 1.0);
                        let operand = if gradient == Operand::A { &mut case.a } else { &mut case.b };
                        operand.iter_mut().for_each(|value| *value *= size);
                        case.before.iter_mut().for_each(|value| *value *= size);
                        let got = run_case(&case, device, &products, what, Some(gradient));
                        let magnitudes = case.magnitudes();
                        for (at, value) in case.product().into_iter().enumerate() {
                            let before = if what == What::None { 0.0 } else { f64::from(case.before[at]) };
                            let name = format!(
                                "{layout:?} gradient {gradient:?} of {size:e}, {tier} on {engine}, {what:?}"
                            );
                            // As above; and what is far below the gradient's largest is rounded to multiples of 2^-35
                            // of it.
                            let rounding =
                                2.0_f64.powi(-10) * magnitudes[at] + 33.0 * f64::from(size) * 3e-11;
                            let tolerance = rounding + 4.0 * ULP * before.abs();
                            assert_close(&name, &got.floats("c")[at..=at], &[value + before], tolerance);
                        }
                    }
                }
            }
        }
    }
}

/// `x` rounded to the nearest number of 11 significant bits and a least step of 2^-24, ties to even: what f16 holds.
fn to_f16(x: f64) -> f64 {
    let exponent = x.abs().log2().floor().max(-14.0);
    let step = 2.0_f64.powi(exponent as i32 - 10);
    (x / step).round_ties_even() * step
}

#[test]
fn maxima_and_scales() {
    for (count, size) in [(1, 1.0), (7, 1e-9), (300, 1e-30), (70_000, 1e20)] {
        let mut a = Numbers::new(count as u64).floats(count, size);
        // The largest is negative, and the very last.
        a[count - 1] = -1.5 * size;
        let got = compare(&format!("maxima of {count}"), |device| {
            let maxima = garbage(device, matmul_maximum::MAXIMA);
            run(device, [matmul_maximum::launch(count, &upload(device, &a), &maxima.whole())]);
            Outputs::of(device).exact("maxima", &maxima, matmul_maximum::MAXIMA)
        });
        let maximum = *got.words("maxima").iter().max().unwrap();
        assert_eq!(f32::from_bits(maximum), 1.5 * size, "{count} values");
        let [scale, inverse] = matmul_maximum::scale_of(maximum).map(f64::from);
        assert_eq!((scale * inverse, scale.log2().fract()), (1.0, 0.0));
        assert!((1024.0..2048.0).contains(&(1.5 * f64::from(size) * scale)), "{size:e} times {scale:e}");
        for value in a.iter().map(|x| f64::from(*x)) {
            let there_and_back = to_f16(value * scale) * inverse;
            // 11 bits, or half a least step of f16 seen from a largest value of 2^10.
            let tolerance = (value.abs() * 2.0_f64.powi(-11)).max(2.0_f64.powi(-25) * inverse);
            assert!((there_and_back - value).abs() <= tolerance, "{value:e} became {there_and_back:e}");
        }
    }
    // Without the scale, such gradients are nothing in 16 bits.
    assert_eq!(to_f16(1e-9), 0.0);
    let scale = |value: f32| matmul_maximum::scale_of(value.to_bits());
    assert_eq!(scale(f32::INFINITY), [1.0, 1.0]);
    assert_eq!(scale(f32::NAN), [1.0, 1.0]);
    for extreme in [0.0, f32::from_bits(1), f32::MIN_POSITIVE, f32::MAX] {
        let [scale, inverse] = scale(extreme);
        assert!(scale.is_normal() && inverse.is_normal() && scale * inverse == 1.0, "{extreme:e}");
        assert!(extreme * scale < 2048.0);
    }
}

#[test]
fn operands_may_be_ranges_of_odd_length() {
    // The last vector of a range is cut; what follows must not count.
    let case = Case::new(1, [3, 5, 7], Layout::Nn, 1.0);
    let truth = case.product();
    for (engine, device) in devices() {
        for tier in Products::names(device) {
            let range = |values: &[f32]| -> Slice {
                let words: Vec<f32> = [&[f32::NAN; 64][..], values, &[f32::NAN; 64][..]].concat();
                device.upload("range", &words).unwrap().range(256, values.len() as u64 * 4)
            };
            let (a, b, c) = (range(&case.a), range(&case.b), garbage(device, 15));
            let mut recording = Recording::new();
            let (sizes, epilogue) = (case.sizes, Epilogue::None);
            let product =
                Product { sizes, layout: Layout::Nn, a: &a, b: &b, c: &c.whole(), epilogue, gradient: None };
            Products::named(device, tier).unwrap().record(&mut recording, product);
            device.submit(recording).unwrap();
            let got = Outputs::of(device).close("c", &c, 15, 8);
            let tolerance = if tier == "cooperative" { 7.0 * 1e-3 } else { sum_tolerance(8, &truth) };
            assert_close(&format!("{tier} on {engine}"), got.floats("c"), &truth, tolerance);
        }
    }
}

#[test]
fn the_choice_is_measured_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Some(folder.path().to_owned());
    let (_, device) = engines()[3];
    let names = |products: &Products| -> BTreeSet<String> {
        products.describe().replace(',', "").split(' ').map(str::to_owned).collect()
    };
    let off = vec!["tiled64".to_owned()];
    let measure_software = true;
    let options =
        ProductOptions { off: off.clone(), cache: cache.clone(), measure_software, ..Default::default() };
    let chosen = Products::choose(device, &options).unwrap();
    assert!(!names(&chosen).contains("tiled64"), "{}", chosen.describe());
    // What the file says is taken: swap it for another choice.
    let file = folder.path().join("products.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut kept: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (key, value) = kept.as_object_mut().unwrap().iter_mut().next().unwrap();
    assert!(key.starts_with(device.name()), "{key}");
    *value = serde_json::json!(["tiled32", "floor", "tiled32"]);
    std::fs::write(&file, kept.to_string()).unwrap();
    assert_eq!(Products::choose(device, &options).unwrap().describe(), "nn tiled32, nt floor, tn tiled32");
    // But not a tier that is switched off: then it is measured again.
    std::fs::write(&file, kept.to_string().replacen("tiled32", "tiled64", 1)).unwrap();
    assert!(!names(&Products::choose(device, &options).unwrap()).contains("tiled64"));
    // A tier that was switched off since does not come back from the file.
    let off = ["tiled32", "tiled64", "cooperative"].map(str::to_owned).to_vec();
    let options = ProductOptions { off, cache: cache.clone(), measure_software, ..Default::default() };
    assert_eq!(Products::choose(device, &options).unwrap().describe(), "floor");
    // Nor is a damaged file believed.
    std::fs::write(&file, "{").unwrap();
    assert_eq!(Products::choose(device, &options).unwrap().describe(), "floor");
    let deterministic = ProductOptions { deterministic: true, cache, measure_software, ..Default::default() };
    assert_eq!(Products::choose(device, &deterministic).unwrap().describe(), "tiled64");
}

#[test]
fn the_floor_is_what_the_cpu_and_software_take() {
    for (engine, device) in devices() {
        if matches!(device.kind(), DeviceKind::Cpu | DeviceKind::SoftwareGpu) {
            let chosen = Products::choose(device, &ProductOptions::default()).unwrap();
            assert_eq!(chosen.describe(), "floor", "{engine}");
        }
        assert!(Products::named(device, "nothing").unwrap_err().to_string().contains("floor"));
        let off = |name: &str| ProductOptions { off: vec![name.to_owned()], ..ProductOptions::default() };
        assert!(Products::choose(device, &off("flor")).is_err());
        assert!(Products::choose(device, &off("floor")).is_err());
    }
}
