// The step of labels whose features lie as `x`, [D, columns]; logit gradients lie likewise, [rows, columns]. Who imports this
// has `x` and how eight samples of it are fetched.
//!import fan_in_label
//!import fan_in_label_words

// The fan-in, if what a label fetches of eight samples shall stay where its gradient finds it again; 0: fetch it twice.
// Registers of real GPUs do not hold it; software Vulkan has it in the processor's cache, where a fetch of its own
// costs thirty times as much as one of a register.
const KEPT: u32 = 0u;
const SLOTS: u32 = max(KEPT, 1u);

// Where the samples of a connection's feature begin in x, in eights.
fn features_of(row: u32, slot: u32) -> u32 {
    return feature_of(row, slot) * (params.columns / 8u);
}

@group(0) @binding(9) var<storage, read_write> dlogits: array<vec4<f32>>; // [rows, columns]

fn keep_gradient(row: u32, quad: u32, gradient: vec4<f32>) {
    dlogits[row * (params.columns / 4u) + quad] = gradient;
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

fn step_label(label: ptr<function, Label>) {
    if KEPT > 0u { step_kept(label); } else { step_fetching_twice(label); }
}
