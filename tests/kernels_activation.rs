//! Activations and their gradients against their twins, and both against f64.

mod support;

use regrow::kernels::activation::{self, Activation};
use support::device::{Numbers, Outputs, assert_close, compare, garbage, run, upload};

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

/// (act(x), act′(x)).
fn activated(activation: Activation, x: f64) -> (f64, f64) {
    match activation {
        Activation::Relu => (x.max(0.0), f64::from(x > 0.0)),
        Activation::Gelu => {
            let phi = if x.abs() < 6.0 { 0.5 * (1.0 + erf(x / 2.0_f64.sqrt())) } else { f64::from(x > 0.0) };
            (x * phi, phi + x * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt())
        }
        Activation::GeluTanh if x.abs() > 20.0 => (x.max(0.0), f64::from(x > 0.0)),
        Activation::GeluTanh => {
            let root = (2.0 / std::f64::consts::PI).sqrt();
            let tanh = (root * (x + 0.044_715 * x.powi(3))).tanh();
            let slope = root * (1.0 + 3.0 * 0.044_715 * x * x);
            (0.5 * x * (1.0 + tanh), 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * slope)
        }
    }
}

#[test]
fn activations_and_their_gradients() {
    // From tables: the normal distribution, and torch.nn.functional.gelu(1, approximate="tanh").
    assert!((erf(std::f64::consts::FRAC_1_SQRT_2) - 0.682_689_492_137_085_9).abs() < 1e-14);
    assert!((activated(Activation::GeluTanh, 1.0).0 - 0.841_191_990_607_477_2).abs() < 1e-7);
    let mut x = Numbers::new(1).floats(500, 6.0);
    x.extend([0.0, -0.0, 1.0, -1.0, 2.0, 0.5, -3.0, 13.5, -13.5, 20.0, -20.0, 1e20, -1e20, 3e38, -3e38]);
    let dout = Numbers::new(2).floats(x.len(), 1.0);
    for (activation, count) in Activation::ALL.into_iter().flat_map(|a| [1, 7, 65, x.len()].map(|c| (a, c))) {
        let got = compare(&format!("{activation:?} of {count}"), |device| {
            let [x, dout] = [&x, &dout].map(|values| upload(device, values));
            let [out, dx, again, out_again] = [(); 4].map(|()| garbage(device, count));
            let keep = out_again.whole();
            run(
                device,
                [
                    activation::forward(activation, count, &x, &out.whole()),
                    activation::backward(activation, count, &x, &dout, &dx.whole(), None),
                    activation::backward(activation, count, &x, &dout, &again.whole(), Some(&keep)),
                ],
            );
            let of = Outputs::of(device).within("out", &out, count, 2e-6).within("dx", &dx, count, 2e-6);
            of.within("again", &again, count, 2e-6).within("out_again", &out_again, count, 2e-6)
        });
        for i in 0..count {
            let (value, slope) = activated(activation, f64::from(x[i]));
            // The approximation of erf is wrong by up to 1.5e-7, which x multiplies as far as the tails reach.
            let tolerance = 5e-7 * f64::from(x[i]).abs().clamp(1.0, 6.0);
            for (name, truth) in [("out", value), ("out_again", value)] {
                assert_close(
                    &format!("{activation:?}({})", x[i]),
                    &got.floats(name)[i..=i],
                    &[truth],
                    tolerance,
                );
            }
            for name in ["dx", "again"] {
                let truth = f64::from(dout[i]) * slope;
                assert_close(
                    &format!("{activation:?}'({})", x[i]),
                    &got.floats(name)[i..=i],
                    &[truth],
                    tolerance,
                );
            }
        }
        assert_eq!(got.floats("out"), got.floats("out_again"));
        assert_eq!(got.floats("dx"), got.floats("again"));
    }
    for activation in Activation::ALL {
        let got = compare("activation of NaN", |device| {
            let out = garbage(device, 1);
            run(device, [activation::forward(activation, 1, &upload(device, &[f32::NAN]), &out.whole())]);
            Outputs::of(device).close("out", &out, 1, 1)
        });
        assert!(got.floats("out")[0].is_nan(), "{activation:?}");
    }
}
