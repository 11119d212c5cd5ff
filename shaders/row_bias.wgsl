// Adds a bias to each row of a matrix whose columns are the samples; columns beyond the batch become zero.
//
// An invocation owns one element.
//!import linear

const WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,
    batch: u32,
    columns: u32, // batch rounded up to 16
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> bias: array<f32>;    // [rows]
@group(0) @binding(1) var<storage, read_write> z: array<f32>; // [rows, columns]

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    let row = lane / params.columns;
    if row >= params.rows {
        return;
    }
    z[lane] = select(0.0, z[lane] + bias[row], lane - row * params.columns < params.batch);
}
