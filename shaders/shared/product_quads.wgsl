// Four elements across the depth, zero beyond the edges.

// Rows row .. row + 3 of a at depth k; row is a multiple of 4.
fn a_quad(row: u32, k: u32) -> vec4<f32> {
    var quad = vec4<f32>(0.0);
    if k >= params.k || row >= params.m {
        return quad;
    }
    if TRANSPOSE_A == 1u && VECTORS == 1u {
        return a[(k * params.m + row) / 4u];
    }
    quad.x = a_at(row, k);
    if row + 1u < params.m {
        quad.y = a_at(row + 1u, k);
    }
    if row + 2u < params.m {
        quad.z = a_at(row + 2u, k);
    }
    if row + 3u < params.m {
        quad.w = a_at(row + 3u, k);
    }
    return quad;
}

// Columns column .. column + 3 of b at depth k; column is a multiple of 4.
fn b_quad(k: u32, column: u32) -> vec4<f32> {
    var quad = vec4<f32>(0.0);
    if k >= params.k || column >= params.n {
        return quad;
    }
    if TRANSPOSE_B == 0u && VECTORS == 1u {
        return b[(k * params.n + column) / 4u];
    }
    quad.x = b_at(k, column);
    if column + 1u < params.n {
        quad.y = b_at(k, column + 1u);
    }
    if column + 2u < params.n {
        quad.z = b_at(k, column + 2u);
    }
    if column + 3u < params.n {
        quad.w = b_at(k, column + 3u);
    }
    return quad;
}
