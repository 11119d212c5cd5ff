// The power of two that brings the largest magnitude of a gradient to 2^10 .. 2^11, and its inverse, both exact.

// 1: a is a gradient, 2: b is; binding 2 holds MAXIMA maxima of its magnitudes instead of a bias
const SCALED: u32 = 0u;
const MAXIMA: u32 = 64u;

fn scale_of_gradient() -> vec2<f32> {
    if SCALED == 0u {
        return vec2<f32>(1.0);
    }
    var maximum = 0u;
    for (var i = 0u; i < MAXIMA; i++) {
        maximum = max(maximum, bitcast<u32>(bias[i]));
    }
    let exponent = maximum >> 23u;
    // Infinities and NaNs go through unchanged; zeros and the smallest numbers get the largest power.
    let power = select(min(264u - min(exponent, 254u), 253u), 127u, exponent == 255u);
    return vec2<f32>(bitcast<f32>(power << 23u), bitcast<f32>((254u - power) << 23u));
}
