// LayerNorm over the features of each row, with the biased variance.
//
//   y[b,h] = (x[b,h] - mean_b) * rstd_b * gamma[h] + beta[h],   rstd_b = 1 / sqrt(variance_b + epsilon)
//
// A workgroup owns one row: lanes sum strides of it, then the lanes are added as a tree.
//!import row_sum

struct Params {
    rows: u32,
    hidden: u32,
    epsilon: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;           // [B, H]
@group(0) @binding(1) var<storage, read> gamma: array<f32>;       // [H]
@group(0) @binding(2) var<storage, read> beta: array<f32>;        // [H]
@group(0) @binding(3) var<storage, read_write> y: array<f32>;     // [B, H]
@group(0) @binding(4) var<storage, read_write> stats: array<f32>; // [B, 2]: mean, rstd

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = workgroup.x + workgroup.y * grid.x;
    if row >= params.rows {
        return;
    }
    let base = row * params.hidden;
    var sum = 0.0;
    for (var h = local; h < params.hidden; h += LANES) {
        sum += x[base + h];
    }
    let mean = row_sum(local, sum) / f32(params.hidden);
    var squares = 0.0;
    for (var h = local; h < params.hidden; h += LANES) {
        let d = x[base + h] - mean;
        squares += d * d;
    }
    let rstd = 1.0 / sqrt(row_sum(local, squares) / f32(params.hidden) + params.epsilon);
    for (var h = local; h < params.hidden; h += LANES) {
        y[base + h] = (x[base + h] - mean) * rstd * gamma[h] + beta[h];
    }
    if local == 0u {
        stats[row * 2u] = mean;
        stats[row * 2u + 1u] = rstd;
    }
}
