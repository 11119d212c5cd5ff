// Gradient of the loss with respect to the features, from one block of labels, without atomics: each feature walks
// the list of its connections (the block's inverted index, rebuilt at rewiring) in a fixed order.
//
//   dx[d,b] += sum over (row, f) with indices[row, f] = d, over the labels l of the row: dlogits[l,b] * weights[l,f]
//
// An invocation owns four samples of one feature.
//!import linear
//!import narrow

const WORKGROUP: u32 = 64u;

struct Params {
    features: u32,
    rows: u32,      // labels of this block
    fan_in: u32,
    weight_words: u32, // words in a row of weights
    group: u32,     // labels that share a row of indices
    columns: u32,   // batch rounded up to 16
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> dlogits: array<vec4<f32>>;  // [rows, columns]
@group(0) @binding(1) var<storage, read> weights: array<u32>;        // [rows, weight_words]
@group(0) @binding(2) var<storage, read> offsets: array<u32>;        // [D + 1]
@group(0) @binding(3) var<storage, read> connections: array<u32>;    // [rows / group * F], row * F + f, by feature
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<f32>>; // [D, columns]

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    let quads = params.columns / 4u;
    if lane >= params.features * quads {
        return;
    }
    let feature = lane / quads;
    let quad = lane % quads;
    var sum = dx[lane];
    for (var i = offsets[feature]; i < offsets[feature + 1u]; i++) {
        let connection = connections[i];
        let index_row = connection / params.fan_in;
        let slot = connection - index_row * params.fan_in;
        let end = min((index_row + 1u) * params.group, params.rows);
        for (var row = index_row * params.group; row < end; row++) {
            let word = weights[row * params.weight_words + slot / per_word(WEIGHTS)];
            sum += stored(WEIGHTS, word, slot) * dlogits[row * quads + quad];
        }
    }
    dx[lane] = sum;
}
