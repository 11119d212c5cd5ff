// The floor: no workgroup memory, an invocation owns a tile of 4 x 4 in registers. Reads beyond the edge are moved
// inside, and what they gave is not stored.
//!import linear
//!import finish_quad

const WORKGROUP: u32 = 64u;

// Both operands lie in vectors along the depth, or b across it.
fn by_rows(row: u32, column: u32) -> mat4x4<f32> {
    let depth = params.k / 4u;
    var at = vec4<u32>(row, row + 1u, row + 2u, row + 3u);
    at = min(at, vec4<u32>(params.m - 1u)) * depth;
    var columns = vec4<u32>(column, column + 1u, column + 2u, column + 3u);
    columns = min(columns, vec4<u32>(params.n - 1u)) * depth;
    let across = params.n / 4u;
    var c0 = vec4<f32>(0.0);
    var c1 = vec4<f32>(0.0);
    var c2 = vec4<f32>(0.0);
    var c3 = vec4<f32>(0.0);
    for (var k = 0u; k < depth; k++) {
        var right: mat4x4<f32>;
        if TRANSPOSE_B == 1u {
            right = transpose(mat4x4<f32>(b[columns.x + k], b[columns.y + k], b[columns.z + k], b[columns.w + k]));
        } else {
            let i = 4u * k * across + column / 4u;
            right = mat4x4<f32>(b[i], b[i + across], b[i + 2u * across], b[i + 3u * across]);
        }
        c0 += right * a[at.x + k];
        c1 += right * a[at.y + k];
        c2 += right * a[at.z + k];
        c3 += right * a[at.w + k];
    }
    return mat4x4<f32>(c0, c1, c2, c3);
}

// Both operands lie in vectors across the depth.
fn by_depth(row: u32, column: u32) -> mat4x4<f32> {
    var c0 = vec4<f32>(0.0);
    var c1 = vec4<f32>(0.0);
    var c2 = vec4<f32>(0.0);
    var c3 = vec4<f32>(0.0);
    for (var k = 0u; k < params.k; k++) {
        let left = a[(k * params.m + row) / 4u];
        let right = b[(k * params.n + column) / 4u];
        c0 += left.x * right;
        c1 += left.y * right;
        c2 += left.z * right;
        c3 += left.w * right;
    }
    return mat4x4<f32>(c0, c1, c2, c3);
}

// Operands that lie anyhow.
fn by_elements(row: u32, column: u32) -> mat4x4<f32> {
    let rows = min(vec4<u32>(row, row + 1u, row + 2u, row + 3u), vec4<u32>(params.m - 1u));
    let columns = min(vec4<u32>(column, column + 1u, column + 2u, column + 3u), vec4<u32>(params.n - 1u));
    var c0 = vec4<f32>(0.0);
    var c1 = vec4<f32>(0.0);
    var c2 = vec4<f32>(0.0);
    var c3 = vec4<f32>(0.0);
    for (var k = 0u; k < params.k; k++) {
        let right = vec4<f32>(b_at(k, columns.x), b_at(k, columns.y), b_at(k, columns.z), b_at(k, columns.w));
        c0 += a_at(rows.x, k) * right;
        c1 += a_at(rows.y, k) * right;
        c2 += a_at(rows.z, k) * right;
        c3 += a_at(rows.w, k) * right;
    }
    return mat4x4<f32>(c0, c1, c2, c3);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = lane_of(workgroup, grid, WORKGROUP, local);
    let tiles_across = (params.n + 3u) / 4u;
    let row = (tile / tiles_across) * 4u;
    let column = (tile % tiles_across) * 4u;
    if row >= params.m {
        return;
    }
    var sums: mat4x4<f32>;
    if VECTORS == 0u {
        sums = by_elements(row, column);
    } else if TRANSPOSE_A == 1u {
        sums = by_depth(row, column);
    } else {
        sums = by_rows(row, column);
    }
    finish_quad(row, column, sums[0]);
    finish_quad(row + 1u, column, sums[1]);
    finish_quad(row + 2u, column, sums[2]);
    finish_quad(row + 3u, column, sums[3]);
}
