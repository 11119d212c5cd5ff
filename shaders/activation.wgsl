// An activation, or the way back through it.
//
// An invocation owns one element.
//!import linear
//!import activation

// 0: out = act(x); 1: out = other * act'(x)
const BACKWARD: u32 = 0u;
const WORKGROUP: u32 = 64u;

struct Params {
    count: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> other: array<f32>; // gradient of the output, if BACKWARD
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.count {
        return;
    }
    if BACKWARD == 0u {
        out[lane] = activate(x[lane]);
    } else {
        out[lane] = other[lane] * activate_gradient(x[lane]);
    }
}
