// Gradient of a block's biases, g[l] = sum_b dlogits[l,b], and one optimizer step of them (without weight decay).
//
// An invocation owns one label.
//!import linear
//!import optimizer

const WORKGROUP: u32 = 64u;

struct Params {
    @size(48) rates: Rates, // uniform buffers want what follows a struct at a multiple of 16
    rows: u32,    // labels of this block
    columns: u32, // batch rounded up to 16
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> dlogits: array<vec4<f32>>; // [rows, columns]
@group(0) @binding(1) var<storage, read_write> bias: array<f32>;    // [rows]
@group(0) @binding(2) var<storage, read_write> first: array<f32>;   // [rows], if the optimizer has it
@group(0) @binding(3) var<storage, read_write> second: array<f32>;  // [rows], if the optimizer has it

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = lane_of(workgroup, grid, WORKGROUP, local);
    if row >= params.rows {
        return;
    }
    let quads = params.columns / 4u;
    var sum = vec4<f32>(0.0);
    for (var quad = 0u; quad < quads; quad++) {
        sum += dlogits[row * quads + quad];
    }
    var m = 0.0;
    var v = 0.0;
    if OPTIMIZER >= 1u { m = first[row]; }
    if OPTIMIZER >= 2u { v = second[row]; }
    let after = optimizer_step(params.rates, bias[row], dot(sum, vec4<f32>(1.0)), m, v);
    bias[row] = after.x;
    if OPTIMIZER >= 1u { first[row] = after.y; }
    if OPTIMIZER >= 2u { second[row] = after.z; }
}
