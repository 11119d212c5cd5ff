// Mean of the token embeddings of each document; a document without tokens gets zeros.
//
//   pooled[b,h] = sum over the tokens t of b: table[tokens[t], h] / number of tokens of b
//
// An invocation owns one feature of one document.
//!import linear

const WORKGROUP: u32 = 64u;

struct Params {
    batch: u32,
    hidden: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> table: array<f32>;        // [V, H]
@group(0) @binding(1) var<storage, read> tokens: array<u32>;       // [T]
@group(0) @binding(2) var<storage, read> offsets: array<u32>;      // [B + 1]
@group(0) @binding(3) var<storage, read_write> pooled: array<f32>; // [B, H]

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.batch * params.hidden {
        return;
    }
    let document = lane / params.hidden;
    let feature = lane - document * params.hidden;
    let start = offsets[document];
    let end = offsets[document + 1u];
    var sum = 0.0;
    for (var t = start; t < end; t++) {
        sum += table[tokens[t] * params.hidden + feature];
    }
    pooled[lane] = sum / f32(max(end - start, 1u));
}
