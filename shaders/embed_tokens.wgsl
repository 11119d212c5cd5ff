// Embeddings of the tokens, before their norm.
//
//   out[t,h] = word[ids[t],h] + position[first_position + place of t in its document, h] (+ token_type[0,h])
//
// An invocation owns one feature of one token.
//!import linear
//!import documents

// 1: add the first row of token_type
const WITH_TYPE: u32 = 1u;
const WORKGROUP: u32 = 64u;

struct Params {
    documents: u32, // B
    tokens: u32,    // T
    hidden: u32,
    first_position: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> ids: array<u32>;        // [T]
@group(0) @binding(1) var<storage, read> offsets: array<u32>;    // [B + 1]
@group(0) @binding(2) var<storage, read> word: array<f32>;       // [V, H]
@group(0) @binding(3) var<storage, read> position: array<f32>;   // [P, H]
@group(0) @binding(4) var<storage, read> token_type: array<f32>; // [.., H], if WITH_TYPE
@group(0) @binding(5) var<storage, read_write> out: array<f32>;  // [T, H]

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
    let place = token - offsets[document_of(token, params.documents)];
    var value = word[ids[token] * params.hidden + h] + position[(params.first_position + place) * params.hidden + h];
    if WITH_TYPE == 1u {
        value += token_type[h];
    }
    out[lane] = value;
}
