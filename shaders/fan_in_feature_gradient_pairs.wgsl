// The features' gradient, with fetches of 64 bits: software Vulkan goes from lane to lane for each fetch, however wide.
//!import fan_in_feature_gradient
//!import pairs

@group(0) @binding(0) var<storage, read> dlogits: array<vec2<u64>>; // [rows, columns]

fn sent(row: u32, quad: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(words_of(dlogits[row * (params.columns / 4u) + quad]));
}
