// The features' gradient, with fetches of 32 bits.
//!import fan_in_feature_gradient

@group(0) @binding(0) var<storage, read> dlogits: array<vec4<f32>>; // [rows, columns]

fn sent(row: u32, quad: u32) -> vec4<f32> {
    return dlogits[row * (params.columns / 4u) + quad];
}
