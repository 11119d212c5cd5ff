// Gradient of the position embeddings: a position sums over the documents that reach it, in order.
//
//   gradient[first_position + j, h] (+)= sum over the documents longer than j: dx[offset + j, h]
//
// An invocation owns one feature of one position.
//!import linear

// 1: add to what is there
const ACCUMULATE: u32 = 0u;
const WORKGROUP: u32 = 64u;

struct Params {
    documents: u32, // B
    positions: u32, // P
    hidden: u32,
    first_position: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> dx: array<f32>;             // [T, H]
@group(0) @binding(1) var<storage, read> offsets: array<u32>;        // [B + 1]
@group(0) @binding(2) var<storage, read_write> gradient: array<f32>; // [P, H]

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.positions * params.hidden {
        return;
    }
    let row = lane / params.hidden;
    let h = lane - row * params.hidden;
    var sum = 0.0;
    if ACCUMULATE == 1u {
        sum = gradient[lane];
    }
    if row >= params.first_position {
        let place = row - params.first_position;
        for (var document = 0u; document < params.documents; document++) {
            let token = offsets[document] + place;
            if token < offsets[document + 1u] {
                sum += dx[token * params.hidden + h];
            }
        }
    }
    gradient[lane] = sum;
}
