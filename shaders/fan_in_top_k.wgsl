// Logits of a block of labels and the K best of each segment of it, in one pass: no logits are stored.
//
// An invocation owns one sample and one segment of labels; equal scores rank by the lower label. Labels on a sample's
// filter list never enter.
//!import linear
//!import fan_in
//!import narrow
//!import top_k_list

const WORKGROUP: u32 = 64u;

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

fn weight_at(base: u32, slot: u32) -> f32 {
    return stored(WEIGHTS, weights[base + slot / per_word(WEIGHTS)], slot);
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
        for (var row = segment * params.segment; row < end; row++) {
            let index_base = (row / params.group) * params.index_words;
            var z = bias[row];
            let weight_base = row * params.weight_words;
            // Whole words of indices first, each read once.
            let whole = params.fan_in - params.fan_in % INDICES_IN_WORD;
            for (var f = 0u; f < whole; f += INDICES_IN_WORD) {
                let word = indices[index_base + index_word(f)];
                z += weight_at(weight_base, f) * x[index_at_place(word, 0u, f) * params.columns + sample];
                z += weight_at(weight_base, f + 1u) * x[index_at_place(word, 1u, f + 1u) * params.columns + sample];
                if INDICES_IN_WORD == 4u {
                    z += weight_at(weight_base, f + 2u) * x[index_at_place(word, 2u, f + 2u) * params.columns + sample];
                    z += weight_at(weight_base, f + 3u) * x[index_at_place(word, 3u, f + 3u) * params.columns + sample];
                }
            }
            for (var f = whole; f < params.fan_in; f++) {
                let index = index_in(indices[index_base + index_word(f)], f);
                z += weight_at(weight_base, f) * x[index * params.columns + sample];
            }
            offer(sample, params.first_label + row, z);
        }
    }
    for (var i = 0u; i < K; i++) {
        scores[lane * K + i] = best_scores[i];
        labels[lane * K + i] = best_labels[i];
    }
}
