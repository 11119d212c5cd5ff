// Product of two matrices, c[M,N] = a * b (+ bias[N]), each operand as stored or transposed.
//
// The floor variant: no workgroup memory, an invocation owns a tile of 4 x 4. Reads beyond the edge are moved
// inside, and what they gave is not stored.
//!import linear

// 1: a is stored [K,M] instead of [M,K]
const TRANSPOSE_A: u32 = 0u;
// 1: b is stored [N,K] instead of [K,N]
const TRANSPOSE_B: u32 = 0u;
// 1: bias[n] is added to every row
const BIAS: u32 = 0u;
const WORKGROUP: u32 = 64u;

struct Params {
    m: u32,
    n: u32,
    k: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

fn a_at(row: u32, k: u32) -> f32 {
    let i = min(row, params.m - 1u);
    if TRANSPOSE_A == 1u {
        return a[k * params.m + i];
    }
    return a[i * params.k + k];
}

fn b_at(k: u32, column: u32) -> f32 {
    let j = min(column, params.n - 1u);
    if TRANSPOSE_B == 1u {
        return b[j * params.k + k];
    }
    return b[k * params.n + j];
}

fn store(row: u32, column: u32, value: f32) {
    if row < params.m && column < params.n {
        var out = value;
        if BIAS == 1u {
            out += bias[column];
        }
        c[row * params.n + column] = out;
    }
}

fn store_row(row: u32, column: u32, values: vec4<f32>) {
    store(row, column, values.x);
    store(row, column + 1u, values.y);
    store(row, column + 2u, values.z);
    store(row, column + 3u, values.w);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = lane_of(workgroup, grid, WORKGROUP, local);
    let tiles_across = (params.n + 3u) / 4u;
    let row = (tile / tiles_across) * 4u;
    let column = (tile % tiles_across) * 4u;
    if row >= params.m {
        return;
    }
    var c0 = vec4<f32>(0.0);
    var c1 = vec4<f32>(0.0);
    var c2 = vec4<f32>(0.0);
    var c3 = vec4<f32>(0.0);
    for (var k = 0u; k < params.k; k++) {
        let right = vec4<f32>(b_at(k, column), b_at(k, column + 1u), b_at(k, column + 2u), b_at(k, column + 3u));
        c0 += a_at(row, k) * right;
        c1 += a_at(row + 1u, k) * right;
        c2 += a_at(row + 2u, k) * right;
        c3 += a_at(row + 3u, k) * right;
    }
    store_row(row, column, c0);
    store_row(row + 1u, column, c1);
    store_row(row + 2u, column, c2);
    store_row(row + 3u, column, c3);
}
