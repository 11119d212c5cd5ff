// The activations and their derivatives. Beyond 13 the exponentials are nothing; the bounds keep a huge input from
// meeting them as infinity times zero, and are comparisons because a NaN must stay one.

// 0 GELU with the error function, 1 GELU with tanh, 2 ReLU
const ACTIVATION: u32 = 0u;

// (Phi(x), Phi'(x)) of the GELU x * Phi(x)
fn gelu_factor(x: f32) -> vec2<f32> {
    if ACTIVATION == 0u {
        // erf by Abramowitz and Stegun 7.1.26, absolute error 1.5e-7; its exponential is also the density's.
        let e = exp(-0.5 * x * x);
        let t = 1.0 / (1.0 + 0.23164189 * abs(x));
        let p = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
        let tail = 0.5 * p * e;
        return vec2<f32>(select(1.0 - tail, tail, x < 0.0), 0.39894228 * e);
    }
    // 0.5 (1 + tanh(u / 2)) is the logistic function of u = sqrt(8 / pi) (x + 0.044715 x^3)
    let u = 1.5957691 * x * (1.0 + 0.044715 * x * x);
    let e = exp(-abs(u));
    let reciprocal = 1.0 / (1.0 + e);
    let slope = 1.5957691 * (1.0 + 0.134145 * x * x);
    return vec2<f32>(select(1.0, e, u < 0.0) * reciprocal, e * reciprocal * reciprocal * slope);
}

// (activation of x, its derivative)
fn activate_both(x: f32) -> vec2<f32> {
    if ACTIVATION == 2u {
        return vec2<f32>(select(x, 0.0, x <= 0.0), select(0.0, 1.0, x > 0.0));
    }
    let above = select(x, -13.0, x < -13.0);
    let inside = select(above, 13.0, x > 13.0);
    let factor = gelu_factor(inside);
    return vec2<f32>(above * factor.x, factor.x + inside * factor.y);
}

fn activate(x: f32) -> f32 {
    return activate_both(x).x;
}

fn activate_gradient(x: f32) -> f32 {
    return activate_both(x).y;
}
