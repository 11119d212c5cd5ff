// How fast features are gathered, with fetches of 32 bits.
//!import probe_gather

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [D, columns]

fn seen(row: u32, quad: u32) -> vec4<f32> {
    return x[row * params.quads + quad];
}
