// Features in tiles of sixteen samples, each a uniform buffer of 1,024 rows, for kernels that fetch many.
//
// An invocation owns four samples of a feature.
//!import linear

const WORKGROUP: u32 = 64u;

struct Params {
    features: u32,
    quads: u32, // columns / 4
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;           // [D, columns]
@group(0) @binding(1) var<storage, read_write> tiles: array<vec4<f32>>; // [columns / 16, 1024, 16]

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
    let feature = lane / params.quads;
    let quad = lane % params.quads;
    tiles[(quad / 4u) * 4096u + feature * 4u + quad % 4u] = x[lane];
}
