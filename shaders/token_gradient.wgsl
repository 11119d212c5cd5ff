// Gradient of the embeddings of the tokens that the batch uses, from that of every token's embedding: the host sorts
// the tokens' numbers into buckets by id, and a bucket is summed in order.
//
//   gradient[u,h] (+)= sum over i in bucket u: dx[bucket_positions[i], h]
//
// An invocation owns one feature of one bucket.
//!import linear

// 1: add to what is there
const ACCUMULATE: u32 = 0u;
const WORKGROUP: u32 = 64u;

struct Params {
    unique_tokens: u32, // U
    hidden: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> dx: array<f32>;               // [T, H]
@group(0) @binding(1) var<storage, read> bucket_offsets: array<u32>;   // [U + 1]
@group(0) @binding(2) var<storage, read> bucket_positions: array<u32>; // [T]
@group(0) @binding(3) var<storage, read_write> gradient: array<f32>;   // [U, H]

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
    let h = lane - bucket * params.hidden;
    var sum = 0.0;
    if ACCUMULATE == 1u {
        sum = gradient[lane];
    }
    for (var i = bucket_offsets[bucket]; i < bucket_offsets[bucket + 1u]; i++) {
        sum += dx[bucket_positions[i] * params.hidden + h];
    }
    gradient[lane] = sum;
}
