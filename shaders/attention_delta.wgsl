// What the gradient of a softmax is centred by: for each token and head the inner product of the attention's output
// with its gradient. It is the sum of P * dP over the keys, also with dropout.
//
//   delta[t,h] = sum over the head of dout * out
//
// An invocation owns a (token, head).
//!import linear

const WORKGROUP: u32 = 64u;

struct Params {
    rows: u32, // T * heads
    head_size: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> out: array<f32>;         // [T, H]
@group(0) @binding(1) var<storage, read> dout: array<f32>;        // [T, H]
@group(0) @binding(2) var<storage, read_write> delta: array<f32>; // [T, heads]

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
    var sum = 0.0;
    for (var at = row * params.head_size; at < (row + 1u) * params.head_size; at++) {
        sum += dout[at] * out[at];
    }
    delta[row] = sum;
}
