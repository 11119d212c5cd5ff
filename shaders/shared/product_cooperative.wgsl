// Four subgroups compute a tile of 4 SIZE x 4 SIZE, each a quarter of it as 2 x 2 cooperative matrices of SIZE x SIZE.
// Operands become f16 on their way into workgroup memory, sums stay f32 and leave through workgroup memory.
//
// No subgroup builtins: some drivers crash when a module has both.
//!import linear
//!import product_quads
//!import product_scale

// Invocations of a subgroup; must be what the adapter runs.
const SUBGROUP: u32 = 32u;
const LANES = 4u * SUBGROUP;
const TILE = 4u * SIZE;
const QUADS = SIZE;
// Steps of the depth at a time.
const DEPTH = 32u;
// Rows in workgroup memory are longer than they hold, against conflicts of banks.
const STRIDE = TILE + 8u;
const LARGEST = 65504.0;

// [depth][row or column]
var<workgroup> left: array<f16, DEPTH * STRIDE>;
var<workgroup> right: array<f16, DEPTH * STRIDE>;
// A matrix for each subgroup.
var<workgroup> sums: array<f32, 4u * SIZE * SIZE>;

// What is too large for f16 becomes its largest number; a NaN stays one.
fn half_of(quad: vec4<f32>) -> vec4<f16> {
    let inside = clamp(quad, vec4<f32>(-LARGEST), vec4<f32>(LARGEST));
    return vec4<f16>(select(inside, quad, quad != quad));
}

// Rows first_row .. of the matrix that this subgroup has put into workgroup memory.
fn leave(subgroup: u32, lane: u32, first_row: u32, first_column: u32, scale: f32) {
    for (var i = lane; i < SIZE * SIZE; i += SUBGROUP) {
        finish(first_row + i / SIZE, first_column + i % SIZE, sums[subgroup * SIZE * SIZE + i] * scale);
    }
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = lane_of(workgroup, grid, 1u, 0u);
    let tiles_across = (params.n + TILE - 1u) / TILE;
    let first_row = (tile / tiles_across) * TILE;
    let first_column = (tile % tiles_across) * TILE;
    let subgroup = local / SUBGROUP;
    let row = (subgroup / 2u) * 2u * SIZE;
    let column = (subgroup % 2u) * 2u * SIZE;
    let scale = scale_of_gradient();
    let left_scale = select(1.0, scale.x, SCALED == 1u);
    let right_scale = select(1.0, scale.x, SCALED == 2u);
    var c00 = Sum();
    var c01 = Sum();
    var c10 = Sum();
    var c11 = Sum();
    for (var k = 0u; k < params.k; k += DEPTH) {
        for (var i = local; i < DEPTH * QUADS; i += LANES) {
            // Neighbours read neighbouring memory: across the depth, or along it where the operand lies that way.
            let across = vec2<u32>(i / QUADS, i % QUADS);
            let along = vec2<u32>(i % DEPTH, i / DEPTH);
            let l = select(along, across, TRANSPOSE_A == 1u);
            let x = half_of(a_quad(first_row + 4u * l.y, k + l.x) * left_scale);
            let at_left = l.x * STRIDE + 4u * l.y;
            left[at_left] = x.x;
            left[at_left + 1u] = x.y;
            left[at_left + 2u] = x.z;
            left[at_left + 3u] = x.w;
            let r = select(across, along, TRANSPOSE_B == 1u);
            let y = half_of(b_quad(k + r.x, first_column + 4u * r.y) * right_scale);
            let at_right = r.x * STRIDE + 4u * r.y;
            right[at_right] = y.x;
            right[at_right + 1u] = y.y;
            right[at_right + 2u] = y.z;
            right[at_right + 3u] = y.w;
        }
        workgroupBarrier();
        for (var d = 0u; d < DEPTH; d += SIZE) {
            let a0 = coopLoad<Left>(&left[d * STRIDE + row], STRIDE);
            let a1 = coopLoad<Left>(&left[d * STRIDE + row + SIZE], STRIDE);
            let b0 = coopLoadT<Right>(&right[d * STRIDE + column], STRIDE);
            let b1 = coopLoadT<Right>(&right[d * STRIDE + column + SIZE], STRIDE);
            c00 = coopMultiplyAdd(a0, b0, c00);
            c01 = coopMultiplyAdd(a0, b1, c01);
            c10 = coopMultiplyAdd(a1, b0, c10);
            c11 = coopMultiplyAdd(a1, b1, c11);
        }
        workgroupBarrier();
    }
    let lane = local % SUBGROUP;
    let place = subgroup * SIZE * SIZE;
    coopStoreT(c00, &sums[place], SIZE);
    workgroupBarrier();
    leave(subgroup, lane, first_row + row, first_column + column, scale.y);
    workgroupBarrier();
    coopStoreT(c01, &sums[place], SIZE);
    workgroupBarrier();
    leave(subgroup, lane, first_row + row, first_column + column + SIZE, scale.y);
    workgroupBarrier();
    coopStoreT(c10, &sums[place], SIZE);
    workgroupBarrier();
    leave(subgroup, lane, first_row + row + SIZE, first_column + column, scale.y);
    workgroupBarrier();
    coopStoreT(c11, &sums[place], SIZE);
    workgroupBarrier();
    leave(subgroup, lane, first_row + row + SIZE, first_column + column + SIZE, scale.y);
}
