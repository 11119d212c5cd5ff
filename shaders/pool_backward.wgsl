// The way back through pool: from the documents' feature gradients to the tokens'.
//
//   mean:        dy[t,h] = dfeatures[first_row + b, first_column + h] / tokens of b, b the document of t
//   first token: the same undivided at the document's first token, 0 at the others
//
// An invocation owns one feature of one token.
//!import linear
//!import documents

// 0 mean, 1 first token
const KIND: u32 = 0u;
// 1: add to what is there
const ACCUMULATE: u32 = 0u;
const WORKGROUP: u32 = 64u;

struct Params {
    documents: u32, // B
    tokens: u32,    // T
    hidden: u32,
    first_row: u32,
    width: u32,
    first_column: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> offsets: array<u32>;   // [B + 1]
@group(0) @binding(1) var<storage, read> dfeatures: array<f32>; // [.., width]
@group(0) @binding(2) var<storage, read_write> dy: array<f32>;  // [T, H]

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.tokens * params.hidden {
        return;
    }
    let token = lane / params.hidden;
    let h = lane - token * params.hidden;
    let document = document_of(token, params.documents);
    let begin = offsets[document];
    var value = dfeatures[(params.first_row + document) * params.width + params.first_column + h];
    if KIND == 0u {
        value /= f32(offsets[document + 1u] - begin);
    } else {
        value = select(0.0, value, token == begin);
    }
    if ACCUMULATE == 1u {
        value += dy[lane];
    }
    dy[lane] = value;
}
