// Merges the best lists of a block's segments into the list of each sample.
//
// An invocation owns one sample; segments come in the order of their labels, so equal scores rank by lower label.
//!import linear

const K: u32 = 5u;
const WORKGROUP: u32 = 64u;

struct Params {
    columns: u32,  // batch rounded up to 16
    segments: u32,
    fresh: u32,    // 1: the first block; what the lists hold is nothing yet
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> scores: array<f32>;            // [segments, columns, K], best first
@group(0) @binding(1) var<storage, read> labels: array<u32>;            // [segments, columns, K]
@group(0) @binding(2) var<storage, read_write> best_scores: array<f32>; // [columns, K]
@group(0) @binding(3) var<storage, read_write> best_labels: array<u32>; // [columns, K]

const NOTHING: u32 = 0xffffffffu;
const LOWEST: f32 = -3.4028234e38;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let sample = lane_of(workgroup, grid, WORKGROUP, local);
    if sample >= params.columns {
        return;
    }
    let mine = sample * K;
    if params.fresh == 1u {
        for (var i = 0u; i < K; i++) {
            best_scores[mine + i] = LOWEST;
            best_labels[mine + i] = NOTHING;
        }
    }
    for (var segment = 0u; segment < params.segments; segment++) {
        let theirs = (segment * params.columns + sample) * K;
        for (var i = 0u; i < K; i++) {
            let z = scores[theirs + i];
            // Best first: once one does not enter, none after it does.
            if z <= best_scores[mine + K - 1u] {
                break;
            }
            var place = K - 1u;
            while place > 0u {
                if best_scores[mine + place - 1u] >= z {
                    break;
                }
                best_scores[mine + place] = best_scores[mine + place - 1u];
                best_labels[mine + place] = best_labels[mine + place - 1u];
                place--;
            }
            best_scores[mine + place] = z;
            best_labels[mine + place] = labels[theirs + i];
        }
    }
}
