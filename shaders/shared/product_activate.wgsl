// What becomes of an element of the product: the bias is added, and its activation is stored beside it.
//!import activation

@group(0) @binding(4) var<storage, read_write> activated: array<f32>;

fn finish(row: u32, column: u32, value: f32) {
    if row < params.m && column < params.n {
        let at = row * params.n + column;
        let out = value + bias[column];
        c[at] = out;
        activated[at] = activate(out);
    }
}
