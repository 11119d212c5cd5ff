// Sums of the columns of a matrix: the gradient of a bias.
//
// A workgroup owns COLUMNS columns. ROWS of its lanes share a column: each sums every ROWS-th row, in order, and their
// sums are added in order; of up to sixteen rows one lane can take all, in the same order.

// 1: add to what is there
const ACCUMULATE: u32 = 0u;
const COLUMNS: u32 = 16u;
const ROWS: u32 = 16u;

struct Params {
    rows: u32,
    columns: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> matrix: array<f32>;     // [rows, columns]
@group(0) @binding(1) var<storage, read_write> sums: array<f32>; // [columns]

const LANES: u32 = COLUMNS * ROWS;
var<workgroup> partial: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let column = (workgroup.x + workgroup.y * grid.x) * COLUMNS + local % COLUMNS;
    var sum = 0.0;
    if column < params.columns {
        for (var row = local / COLUMNS; row < params.rows; row += ROWS) {
            sum += matrix[row * params.columns + column];
        }
    }
    if ROWS > 1u {
        partial[local] = sum;
        workgroupBarrier();
    }
    if local < COLUMNS && column < params.columns {
        for (var i = 1u; i < ROWS; i++) {
            sum += partial[i * COLUMNS + local];
        }
        if ACCUMULATE == 1u {
            sum += sums[column];
        }
        sums[column] = sum;
    }
}
