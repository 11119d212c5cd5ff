// The features' gradient, with logit gradients in a texture: software Vulkan fetches from those without going from lane to lane.
//!import fan_in_feature_gradient

@group(0) @binding(0) var dlogits: texture_storage_2d<rgba32float, read>; // [rows, columns]

fn sent(row: u32, quad: u32) -> vec4<f32> {
    return textureLoad(dlogits, vec2<u32>(quad, row));
}
