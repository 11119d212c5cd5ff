// Dropout of the features, which are transposed on the way: the classifier wants the samples last.
//
//   x[d,b] = features[b,d] * keep(b,d) / (1 - p),   0 in the columns beyond the batch
//
// The mask is drawn from the counter (b * D + d) and stored nowhere. An invocation owns one element of x.
//!import linear
//!import random

const WORKGROUP: u32 = 64u;

struct Params {
    batch: u32,
    features: u32,
    columns: u32,
    drop_below: u32, // a word below this drops: p * 2^32
    scale: f32,      // 1 / (1 - p)
    step: u32,
    seed_low: u32,
    seed_high: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> features: array<f32>; // [B, D]
@group(0) @binding(1) var<storage, read_write> x: array<f32>;  // [D, columns]

// Purpose::Dropout of src/random.rs
const DROPOUT: u32 = 4u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.features * params.columns {
        return;
    }
    let d = lane / params.columns;
    let b = lane - d * params.columns;
    var value = 0.0;
    if b < params.batch {
        let element = b * params.features + d;
        value = features[element];
        if params.drop_below > 0u {
            let counter = vec4<u32>(element / 4u, 0u, params.step, DROPOUT);
            let words = philox(counter, vec2<u32>(params.seed_low, params.seed_high));
            value = select(value * params.scale, 0.0, words[element % 4u] < params.drop_below);
        }
    }
    x[lane] = value;
}
