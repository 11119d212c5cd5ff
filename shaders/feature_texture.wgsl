// Features in a texture, for kernels that fetch many: software Vulkan fetches from textures without going from lane to lane.
//
// An invocation owns four samples of a feature.
//!import linear

const WORKGROUP: u32 = 64u;

struct Params {
    features: u32,
    quads: u32, // columns / 4
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;             // [D, columns]
@group(0) @binding(1) var copy: texture_storage_2d<rgba32float, write>; // [D, columns], four columns a texel

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.features * params.quads {
        return;
    }
    textureStore(copy, vec2<u32>(lane % params.quads, lane / params.quads), x[lane]);
}
