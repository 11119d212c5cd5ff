// Gradient of a block's weights, used at once: no gradient of the layer is ever stored.
//
//   g[l,f] = sum_b dlogits[l,b] * x[b, indices[l / group, f]], then one optimizer step of weights[l,f]
//
// An invocation owns one connection.
//!import linear
//!import fan_in
//!import optimizer

const WORKGROUP: u32 = 64u;

struct Params {
    @size(48) rates: Rates, // uniform buffers want what follows a struct at a multiple of 16
    rows: u32,        // labels of this block
    fan_in: u32,
    index_words: u32, // words in a row of indices
    group: u32,       // labels that share a row of indices
    columns: u32,     // batch rounded up to 16
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;         // [D, columns]
@group(0) @binding(1) var<storage, read> dlogits: array<vec4<f32>>;   // [rows, columns]
@group(0) @binding(2) var<storage, read> indices: array<u32>;         // [rows / group, index_words]
@group(0) @binding(3) var<storage, read_write> weights: array<f32>;   // [rows, F]
@group(0) @binding(4) var<storage, read_write> first: array<f32>;     // [rows, F], if the optimizer has it
@group(0) @binding(5) var<storage, read_write> second: array<f32>;    // [rows, F], if the optimizer has it

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let connection = lane_of(workgroup, grid, WORKGROUP, local);
    if connection >= params.rows * params.fan_in {
        return;
    }
    let row = connection / params.fan_in;
    let slot = connection - row * params.fan_in;
    let word = indices[(row / params.group) * params.index_words + slot / 2u];
    let quads = params.columns / 4u;
    let feature = index_in(word, slot) * quads;
    var sum = vec4<f32>(0.0);
    for (var quad = 0u; quad < quads; quad++) {
        sum += dlogits[row * quads + quad] * x[feature + quad];
    }
    let gradient = dot(sum, vec4<f32>(1.0));
    var m = 0.0;
    var v = 0.0;
    if OPTIMIZER >= 1u { m = first[connection]; }
    if OPTIMIZER >= 2u { v = second[connection]; }
    let after = optimizer_step(params.rates, weights[connection], gradient, m, v);
    weights[connection] = after.x;
    if OPTIMIZER >= 1u { first[connection] = after.y; }
    if OPTIMIZER >= 2u { second[connection] = after.z; }
}
