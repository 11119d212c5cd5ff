// Dropout of a tensor as it lies: y[e] = x[e] / (1 - p), or 0; e is the element's number.
//
// An invocation owns the four elements of a counter.
//!import linear
//!import dropout

const WORKGROUP: u32 = 64u;

struct Params {
    @size(32) dropout: Dropout, // uniform buffers want what follows a struct at a multiple of 16
    count: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let quad = lane_of(workgroup, grid, WORKGROUP, local);
    if quad * 4u >= params.count {
        return;
    }
    var words = vec4<u32>(0xffffffffu);
    if params.dropout.drop_below > 0u {
        words = dropout_words(params.dropout, quad);
    }
    for (var i = 0u; i < 4u; i++) {
        let element = quad * 4u + i;
        if element < params.count {
            y[element] = dropped(params.dropout, x[element], words[i]);
        }
    }
}
