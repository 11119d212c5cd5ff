// Gradient of the loss with respect to the features, from one block of labels with stratified rows: what slot f sends back
// goes into stratum f alone, so every number has one owner and there is neither an inverted index nor an atomic.
//
//   partial[r,d,b] = sum over the labels l of run r with indices[l / group, f] = d: dlogits[l,b] * weights[l,f]
//
// where f is the slot in whose stratum d lies. column_sum adds the runs in order.
//
// An invocation owns four samples of a piece of a stratum for one run of labels. Its accumulators lie where it is alone with
// them and an index can choose: in workgroup memory, or for wide strata, which would be walked in too many pieces, in
// `partial` itself.
//!import linear
//!import fan_in
//!import narrow

const WORKGROUP: u32 = 64u;
// most features of a piece whose accumulators lie in workgroup memory; 0: they lie in `partial`
const ROOM: u32 = 16u;

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
    piece: u32,        // features in a piece
    pieces: u32,       // of a stratum
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> dlogits: array<vec4<f32>>;       // [rows, columns]
@group(0) @binding(1) var<storage, read> weights: array<u32>;             // [rows, weight_words]
@group(0) @binding(2) var<storage, read> indices: array<u32>;             // [rows / group, index_words]
@group(0) @binding(3) var<storage, read_write> partial: array<vec4<f32>>; // [runs, D, columns]

const SUMS: u32 = max(ROOM, 1u) * WORKGROUP;
var<workgroup> sums: array<vec4<f32>, SUMS>;

fn kept_sum(at: u32) -> vec4<f32> {
    if ROOM > 0u { return sums[at]; }
    return partial[at];
}

fn keep_sum(at: u32, sum: vec4<f32>) {
    if ROOM > 0u { sums[at] = sum; } else { partial[at] = sum; }
}

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

    let first = stratum_start(slot) + piece * params.piece;
    let end = min(first + params.piece, stratum_start(slot + 1u));
    let width = select(0u, end - first, first < end);
    // Where the accumulators begin, and how far they lie apart.
    let out = (run * params.features + first) * quads + quad;
    let base = select(out, local, ROOM > 0u);
    let stride = select(quads, WORKGROUP, ROOM > 0u);
    for (var i = 0u; i < width; i++) {
        keep_sum(base + i * stride, vec4<f32>(0.0));
    }
    let end_row = min((run + 1u) * params.run, params.rows);
    var row = run * params.run;
    var index_at = row / params.group * params.index_words + index_word(slot);
    while row < end_row {
        let end_of_group = min(row + params.group, end_row);
        let place = index_in(indices[index_at], slot) - first;
        if place < width {
            let at = base + place * stride;
            var sum = kept_sum(at);
            for (; row < end_of_group; row++) {
                let word = weights[row * params.weight_words + slot / per_word(WEIGHTS)];
                sum += stored(WEIGHTS, word, slot) * dlogits[row * quads + quad];
            }
            keep_sum(at, sum);
        }
        row = end_of_group;
        index_at += params.index_words;
    }
    if ROOM > 0u {
        for (var i = 0u; i < width; i++) {
            partial[out + i * quads] = sums[base + i * stride];
        }
    }
}
