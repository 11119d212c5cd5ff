// The way back through an activation, and its output once more: a backward pass that can have it again need not keep
// it.
//
//   dx = dout * act'(x),   activated = act(x)
//
// An invocation owns one element.
//!import linear
//!import activation

const WORKGROUP: u32 = 64u;

struct Params {
    count: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> dout: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(0) @binding(3) var<storage, read_write> activated: array<f32>;

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
    let both = activate_both(x[lane]);
    dx[lane] = dout[lane] * both.y;
    activated[lane] = both.x;
}
