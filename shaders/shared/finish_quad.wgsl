// A run of four columns of a row.
fn finish_quad(row: u32, column: u32, values: vec4<f32>) {
    finish(row, column, values.x);
    finish(row, column + 1u, values.y);
    finish(row, column + 2u, values.z);
    finish(row, column + 3u, values.w);
}
