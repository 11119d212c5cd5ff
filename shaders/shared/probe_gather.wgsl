// Fetches rows of features at random indices, 16 samples at a time, as the classifier does: how fast this adapter
// gathers what lies in its caches.
//
// An invocation owns the sums of 16 samples, as in fan_in_dlogits. Who imports this has `x`, [D, columns], and `seen`,
// which fetches four samples of it.
//!import linear

const WORKGROUP: u32 = 64u;

struct Params {
    lanes: u32,
    rounds: u32,
    features: u32,
    quads: u32, // columns / 4, a multiple of 4
}
var<immediate> params: Params;

@group(0) @binding(1) var<storage, read_write> sums: array<vec4<f32>>; // [lanes, 4]

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.lanes {
        return;
    }
    var s0 = vec4<f32>(0.0);
    var s1 = s0;
    var s2 = s0;
    var s3 = s0;
    var state = lane * 2654435761u;
    for (var round = 0u; round < params.rounds; round++) {
        state = state * 1664525u + 1013904223u;
        // A division would take as long as the fetches. Features are at most 65,536, so the product holds.
        let row = (((state >> 16u) * params.features) >> 16u);
        for (var tile = 0u; tile < params.quads; tile += 4u) {
            s0 += seen(row, tile);
            s1 += seen(row, tile + 1u);
            s2 += seen(row, tile + 2u);
            s3 += seen(row, tile + 3u);
        }
    }
    sums[4u * lane] = s0;
    sums[4u * lane + 1u] = s1;
    sums[4u * lane + 2u] = s2;
    sums[4u * lane + 3u] = s3;
}
