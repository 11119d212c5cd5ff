// The step of labels whose features lie in a texture; weights and indices are fetched word by word.
//!import fan_in_label
//!import fan_in_label_words
//!import fan_in_kept_textures

// columns / 4, where features are fetched twice
const QUADS: u32 = 4u;

fn connections_of(row: u32, begin: u32) -> Connections {
    var eight: Connections;
    for (var i = 0u; i < 8u; i++) {
        if begin + i < SLOTS {
            eight.features[i] = feature_of(row, begin + i);
            eight.weights[i] = weight_of(row, begin + i);
        }
    }
    return eight;
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
