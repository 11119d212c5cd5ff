// Inverted index of a block, second of four: within each feature, where each chunk's entries begin; and how many
// entries the feature has.
//
// An invocation owns one feature.
//!import linear

const WORKGROUP: u32 = 64u;

struct Params {
    features: u32,
    chunks: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read_write> table: array<u32>;   // [D, chunks]
@group(0) @binding(1) var<storage, read_write> offsets: array<u32>; // [D + 1]: entries of each feature

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let feature = lane_of(workgroup, grid, WORKGROUP, local);
    if feature >= params.features {
        return;
    }
    var sum = 0u;
    for (var chunk = 0u; chunk < params.chunks; chunk++) {
        let count = table[feature * params.chunks + chunk];
        table[feature * params.chunks + chunk] = sum;
        sum += count;
    }
    offsets[feature] = sum;
}
