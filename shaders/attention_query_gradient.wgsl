// Gradient of the queries of attention; P is computed again from the scores and their lse.
//
//   dS = P * (kept * (dout v^T) - delta),   dq = scale * dS k
//
// An invocation owns a (query, head) and walks over the keys in groups of four; lanes as in attention_forward.
//!import linear
//!import random
//!import attention
//!import attention_keys

@group(0) @binding(0) var<storage, read> q: array<f32>;        // [T, H]
@group(0) @binding(1) var<storage, read> k: array<f32>;        // [T, H]
@group(0) @binding(2) var<storage, read> v: array<f32>;        // [T, H]
@group(0) @binding(3) var<storage, read> dout: array<f32>;     // [T, H]
@group(0) @binding(4) var<storage, read> lse: array<f32>;      // [T, heads]
@group(0) @binding(5) var<storage, read> delta: array<f32>;    // [T, heads]
@group(0) @binding(6) var<storage, read> offsets: array<u32>;  // [B + 1]
@group(0) @binding(7) var<storage, read_write> dq: array<f32>; // [T, H]

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
    var dquery: array<vec4<f32>, VECTORS>;
    var gradient: array<vec4<f32>, VECTORS>;
    for (var i = 0u; i < VECTORS; i++) {
        let at = row * HEAD + places(i);
        query[i] = inside(i, params.scale * vec4<f32>(q[at.x], q[at.y], q[at.z], q[at.w]));
        gradient[i] = inside(i, vec4<f32>(dout[at.x], dout[at.y], dout[at.z], dout[at.w]));
        dquery[i] = vec4<f32>(0.0);
    }
    let row_lse = lse[row];
    let row_delta = delta[row];
    for (var first = begin; first < end; first += 4u) {
        let keys = rows_of(first, end, head);
        var scores = vec4<f32>(0.0);
        var dp = vec4<f32>(0.0);
        for (var i = 0u; i < VECTORS; i++) {
            scores += query[i] * k_four(keys, i);
            dp += gradient[i] * v_four(keys, i);
        }
        var ds = exp(scores - row_lse) * (kept(row, (first - begin) / 4u) * dp - row_delta);
        ds = select(vec4<f32>(0.0), ds, first + FOUR < vec4<u32>(end));
        for (var i = 0u; i < VECTORS; i++) {
            dquery[i] += k_four(keys, i) * ds;
        }
    }
    for (var place = 0u; place < HEAD; place++) {
        dq[row * HEAD + place] = params.scale * dquery[place / 4u][place % 4u];
    }
}
