// Gradient of the loss with respect to the features, from one block of labels with stratified rows: what slot f sends back
// goes into stratum f alone, so every number has one owner and there is neither an inverted index nor an atomic.
//
//   partial[r,d,b] = sum over the labels l of run r with indices[l / group, f] = d: dlogits[l,b] * weights[l,f]
//
// where f is the slot in whose stratum d lies. column_sum adds the runs in order.
//
// An invocation owns four samples of a piece of a stratum for one run of labels. Its accumulators lie in workgroup memory,
// where it is alone with them: registers cannot be chosen by an index.
//!import linear
//!import fan_in
//!import narrow

const WORKGROUP: u32 = 64u;
// most features of a piece
const PIECE: u32 = 16u;

struct Params {
    features: u32,
    rows: u32,         // labels of this block
    fan_in: u32,
    index_words: u32,  // words in a row of indices
    weight_words: u32, // words in a row of weights
    group: u32,        // labels that share a row of indices
    columns: u32,      // batch rounded up to 16
    run: u32,          // labels in a run, whole groups
    runs: u32,
    pieces: u32,       // of a stratum
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> dlogits: array<vec4<f32>>;       // [rows, columns]
@group(0) @binding(1) var<storage, read> weights: array<u32>;             // [rows, weight_words]
@group(0) @binding(2) var<storage, read> indices: array<u32>;             // [rows / group, index_words]
@group(0) @binding(3) var<storage, read_write> partial: array<vec4<f32>>; // [runs, D, columns]

const ROOM: u32 = PIECE * WORKGROUP;
var<workgroup> sums: array<vec4<f32>, ROOM>;

// Where the stratum of a slot begins; behind the last slot, the number of features.
fn stratum_start(slot: u32) -> u32 {
    if slot >= params.fan_in { return params.features; }
    return slot * params.features / params.fan_in;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    let quads = params.columns / 4u;
    if lane >= params.runs * params.pieces * params.fan_in * quads {
        return;
    }
    let quad = lane % quads;
    let slot = (lane / quads) % params.fan_in;
    let piece = (lane / quads / params.fan_in) % params.pieces;
    let run = lane / quads / params.fan_in / params.pieces;

    let first = stratum_start(slot) + piece * PIECE;
    let end = min(first + PIECE, stratum_start(slot + 1u));
    let width = select(0u, end - first, first < end);
    for (var i = 0u; i < width; i++) {
        sums[i * WORKGROUP + local] = vec4<f32>(0.0);
    }
    let end_row = min((run + 1u) * params.run, params.rows);
    var row = run * params.run;
    var index_at = row / params.group * params.index_words + index_word(slot);
    while row < end_row {
        let end_of_group = min(row + params.group, end_row);
        let place = index_in(indices[index_at], slot) - first;
        if place < width {
            let at = place * WORKGROUP + local;
            var sum = sums[at];
            for (; row < end_of_group; row++) {
                let word = weights[row * params.weight_words + slot / per_word(WEIGHTS)];
                sum += stored(WEIGHTS, word, slot) * dlogits[row * quads + quad];
            }
            sums[at] = sum;
        }
        row = end_of_group;
        index_at += params.index_words;
    }
    for (var i = 0u; i < width; i++) {
        partial[(run * params.features + first + i) * quads + quad] = sums[i * WORKGROUP + local];
    }
}
