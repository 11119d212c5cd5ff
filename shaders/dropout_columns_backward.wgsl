// The way back through dropout_columns: dfeatures[b,d] = dx[d,b] * keep(b,d) / (1 - p), with the same mask.
//
// An invocation owns one element of the features.
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

@group(0) @binding(0) var<storage, read> dx: array<f32>;              // [D, columns]
@group(0) @binding(1) var<storage, read_write> dfeatures: array<f32>; // [B, D]

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let element = lane_of(workgroup, grid, WORKGROUP, local);
    if element >= params.batch * params.features {
        return;
    }
    let b = element / params.features;
    let d = element - b * params.features;
    dfeatures[element] = dropped_element(params.dropout, dx[d * params.columns + b], element);
}
