// Logits of a run of labels whose features lie in a texture.
//
//   z[b,l] = bias[l] + sum_f weights[l,f] * x[b, indices[l / group, f]]
//
// An invocation owns one label and QUADS * 4 samples, so that an index and a weight, which come from storage buffers, are
// fetched once for all of them.
//!import linear
//!import fan_in
//!import narrow

const WORKGROUP: u32 = 64u;
// Quads of samples of an invocation
const QUADS: u32 = 4u;

struct Params {
    rows: u32,         // labels of this launch
    fan_in: u32,
    index_words: u32,  // words in a row of indices
    weight_words: u32, // words in a row of weights
    group: u32,        // labels that share a row of indices
    quads: u32,        // columns / 4, a multiple of QUADS
}
var<immediate> params: Params;

@group(0) @binding(0) var x: texture_storage_2d<rgba32float, read>;       // [D, columns]
@group(0) @binding(1) var<storage, read> weights: array<u32>;             // [rows, weight_words]
@group(0) @binding(2) var<storage, read> indices: array<u32>;             // [rows / group, index_words]
@group(0) @binding(3) var<storage, read> bias: array<f32>;                // [rows]
@group(0) @binding(4) var<storage, read_write> logits: array<vec4<f32>>; // [rows, columns]

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    let runs = params.quads / QUADS;
    if lane >= params.rows * runs {
        return;
    }
    let row = lane / runs;
    let quad = (lane - row * runs) * QUADS;
    let index_base = (row / params.group) * params.index_words;
    var z: array<vec4<f32>, QUADS>;
    let start = bias[row];
    for (var q = 0u; q < QUADS; q++) {
        z[q] = vec4<f32>(start);
    }
    for (var f = 0u; f < params.fan_in; f++) {
        let w = stored(WEIGHTS, weights[row * params.weight_words + f / per_word(WEIGHTS)], f);
        let at = index_in(indices[index_base + index_word(f)], f);
        for (var q = 0u; q < QUADS; q++) {
            z[q] += w * textureLoad(x, vec2<u32>(quad + q, at));
        }
    }
    for (var q = 0u; q < QUADS; q++) {
        logits[row * params.quads + quad + q] = z[q];
    }
}
