// The step of labels whose features lie in a texture; logit gradients go to another one.
//!import fan_in_label

// The fan-in, if what a label fetches of four samples shall stay where its gradient finds it again; 0: fetch it twice.
const KEPT: u32 = 0u;
const SLOTS: u32 = max(KEPT, 1u);
// columns / 4, where features are fetched twice
const QUADS: u32 = 4u;

@group(0) @binding(0) var x: texture_storage_2d<rgba32float, read>;        // [D, columns]
@group(0) @binding(9) var dlogits: texture_storage_2d<rgba32float, write>; // [rows, columns]

fn keep_gradient(row: u32, quad: u32, gradient: vec4<f32>) {
    textureStore(dlogits, vec2<u32>(quad, row), gradient);
}

fn fetch(feature: u32, quad: u32) -> vec4<f32> {
    return textureLoad(x, vec2<u32>(quad, feature));
}

// What the label looks at is fetched once.
fn step_kept(label: ptr<function, Label>) {
    let row = (*label).row;
    let start = bias[row];
    var at: array<u32, SLOTS>;
    var w: array<f32, SLOTS>;
    var sums: array<f32, SLOTS>;
    for (var f = 0u; f < SLOTS; f++) {
        at[f] = feature_of(row, f);
        w[f] = weight_of(row, f);
        sums[f] = 0.0;
    }
    var bits = 0u;
    for (var quad = 0u; quad < params.columns / 4u; quad++) {
        var x: array<vec4<f32>, SLOTS>;
        var z = vec4<f32>(start);
        for (var f = 0u; f < SLOTS; f++) {
            x[f] = fetch(at[f], quad);
            z += w[f] * x[f];
        }
        if quad % 4u == 0u { bits = positive_bits(label, quad * 4u); } else { bits >>= 4u; }
        let g = finish(label, quad, z, bits);
        for (var f = 0u; f < SLOTS; f++) {
            sums[f] += dot(g, x[f]);
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

// What the label looks at is fetched for the logits and again for the gradients, of all samples at a time, so that an index
// and a weight, which come from storage buffers, are fetched once for each.
fn step_fetching_twice(label: ptr<function, Label>) {
    let row = (*label).row;
    let start = bias[row];
    var z: array<vec4<f32>, QUADS>;
    for (var q = 0u; q < QUADS; q++) {
        z[q] = vec4<f32>(start);
    }
    for (var f = 0u; f < params.fan_in; f++) {
        let at = feature_of(row, f);
        let w = weight_of(row, f);
        for (var q = 0u; q < QUADS; q++) {
            z[q] += w * fetch(at, q);
        }
    }
    // First of all: software Vulkan unrolls no loop that has one of unknown length in it, and `z` would lie in memory.
    var bits: array<u32, QUADS / 4u>;
    for (var tile = 0u; tile < QUADS / 4u; tile++) {
        bits[tile] = positive_bits(label, tile * 16u);
    }
    for (var q = 0u; q < QUADS; q++) {
        z[q] = finish(label, q, z[q], bits[q / 4u] >> (q % 4u * 4u));
    }
    for (var begin = 0u; begin < params.fan_in; begin += 8u) {
        var gradients: array<f32, 8>;
        for (var i = 0u; i < 8u; i++) {
            // Beyond the fan-in the last connection stands in, for nobody.
            let at = feature_of(row, min(begin + i, params.fan_in - 1u));
            var sum = vec4<f32>(0.0);
            for (var q = 0u; q < QUADS; q++) {
                sum += z[q] * fetch(at, q);
            }
            gradients[i] = dot(sum, vec4<f32>(1.0));
        }
        step_weights(row, begin, gradients);
    }
}

fn step_label(label: ptr<function, Label>) {
    if KEPT > 0u { step_kept(label); } else { step_fetching_twice(label); }
}
