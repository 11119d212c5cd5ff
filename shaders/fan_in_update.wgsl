// Gradient of a block's weights, used at once: no gradient of the layer is ever stored.
//
//   g[l,f] = sum_b dlogits[l,b] * x[b, indices[l / group, f]], then one optimizer step of weights[l,f]
//
// An invocation owns SPAN consecutive connections of a label: one, or all that share words.
//!import linear
//!import fan_in
//!import optimizer
//!import random
//!import narrow

const WORKGROUP: u32 = 64u;

struct Params {
    @size(48) rates: Rates, // uniform buffers want what follows a struct at a multiple of 16
    rows: u32,        // labels of this block
    fan_in: u32,
    index_words: u32, // words in a row of indices
    group: u32,       // labels that share a row of indices
    columns: u32,     // batch rounded up to 16
    first_label: u32, // number of the block's first label
    weight_words: u32, // words in a row of weights
    moment_words: u32, // words in a row of states
    seed_low: u32,    // of the roundings
    seed_high: u32,
    step: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;         // [D, columns]
@group(0) @binding(1) var<storage, read> dlogits: array<vec4<f32>>;   // [rows, columns]
@group(0) @binding(2) var<storage, read> indices: array<u32>;         // [rows / group, index_words]
@group(0) @binding(3) var<storage, read_write> weights: array<u32>;   // [rows, weight_words]
@group(0) @binding(4) var<storage, read_write> first: array<u32>;     // [rows, moment_words], if the optimizer has it
@group(0) @binding(5) var<storage, read_write> second: array<u32>;    // [rows, moment_words], if the optimizer has it

// Purpose::Rounding of src/random.rs
const ROUNDING: u32 = 8u;

// Sixteen random bits for each of eight connections of a label; `tensor` is 0 for weights, 1 and 2 for their states.
fn random_bits(tensor: u32, row: u32, slot: u32) -> vec4<u32> {
    let block = (params.first_label + row) * ((params.fan_in + 7u) / 8u) + slot / 8u;
    return philox(vec4<u32>(block, tensor, params.step, ROUNDING), vec2<u32>(params.seed_low, params.seed_high));
}

fn bits_of(words: vec4<u32>, slot: u32) -> u32 {
    return (words[(slot & 7u) / 2u] >> ((slot & 1u) * 16u)) & 0xffffu;
}

fn gradient_of(row: u32, slot: u32) -> f32 {
    let word = indices[(row / params.group) * params.index_words + index_word(slot)];
    let quads = params.columns / 4u;
    let feature = index_in(word, slot) * quads;
    var sum = vec4<f32>(0.0);
    for (var quad = 0u; quad < quads; quad++) {
        sum += dlogits[row * quads + quad] * x[feature + quad];
    }
    return dot(sum, vec4<f32>(1.0));
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    let spans = (params.fan_in + SPAN - 1u) / SPAN;
    if lane >= params.rows * spans {
        return;
    }
    let row = lane / spans;
    let begin = (lane - row * spans) * SPAN;
    let weight_base = row * params.weight_words;
    let state_base = row * params.moment_words;
    var weight_bits = vec4<u32>(0u);
    var first_bits = vec4<u32>(0u);
    var second_bits = vec4<u32>(0u);
    if WEIGHTS > 0u { weight_bits = random_bits(0u, row, begin); }
    if MOMENTS > 0u && OPTIMIZER >= 1u { first_bits = random_bits(1u, row, begin); }
    if MOMENTS > 0u && OPTIMIZER >= 2u { second_bits = random_bits(2u, row, begin); }
    for (var slot = begin; slot < min(begin + SPAN, params.fan_in); slot++) {
        let at = weight_base + slot / per_word(WEIGHTS);
        let state = state_base + slot / per_word(MOMENTS);
        var m = 0.0;
        var v = 0.0;
        if OPTIMIZER >= 1u { m = stored(MOMENTS, first[state], slot); }
        if OPTIMIZER >= 2u { v = stored(MOMENTS, second[state], slot); }
        let weight = stored(WEIGHTS, weights[at], slot);
        let after = optimizer_step(params.rates, weight, gradient_of(row, slot), m, v);
        let weight_code = rounded(WEIGHTS, after.x, slot, bits_of(weight_bits, slot));
        weights[at] = (weights[at] & ~place_mask(WEIGHTS, slot)) | weight_code;
        if OPTIMIZER >= 1u {
            let code = rounded(MOMENTS, after.y, slot, bits_of(first_bits, slot));
            first[state] = (first[state] & ~place_mask(MOMENTS, slot)) | code;
        }
        if OPTIMIZER >= 2u {
            let code = rounded(MOMENTS, after.z, slot, bits_of(second_bits, slot));
            second[state] = (second[state] & ~place_mask(MOMENTS, slot)) | code;
        }
    }
}
