// How fast features are gathered from a uniform buffer.
//!import probe_gather
//!import pairs

@group(0) @binding(0) var<uniform> x: array<vec2<u64>, 4096>; // [1024, 16]

fn seen(at: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(words_of(x[at]));
}
