// One row of features for each document, from the rows of its tokens.
//
//   features[first_row + b, first_column + h] = mean of y[t,h] over the document's tokens, or y[its first token, h]
//
// An invocation owns one feature of one document.
//!import linear

// 0 mean, 1 first token
const KIND: u32 = 0u;
const WORKGROUP: u32 = 64u;

struct Params {
    documents: u32, // B
    tokens: u32,
    hidden: u32,
    first_row: u32,
    width: u32,
    first_column: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> offsets: array<u32>;        // [B + 1]
@group(0) @binding(1) var<storage, read> y: array<f32>;              // [T, H]
@group(0) @binding(2) var<storage, read_write> features: array<f32>; // [.., width]

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.documents * params.hidden {
        return;
    }
    let document = lane / params.hidden;
    let h = lane - document * params.hidden;
    let begin = offsets[document];
    var value = y[begin * params.hidden + h];
    if KIND == 0u {
        let end = offsets[document + 1u];
        for (var token = begin + 1u; token < end; token++) {
            value += y[token * params.hidden + h];
        }
        value /= f32(end - begin);
    }
    features[(params.first_row + document) * params.width + params.first_column + h] = value;
}
