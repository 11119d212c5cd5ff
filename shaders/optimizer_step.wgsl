// One optimizer step of a dense tensor.
//
// An invocation owns one parameter.
//!import linear
//!import optimizer

const WORKGROUP: u32 = 64u;

struct Params {
    @size(48) rates: Rates, // uniform buffers want what follows a struct at a multiple of 16
    count: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> gradient: array<f32>;
@group(0) @binding(1) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(2) var<storage, read_write> first: array<f32>;  // if the optimizer has it
@group(0) @binding(3) var<storage, read_write> second: array<f32>; // if the optimizer has it

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
    var m = 0.0;
    var v = 0.0;
    if OPTIMIZER >= 1u { m = first[lane]; }
    if OPTIMIZER >= 2u { v = second[lane]; }
    let after = optimizer_step(params.rates, parameters[lane], gradient[lane], m, v);
    parameters[lane] = after.x;
    if OPTIMIZER >= 1u { first[lane] = after.y; }
    if OPTIMIZER >= 2u { second[lane] = after.z; }
}
