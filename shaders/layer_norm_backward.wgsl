// Gradient of LayerNorm with respect to its input.
//
//   dx = rstd * (dy * gamma - mean(dy * gamma) - xhat * mean(dy * gamma * xhat)),   xhat = (x - mean) * rstd
//
// A workgroup owns one row.

const LANES: u32 = 64u;

struct Params {
    rows: u32,
    hidden: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;        // [B, H]
@group(0) @binding(1) var<storage, read> stats: array<f32>;    // [B, 2]: mean, rstd
@group(0) @binding(2) var<storage, read> gamma: array<f32>;    // [H]
@group(0) @binding(3) var<storage, read> dy: array<f32>;       // [B, H]
@group(0) @binding(4) var<storage, read_write> dx: array<f32>; // [B, H]

var<workgroup> partial: array<vec2<f32>, LANES>;

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
    let mean = stats[row * 2u];
    let rstd = stats[row * 2u + 1u];
    var sums = vec2<f32>(0.0);
    for (var h = local; h < params.hidden; h += LANES) {
        let g = dy[base + h] * gamma[h];
        sums += vec2<f32>(g, g * (x[base + h] - mean) * rstd);
    }
    partial[local] = sums;
    workgroupBarrier();
    for (var width = LANES / 2u; width > 0u; width /= 2u) {
        if local < width {
            partial[local] += partial[local + width];
        }
        workgroupBarrier();
    }
    let means = partial[0] / f32(params.hidden);
    for (var h = local; h < params.hidden; h += LANES) {
        let xhat = (x[base + h] - mean) * rstd;
        dx[base + h] = rstd * (dy[base + h] * gamma[h] - means.x - xhat * means.y);
    }
}
