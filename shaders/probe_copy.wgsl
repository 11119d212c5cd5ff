// Copies a buffer: how fast memory is on this adapter.
//
// An invocation owns four words.
//!import linear

const WORKGROUP: u32 = 64u;

struct Params {
    quads: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> target_words: array<vec4<u32>>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.quads {
        return;
    }
    target_words[lane] = source[lane];
}
