// Attention of every token to the tokens of its own document, in each head.
//
//   S = scale * q k^T,   P = softmax(S),   out = dropout(P) v,   lse = log of the sum of exp(S)
//
// An invocation owns a (query, head) and walks over the keys in groups of four, with the largest score so far: sums
// made under a smaller one shrink when a larger one comes. Neighbouring lanes are neighbouring queries of one head, so
// that they read the same keys.
//!import linear
//!import random
//!import attention
//!import attention_keys

@group(0) @binding(0) var<storage, read> q: array<f32>;         // [T, H]
@group(0) @binding(1) var<storage, read> k: array<f32>;         // [T, H]
@group(0) @binding(2) var<storage, read> v: array<f32>;         // [T, H]
@group(0) @binding(3) var<storage, read> offsets: array<u32>;   // [B + 1]
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [T, H]
@group(0) @binding(5) var<storage, read_write> lse: array<f32>; // [T, heads]

// Below every score; an infinity is not for WGSL.
const LOWEST: f32 = -3.0e38;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.tokens * params.heads {
        return;
    }
    let head = lane / params.tokens;
    let token = lane - head * params.tokens;
    let row = token * params.heads + head;
    let document = document_of(token);
    let begin = offsets[document];
    let end = offsets[document + 1u];

    var query: array<vec4<f32>, VECTORS>;
    var sums: array<vec4<f32>, VECTORS>;
    for (var i = 0u; i < VECTORS; i++) {
        let at = row * HEAD + places(i);
        query[i] = inside(i, params.scale * vec4<f32>(q[at.x], q[at.y], q[at.z], q[at.w]));
        sums[i] = vec4<f32>(0.0);
    }
    var largest = LOWEST;
    var total = 0.0;
    for (var first = begin; first < end; first += 4u) {
        let keys = rows_of(first, end, head);
        var scores = vec4<f32>(0.0);
        for (var i = 0u; i < VECTORS; i++) {
            scores += query[i] * k_four(keys, i);
        }
        let present = first + FOUR < vec4<u32>(end);
        scores = select(vec4<f32>(LOWEST), scores, present);
        let before = largest;
        largest = max(largest, max(max(scores.x, scores.y), max(scores.z, scores.w)));
        let shrink = exp(before - largest);
        var p = select(vec4<f32>(0.0), exp(scores - largest), present);
        total = total * shrink + ((p.x + p.y) + (p.z + p.w));
        p *= kept(row, (first - begin) / 4u);
        for (var i = 0u; i < VECTORS; i++) {
            sums[i] = sums[i] * shrink + v_four(keys, i) * p;
        }
    }
    for (var place = 0u; place < HEAD; place++) {
        out[row * HEAD + place] = sums[place / 4u][place % 4u] / total;
    }
    lse[row] = largest + log(total);
}
