// Sums of the columns of a matrix, in order: the gradient of a bias.
//
// An invocation owns one column.
//!import linear

const WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,
    columns: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> matrix: array<f32>;     // [rows, columns]
@group(0) @binding(1) var<storage, read_write> sums: array<f32>; // [columns]

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let column = lane_of(workgroup, grid, WORKGROUP, local);
    if column >= params.columns {
        return;
    }
    var sum = 0.0;
    for (var row = 0u; row < params.rows; row++) {
        sum += matrix[row * params.columns + column];
    }
    sums[column] = sum;
}
