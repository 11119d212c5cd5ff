// One optimizer step of a parameter of a flat tensor, whose states may be stored narrow: see narrow.wgsl. Where it is
// imported there are bindings `first` and `second`, params.rates, and params.seed_low, seed_high, step and stream.
//!import optimizer
//!import random
//!import narrow

// Purpose::Rounding of src/random.rs
const ROUNDING: u32 = 8u;

// The sixteen random bits of a number; `state` is 0 for the first states, 1 for the second.
fn random_bits(state: u32, number: u32) -> u32 {
    let counter = vec4<u32>(number / 8u, params.stream + state, params.step, ROUNDING);
    let words = philox(counter, vec2<u32>(params.seed_low, params.seed_high));
    return (words[(number & 7u) / 2u] >> ((number & 1u) * 16u)) & 0xffffu;
}

// The parameter after the step; its states are stored.
fn step_of(number: u32, parameter: f32, gradient: f32) -> f32 {
    let at = number / per_word(MOMENTS);
    var m = 0.0;
    var v = 0.0;
    if OPTIMIZER >= 1u { m = stored(MOMENTS, first[at], number); }
    if OPTIMIZER >= 2u { v = stored(MOMENTS, second[at], number); }
    let after = optimizer_step(params.rates, parameter, gradient, m, v);
    var bits = vec2<u32>(0u);
    if MOMENTS > 0u && OPTIMIZER >= 1u { bits.x = random_bits(0u, number); }
    if MOMENTS > 0u && OPTIMIZER >= 2u { bits.y = random_bits(1u, number); }
    if OPTIMIZER >= 1u {
        first[at] = (first[at] & ~place_mask(MOMENTS, number)) | rounded(MOMENTS, after.y, number, bits.x);
    }
    if OPTIMIZER >= 2u {
        second[at] = (second[at] & ~place_mask(MOMENTS, number)) | rounded(MOMENTS, after.z, number, bits.y);
    }
    return after.x;
}
