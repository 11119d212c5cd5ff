// Gradient of the embeddings of the tokens that the batch uses, without atomics: the host sorts the occurrences of
// each token into a bucket, and a bucket is summed in order.
//
//   gradient[u,h] = sum over the occurrences of token u, in document b: dpooled[b,h] / number of tokens of b
//
// An invocation owns one feature of one of the batch's different tokens.
//!import linear

const WORKGROUP: u32 = 64u;

struct Params {
    unique_tokens: u32, // U, different tokens in the batch
    hidden: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> dpooled: array<f32>;        // [B, H]
@group(0) @binding(1) var<storage, read> offsets: array<u32>;        // [B + 1], tokens of each document
@group(0) @binding(2) var<storage, read> bucket_offsets: array<u32>; // [U + 1]
@group(0) @binding(3) var<storage, read> bucket_rows: array<u32>;    // [T], the document of each occurrence
@group(0) @binding(4) var<storage, read_write> gradient: array<f32>; // [U, H]

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.unique_tokens * params.hidden {
        return;
    }
    let bucket = lane / params.hidden;
    let feature = lane - bucket * params.hidden;
    var sum = 0.0;
    for (var i = bucket_offsets[bucket]; i < bucket_offsets[bucket + 1u]; i++) {
        let document = bucket_rows[i];
        sum += dpooled[document * params.hidden + feature] / f32(offsets[document + 1u] - offsets[document]);
    }
    gradient[lane] = sum;
}
