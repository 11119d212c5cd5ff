// What every product of two matrices has: c[M,N] = a * b, each operand as stored or transposed.

// 1: a is stored [K,M] instead of [M,K]
const TRANSPOSE_A: u32 = 0u;
// 1: b is stored [N,K] instead of [K,N]
const TRANSPOSE_B: u32 = 0u;
// 1: the stored rows of a and of b begin at whole vectors of four
const VECTORS: u32 = 0u;

struct Params {
    m: u32,
    n: u32,
    k: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

// Element (row, k) of a; the caller keeps inside.
fn a_at(row: u32, k: u32) -> f32 {
    let i = select(row * params.k + k, k * params.m + row, TRANSPOSE_A == 1u);
    return a[i / 4u][i % 4u];
}

// Element (k, column) of b; the caller keeps inside.
fn b_at(k: u32, column: u32) -> f32 {
    let i = select(k * params.n + column, column * params.k + k, TRANSPOSE_B == 1u);
    return b[i / 4u][i % 4u];
}
