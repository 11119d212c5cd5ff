// How fast features are gathered from a texture.
//!import probe_gather

@group(0) @binding(0) var x: texture_storage_2d<rgba32float, read>; // [D, columns]

fn seen(row: u32, quad: u32) -> vec4<f32> {
    return textureLoad(x, vec2<u32>(quad, row));
}
