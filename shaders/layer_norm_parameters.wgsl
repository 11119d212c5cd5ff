// Gradient of LayerNorm's gamma and beta: sums over the rows, in order.
//
//   dgamma[h] = sum_b dy[b,h] * (x[b,h] - mean_b) * rstd_b,   dbeta[h] = sum_b dy[b,h]
//
// An invocation owns one feature.
//!import linear

const WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,
    hidden: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;            // [B, H]
@group(0) @binding(1) var<storage, read> stats: array<f32>;        // [B, 2]: mean, rstd
@group(0) @binding(2) var<storage, read> dy: array<f32>;           // [B, H]
@group(0) @binding(3) var<storage, read_write> dgamma: array<f32>; // [H]
@group(0) @binding(4) var<storage, read_write> dbeta: array<f32>;  // [H]

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let h = lane_of(workgroup, grid, WORKGROUP, local);
    if h >= params.hidden {
        return;
    }
    var sums = vec2<f32>(0.0);
    for (var row = 0u; row < params.rows; row++) {
        let g = dy[row * params.hidden + h];
        let xhat = (x[row * params.hidden + h] - stats[row * 2u]) * stats[row * 2u + 1u];
        sums += vec2<f32>(g * xhat, g);
    }
    dgamma[h] = sums.x;
    dbeta[h] = sums.y;
}
