// One optimizer step of a dense tensor.
//
// An invocation owns SPAN consecutive parameters: those whose states share a word.
//!import linear
//!import stored_step

const WORKGROUP: u32 = 64u;

struct Params {
    @size(48) rates: Rates, // uniform buffers want what follows a struct at a multiple of 16
    count: u32,
    seed_low: u32,          // of the roundings
    seed_high: u32,
    step: u32,
    stream: u32,            // of the first states; that of the second follows
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> gradient: array<f32>;
@group(0) @binding(1) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(2) var<storage, read_write> first: array<u32>;  // if the optimizer has it
@group(0) @binding(3) var<storage, read_write> second: array<u32>; // if the optimizer has it

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let begin = lane_of(workgroup, grid, WORKGROUP, local) * SPAN;
    for (var number = begin; number < min(begin + SPAN, params.count); number++) {
        parameters[number] = step_of(number, parameters[number], gradient[number]);
    }
}
