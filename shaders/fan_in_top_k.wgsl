// Logits of a block of labels and the K best of each segment of it, in one pass: no logits are stored.
//
// An invocation owns one sample and one segment of labels; equal scores rank by the lower label. Labels on a sample's
// filter list never enter. Of labels that share the features of their connections up to TILE go together, so that what is
// fetched of a feature serves all of them.
//!import linear
//!import fan_in
//!import narrow
//!import top_k_list

const WORKGROUP: u32 = 64u;
// Labels that go together
const TILE: u32 = 1u;

struct Params {
    rows: u32,        // labels of this block
    first_label: u32, // number of the block's first label
    fan_in: u32,
    index_words: u32, // words in a row of indices
    weight_words: u32, // words in a row of weights
    group: u32,       // labels that share a row of indices
    batch: u32,
    columns: u32,     // batch rounded up to 16
    segment: u32,     // labels in a segment
    segments: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;              // [D, columns]
@group(0) @binding(1) var<storage, read> weights: array<u32>;        // [rows, weight_words]
@group(0) @binding(2) var<storage, read> indices: array<u32>;        // [rows / group, index_words]
@group(0) @binding(3) var<storage, read> bias: array<f32>;           // [rows]
@group(0) @binding(4) var<storage, read> filter_offsets: array<u32>; // [B + 1]
@group(0) @binding(5) var<storage, read> filter_labels: array<u32>;
@group(0) @binding(6) var<storage, read_write> scores: array<f32>;   // [segments, columns, K], best first
@group(0) @binding(7) var<storage, read_write> labels: array<u32>;   // [segments, columns, K]

var<private> z: array<f32, TILE>;
// Where the weights of a tile's labels begin.
var<private> weight_base: array<u32, TILE>;

fn weight_of(i: u32, slot: u32) -> f32 {
    return stored(WEIGHTS, weights[weight_base[i] + slot / per_word(WEIGHTS)], slot);
}

// Adds what the features of a whole word of indices mean to the tile's labels.
fn add_word(word: u32, f: u32, sample: u32) {
    let x0 = x[index_at_place(word, 0u, f) * params.columns + sample];
    let x1 = x[index_at_place(word, 1u, f + 1u) * params.columns + sample];
    var x2 = 0.0;
    var x3 = 0.0;
    if INDICES_IN_WORD == 4u {
        x2 = x[index_at_place(word, 2u, f + 2u) * params.columns + sample];
        x3 = x[index_at_place(word, 3u, f + 3u) * params.columns + sample];
    }
    for (var i = 0u; i < TILE; i++) {
        var sum = z[i];
        sum += weight_of(i, f) * x0;
        sum += weight_of(i, f + 1u) * x1;
        if INDICES_IN_WORD == 4u {
            sum += weight_of(i, f + 2u) * x2;
            sum += weight_of(i, f + 3u) * x3;
        }
        z[i] = sum;
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.segments * params.columns {
        return;
    }
    let segment = lane / params.columns;
    let sample = lane - segment * params.columns;
    begin_list();
    if sample < params.batch {
        let end = min((segment + 1u) * params.segment, params.rows);
        // Whole words of indices first, each read once.
        let whole = params.fan_in - params.fan_in % INDICES_IN_WORD;
        var next = 0u;
        for (var row = segment * params.segment; row < end; row = next) {
            let index_row = row / params.group;
            next = min(min(row + TILE, end), (index_row + 1u) * params.group);
            for (var i = 0u; i < TILE; i++) {
                // Beyond the tile's end its last label stands in, for nobody.
                let label = min(row + i, next - 1u);
                z[i] = bias[label];
                weight_base[i] = label * params.weight_words;
            }
            let index_base = index_row * params.index_words;
            for (var f = 0u; f < whole; f += INDICES_IN_WORD) {
                add_word(indices[index_base + index_word(f)], f, sample);
            }
            for (var f = whole; f < params.fan_in; f++) {
                let seen = x[index_in(indices[index_base + index_word(f)], f) * params.columns + sample];
                for (var i = 0u; i < TILE; i++) { z[i] += weight_of(i, f) * seen; }
            }
            // By labels, so that the code of an offer is there once: a driver unrolls loops over constants.
            for (var label = row; label < next; label++) {
                var score = 0.0;
                for (var i = 0u; i < TILE; i++) { score = select(score, z[i], row + i == label); }
                offer(sample, params.first_label + label, score);
            }
        }
    }
    for (var i = 0u; i < K; i++) {
        scores[lane * K + i] = best_scores[i];
        labels[lane * K + i] = best_labels[i];
    }
}
