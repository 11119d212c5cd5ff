// The K best of each segment of a block of labels, from the logits that a matrix product gave.
//
// An invocation owns one sample and one segment of labels; equal scores rank by the lower label. Labels on a sample's
// filter list never enter.
//!import linear
//!import top_k_list

const WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,        // labels of this block
    first_label: u32, // number of the block's first label
    batch: u32,
    columns: u32,     // batch rounded up to 16
    segment: u32,     // labels in a segment
    segments: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> logits: array<f32>;         // [rows, columns], without bias
@group(0) @binding(1) var<storage, read> bias: array<f32>;           // [rows]
@group(0) @binding(2) var<storage, read> filter_offsets: array<u32>; // [B + 1]
@group(0) @binding(3) var<storage, read> filter_labels: array<u32>;
@group(0) @binding(4) var<storage, read_write> scores: array<f32>;   // [segments, columns, K], best first
@group(0) @binding(5) var<storage, read_write> labels: array<u32>;   // [segments, columns, K]

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
            offer(sample, params.first_label + row, logits[row * params.columns + sample] + bias[row]);
        }
    }
    for (var i = 0u; i < K; i++) {
        scores[lane * K + i] = best_scores[i];
        labels[lane * K + i] = best_labels[i];
    }
}
