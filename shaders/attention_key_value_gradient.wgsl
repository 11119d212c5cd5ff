// Gradient of the keys or of the values of attention; P is computed again from the scores and their lse.
//
//   dS = P * (kept * (dout v^T) - delta),   dk = scale * dS^T q,   dv = (kept * P)^T dout
//
// An invocation owns a (key, head) and walks over the queries in groups of four. Keys and values are two launches:
// together they would bind more than eight buffers, and hold twice as much in registers.
//!import linear
//!import random
//!import attention

// 1: the gradient of the values instead of that of the keys
const VALUE: u32 = 0u;

@group(0) @binding(0) var<storage, read> q: array<f32>;              // [T, H]
@group(0) @binding(1) var<storage, read> k: array<f32>;              // [T, H]
@group(0) @binding(2) var<storage, read> v: array<f32>;              // [T, H]
@group(0) @binding(3) var<storage, read> dout: array<f32>;           // [T, H]
@group(0) @binding(4) var<storage, read> lse: array<f32>;            // [T, heads]
@group(0) @binding(5) var<storage, read> delta: array<f32>;          // [T, heads]
@group(0) @binding(6) var<storage, read> offsets: array<u32>;        // [B + 1]
@group(0) @binding(7) var<storage, read_write> gradient: array<f32>; // [T, H]

fn q_at(row: u32, i: u32) -> vec4<f32> {
    let at = row + places(i);
    return inside(i, vec4<f32>(q[at.x], q[at.y], q[at.z], q[at.w]));
}

// Vector i of four queries, as columns.
fn q_four(rows: vec4<u32>, i: u32) -> mat4x4<f32> {
    return mat4x4<f32>(q_at(rows.x, i), q_at(rows.y, i), q_at(rows.z, i), q_at(rows.w, i));
}

fn dout_at(row: u32, i: u32) -> vec4<f32> {
    let at = row + places(i);
    return inside(i, vec4<f32>(dout[at.x], dout[at.y], dout[at.z], dout[at.w]));
}

// Vector i of four gradients, as columns.
fn dout_four(rows: vec4<u32>, i: u32) -> mat4x4<f32> {
    return mat4x4<f32>(dout_at(rows.x, i), dout_at(rows.y, i), dout_at(rows.z, i), dout_at(rows.w, i));
}

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

    var key: array<vec4<f32>, VECTORS>;
    var value: array<vec4<f32>, VECTORS>;
    var sums: array<vec4<f32>, VECTORS>;
    for (var i = 0u; i < VECTORS; i++) {
        let at = row * HEAD + places(i);
        key[i] = inside(i, params.scale * vec4<f32>(k[at.x], k[at.y], k[at.z], k[at.w]));
        if VALUE == 0u {
            value[i] = inside(i, vec4<f32>(v[at.x], v[at.y], v[at.z], v[at.w]));
        }
        sums[i] = vec4<f32>(0.0);
    }
    let group = (token - begin) / 4u;
    let word = (token - begin) % 4u;
    for (var first = begin; first < end; first += 4u) {
        let queries = rows_of(first, end, head);
        let rows = queries / HEAD;
        var scores = vec4<f32>(0.0);
        var dp = vec4<f32>(0.0);
        for (var i = 0u; i < VECTORS; i++) {
            scores += key[i] * q_four(queries, i);
            if VALUE == 0u {
                dp += value[i] * dout_four(queries, i);
            }
        }
        let keep = vec4<f32>(
            kept(rows.x, group)[word], kept(rows.y, group)[word], kept(rows.z, group)[word], kept(rows.w, group)[word]);
        var weights = exp(scores - vec4<f32>(lse[rows.x], lse[rows.y], lse[rows.z], lse[rows.w]));
        if VALUE == 1u {
            weights *= keep;
        } else {
            weights *= keep * dp - vec4<f32>(delta[rows.x], delta[rows.y], delta[rows.z], delta[rows.w]);
        }
        let w = select(vec4<f32>(0.0), weights, first + FOUR < vec4<u32>(end));
        for (var i = 0u; i < VECTORS; i++) {
            if VALUE == 1u {
                sums[i] += dout_four(queries, i) * w;
            } else {
                sums[i] += q_four(queries, i) * w;
            }
        }
    }
    for (var place = 0u; place < HEAD; place++) {
        var sum = sums[place / 4u][place % 4u];
        if VALUE == 0u {
            sum *= params.scale;
        }
        gradient[row * HEAD + place] = sum;
    }
}
