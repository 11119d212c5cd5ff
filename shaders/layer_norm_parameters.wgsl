// Gradient of LayerNorm's gamma and beta: sums over the rows.
//
//   dgamma[h] = sum_b dy[b,h] * (x[b,h] - mean_b) * rstd_b,   dbeta[h] = sum_b dy[b,h]
//
// A workgroup owns COLUMNS features. ROWS of its lanes share a feature: each sums every ROWS-th row, in order, and
// their sums are added in order.

// 1: add to what is there
const ACCUMULATE: u32 = 0u;
const COLUMNS: u32 = 16u;
const ROWS: u32 = 16u;

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

const LANES: u32 = COLUMNS * ROWS;
var<workgroup> partial: array<vec2<f32>, LANES>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let h = (workgroup.x + workgroup.y * grid.x) * COLUMNS + local % COLUMNS;
    var sums = vec2<f32>(0.0);
    if h < params.hidden {
        for (var row = local / COLUMNS; row < params.rows; row += ROWS) {
            let g = dy[row * params.hidden + h];
            let xhat = (x[row * params.hidden + h] - stats[row * 2u]) * stats[row * 2u + 1u];
            sums += vec2<f32>(g * xhat, g);
        }
    }
    partial[local] = sums;
    workgroupBarrier();
    if local < COLUMNS && h < params.hidden {
        for (var i = 1u; i < ROWS; i++) {
            sums += partial[i * COLUMNS + local];
        }
        if ACCUMULATE == 1u {
            sums += vec2<f32>(dgamma[h], dbeta[h]);
        }
        dgamma[h] = sums.x;
        dbeta[h] = sums.y;
    }
}
