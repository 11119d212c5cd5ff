// Dropout of the features, which are transposed on the way: the classifier wants the samples last.
//
//   x[d,b] = features[b,d] * keep(b,d) / (1 - p),   0 in the columns beyond the batch
//
// The element's number is b * D + d. An invocation owns one element of x.
//!import linear
//!import dropout

const WORKGROUP: u32 = 64u;

struct Params {
    @size(32) dropout: Dropout, // uniform buffers want what follows a struct at a multiple of 16
    batch: u32,
    features: u32,
    columns: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> features: array<f32>; // [B, D]
@group(0) @binding(1) var<storage, read_write> x: array<f32>;  // [D, columns]

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.features * params.columns {
        return;
    }
    let d = lane / params.columns;
    let b = lane - d * params.columns;
    var value = 0.0;
    if b < params.batch {
        let element = b * params.features + d;
        value = dropped_element(params.dropout, features[element], element);
    }
    x[lane] = value;
}
