// How fast features are gathered, with fetches of 64 bits.
//!import probe_gather
//!import pairs

@group(0) @binding(0) var<storage, read> x: array<vec2<u64>>; // [D, columns]

fn seen(row: u32, quad: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(words_of(x[row * params.quads + quad]));
}
