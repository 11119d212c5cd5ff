// A tensor times a number that a kernel computed: x[e] *= factor[0].
//
// An invocation owns one element.
//!import linear

const WORKGROUP: u32 = 64u;

struct Params {
    count: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> factor: array<f32>;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    let by = factor[0];
    // Most steps clip nothing, and then nothing need be fetched.
    if lane >= params.count || by == 1.0 {
        return;
    }
    x[lane] *= by;
}
