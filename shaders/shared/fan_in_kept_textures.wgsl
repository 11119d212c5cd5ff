// The step of labels whose features lie in a texture; logit gradients go to another one. What a label fetches of four samples
// stays where its gradient finds it again. Who imports this has `connections_of`, which fetches what eight connections
// look at and their weights, and `step_weights`.

// The fan-in; 0: what the label looks at is fetched twice.
const KEPT: u32 = 0u;
const SLOTS: u32 = max(KEPT, 1u);

@group(0) @binding(0) var x: texture_storage_2d<rgba32float, read>;        // [D, columns]
@group(0) @binding(9) var dlogits: texture_storage_2d<rgba32float, write>; // [rows, columns]

struct Connections { features: array<u32, 8>, weights: array<f32, 8> }

fn keep_gradient(row: u32, quad: u32, gradient: vec4<f32>) {
    textureStore(dlogits, vec2<u32>(quad, row), gradient);
}

fn fetch(feature: u32, quad: u32) -> vec4<f32> {
    return textureLoad(x, vec2<u32>(quad, feature));
}

fn step_kept(label: ptr<function, Label>) {
    let row = (*label).row;
    let start = bias[row];
    var at: array<u32, SLOTS>;
    var w: array<f32, SLOTS>;
    var sums: array<f32, SLOTS>;
    for (var begin = 0u; begin < SLOTS; begin += 8u) {
        var eight = connections_of(row, begin);
        for (var i = 0u; i < 8u; i++) {
            if begin + i < SLOTS {
                at[begin + i] = eight.features[i];
                w[begin + i] = eight.weights[i];
                sums[begin + i] = 0.0;
            }
        }
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
