// A workgroup of SIDE x SIDE invocations computes a tile of 4 SIDE x 4 SIDE, each invocation 4 x 4 of it in registers,
// from SIDE steps of the depth at a time in workgroup memory.
//!import linear
//!import product_quads
//!import finish_quad

const SIDE: u32 = 8u;
// Rows in workgroup memory are longer than they hold, so that invocations that write down a column use different banks.
const STRIDE = SIDE + 1u;

// [depth][4 rows, or 4 columns]
var<workgroup> left: array<vec4<f32>, SIDE * STRIDE>;
var<workgroup> right: array<vec4<f32>, SIDE * STRIDE>;

@compute @workgroup_size(SIDE * SIDE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = lane_of(workgroup, grid, 1u, 0u);
    let tiles_across = (params.n + 4u * SIDE - 1u) / (4u * SIDE);
    let first_row = (tile / tiles_across) * 4u * SIDE;
    let first_column = (tile % tiles_across) * 4u * SIDE;
    let i = local / SIDE;
    let j = local % SIDE;
    // Neighbours read neighbouring memory: across the depth, or along it where the operand lies that way.
    let left_at = select(vec2<u32>(j, i), vec2<u32>(i, j), TRANSPOSE_A == 1u);
    let right_at = select(vec2<u32>(i, j), vec2<u32>(j, i), TRANSPOSE_B == 1u);
    var c0 = vec4<f32>(0.0);
    var c1 = vec4<f32>(0.0);
    var c2 = vec4<f32>(0.0);
    var c3 = vec4<f32>(0.0);
    for (var k = 0u; k < params.k; k += SIDE) {
        left[left_at.x * STRIDE + left_at.y] = a_quad(first_row + 4u * left_at.y, k + left_at.x);
        right[right_at.x * STRIDE + right_at.y] = b_quad(k + right_at.x, first_column + 4u * right_at.y);
        workgroupBarrier();
        for (var d = 0u; d < SIDE; d++) {
            let x = left[d * STRIDE + i];
            let y = right[d * STRIDE + j];
            c0 += x.x * y;
            c1 += x.y * y;
            c2 += x.z * y;
            c3 += x.w * y;
        }
        workgroupBarrier();
    }
    let row = first_row + 4u * i;
    let column = first_column + 4u * j;
    finish_quad(row, column, c0);
    finish_quad(row + 1u, column, c1);
    finish_quad(row + 2u, column, c2);
    finish_quad(row + 3u, column, c3);
}
