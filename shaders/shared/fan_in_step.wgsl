// One training step of a block of labels but for the features' gradient: logits, loss, gradients and the optimizer's
// step of weights and biases. Weights are read once and written once.
//
//   z[b,l] = bias[l] + sum_f weights[l,f] * x[b, indices[l / group, f]]
//   dlogits = scale * dloss/dz
//   g[l,f] = sum_b dlogits[l,b] * x[b, indices[l / group, f]], then one optimizer step of weights[l,f]
//   g[l]   = sum_b dlogits[l,b], then one of bias[l], without weight decay
//
// An invocation owns one label. Logit gradients and the weights as they were go to memory for the features' gradient. Who
// imports this has `x` and how eight samples of it are fetched.
//!import linear
//!import fan_in
//!import first_positive
//!import loss
//!import optimizer
//!import fan_in_bias
//!import random
//!import narrow
//!import fan_in_weights

const WORKGROUP: u32 = 64u;

// The fan-in, if what a label fetches of eight samples shall stay where its gradient finds it again; 0: fetch it twice.
// Registers of real GPUs do not hold it; software Vulkan has it in the processor's cache, where a fetch of its own
// costs thirty times as much as one of a register.
const KEPT: u32 = 0u;
const SLOTS: u32 = max(KEPT, 1u);

struct Params {
    @size(48) rates: Rates, // uniform buffers want what follows a struct at a multiple of 16
    rows: u32,         // labels of this launch
    first_label: u32,  // number of its first label
    fan_in: u32,
    index_words: u32,  // words in a row of indices
    weight_words: u32, // words in a row of weights
    moment_words: u32, // words in a row of states
    group: u32,        // labels that share a row of indices
    batch: u32,
    columns: u32,      // batch rounded up to 16
    positives: u32,    // (label, sample) pairs of the batch
    scale: f32,        // of the gradient: what the reduction divides by
    train_bias: u32,
    seed_low: u32,     // of the roundings
    seed_high: u32,
    step: u32,
}
var<immediate> params: Params;

@group(0) @binding(1) var<storage, read> indices: array<u32>;              // [rows / group, index_words]
@group(0) @binding(2) var<storage, read> positives: array<vec2<u32>>;      // sorted by label, then sample
@group(0) @binding(3) var<storage, read_write> weights: array<u32>;        // [rows, weight_words]
@group(0) @binding(4) var<storage, read_write> bias: array<f32>;           // [rows]
@group(0) @binding(5) var<storage, read_write> first: array<u32>;          // [rows, moment_words], if the optimizer has it
@group(0) @binding(6) var<storage, read_write> second: array<u32>;         // [rows, moment_words], if the optimizer has it
@group(0) @binding(7) var<storage, read_write> bias_first: array<f32>;     // [rows], if the optimizer has it
@group(0) @binding(8) var<storage, read_write> bias_second: array<f32>;    // [rows], if the optimizer has it
@group(0) @binding(9) var<storage, read_write> dlogits: array<vec4<f32>>;  // [rows, columns]
@group(0) @binding(10) var<storage, read_write> before: array<u32>;        // [rows, weight_words], before the step
@group(0) @binding(11) var<storage, read_write> label_loss: array<f32>;    // [rows], summed over the samples

// The features' gradient needs the weights as they were.
fn keep_before(at: u32, word: u32) {
    before[at] = word;
}

// Where the samples of a connection's feature begin in x, in eights.
fn features_of(row: u32, slot: u32) -> u32 {
    let word = indices[(row / params.group) * params.index_words + index_word(slot)];
    return index_in(word, slot) * (params.columns / 8u);
}

fn weight_of(row: u32, slot: u32) -> f32 {
    return stored(WEIGHTS, weights[row * params.weight_words + slot / per_word(WEIGHTS)], slot);
}

// What a label gathers on its way through the samples.
struct Label {
    row: u32,
    number: u32,      // of the label
    cursor: u32,      // the next of the positives
    loss: f32,
    gradient: vec4<f32>, // of the bias
}

// The label's positives among the sixteen samples from `first_sample` on, a bit each.
fn positive_bits(label: ptr<function, Label>, first_sample: u32) -> u32 {
    var bits = 0u;
    while (*label).cursor < params.positives {
        let pair = positives[(*label).cursor];
        if pair.x != (*label).number || pair.y >= first_sample + 16u {
            break;
        }
        bits |= 1u << (pair.y - first_sample);
        (*label).cursor++;
    }
    return bits;
}

// Four logits become their gradients, which are kept.
fn finish(label: ptr<function, Label>, quad: u32, z: vec4<f32>, bits: u32) -> vec4<f32> {
    let result = loss_of(z, signs(bits, quad * 4u));
    let gradient = params.scale * result.gradient;
    dlogits[(*label).row * (params.columns / 4u) + quad] = gradient;
    (*label).loss += dot(result.loss, vec4<f32>(1.0));
    (*label).gradient += gradient;
    return gradient;
}

// What the label looks at is fetched once.
fn step_kept(label: ptr<function, Label>) {
    let row = (*label).row;
    let start = bias[row];
    var at: array<u32, SLOTS>;
    var w: array<f32, SLOTS>;
    var sums: array<f32, SLOTS>;
    for (var f = 0u; f < SLOTS; f++) {
        at[f] = features_of(row, f);
        w[f] = weight_of(row, f);
        sums[f] = 0.0;
    }
    var bits = 0u;
    for (var eight = 0u; eight < params.columns / 8u; eight++) {
        var x0: array<vec4<f32>, SLOTS>;
        var x1: array<vec4<f32>, SLOTS>;
        var z0 = vec4<f32>(start);
        var z1 = z0;
        for (var f = 0u; f < SLOTS; f++) {
            let fetched = fetch(at[f] + eight);
            x0[f] = fetched.low;
            x1[f] = fetched.high;
            z0 += w[f] * x0[f];
            z1 += w[f] * x1[f];
        }
        if eight % 2u == 0u { bits = positive_bits(label, eight * 8u); } else { bits >>= 8u; }
        let g0 = finish(label, 2u * eight, z0, bits);
        let g1 = finish(label, 2u * eight + 1u, z1, bits >> 4u);
        for (var f = 0u; f < SLOTS; f++) {
            sums[f] += dot(g0 * x0[f] + g1 * x1[f], vec4<f32>(1.0));
        }
    }
    for (var begin = 0u; begin < SLOTS; begin += 8u) {
        var gradients: array<f32, 8>;
        for (var i = 0u; i < 8u; i++) {
            if begin + i < SLOTS { gradients[i] = sums[begin + i]; }
        }
        step_weights(row, begin, gradients);
    }
}

// What the label looks at is fetched for the logits, sixteen samples at a time, and again for the gradients, eight
// connections at a time: so many registers do for every fan-in and batch.
fn step_fetching_twice(label: ptr<function, Label>) {
    let row = (*label).row;
    let start = bias[row];
    let quads = params.columns / 4u;
    for (var tile = 0u; tile < quads; tile += 4u) {
        var z0 = vec4<f32>(start);
        var z1 = z0;
        var z2 = z0;
        var z3 = z0;
        for (var f = 0u; f < params.fan_in; f++) {
            let w = weight_of(row, f);
            let at = features_of(row, f) + tile / 2u;
            let first_eight = fetch(at);
            let second_eight = fetch(at + 1u);
            z0 += w * first_eight.low;
            z1 += w * first_eight.high;
            z2 += w * second_eight.low;
            z3 += w * second_eight.high;
        }
        let bits = positive_bits(label, tile * 4u);
        finish(label, tile, z0, bits);
        finish(label, tile + 1u, z1, bits >> 4u);
        finish(label, tile + 2u, z2, bits >> 8u);
        finish(label, tile + 3u, z3, bits >> 12u);
    }
    for (var begin = 0u; begin < params.fan_in; begin += 8u) {
        var at: array<u32, 8>;
        var sums: array<vec4<f32>, 8>;
        for (var i = 0u; i < 8u; i++) {
            // Beyond the fan-in the last connection stands in, for nobody.
            at[i] = features_of(row, min(begin + i, params.fan_in - 1u));
            sums[i] = vec4<f32>(0.0);
        }
        for (var eight = 0u; eight < quads / 2u; eight++) {
            let g0 = dlogits[row * quads + 2u * eight];
            let g1 = dlogits[row * quads + 2u * eight + 1u];
            for (var i = 0u; i < 8u; i++) {
                let fetched = fetch(at[i] + eight);
                sums[i] += g0 * fetched.low + g1 * fetched.high;
            }
        }
        var gradients: array<f32, 8>;
        for (var i = 0u; i < 8u; i++) {
            gradients[i] = dot(sums[i], vec4<f32>(1.0));
        }
        step_weights(row, begin, gradients);
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = lane_of(workgroup, grid, WORKGROUP, local);
    if row >= params.rows {
        return;
    }
    let number = params.first_label + row;
    var label = Label(row, number, first_positive(number), 0.0, vec4<f32>(0.0));
    if KEPT > 0u { step_kept(&label); } else { step_fetching_twice(&label); }
    label_loss[row] = label.loss;
    if params.train_bias == 1u { step_bias(row, dot(label.gradient, vec4<f32>(1.0))); }
}
