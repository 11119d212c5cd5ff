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
    var kept_scores: array<f32, K>;
    var kept_labels: array<u32, K>;
    for (var i = 0u; i < K; i++) {
        kept_scores[i] = LOWEST;
        kept_labels[i] = NOTHING;
        if params.fresh == 0u {
            kept_scores[i] = best_scores[mine + i];
            kept_labels[i] = best_labels[mine + i];
        }
    }
    for (var segment = 0u; segment < params.segments; segment++) {
        let theirs = (segment * params.columns + sample) * K;
        // Best first: once one does not enter, none after it does.
        if scores[theirs] <= kept_scores[K - 1u] {
            continue;
        }
        // How many of the kept stay: the K best of two sorted lists are a front of each.
        var stay = 0u;
        var enter = 0u;
        while stay + enter < K {
            if kept_scores[stay] >= scores[theirs + enter] { stay++; } else { enter++; }
        }
        // From the back, so that nothing is overwritten that is still to be moved.
        for (var place = K; place > 0u; place--) {
            var from_kept = enter == 0u;
            if stay > 0u && enter > 0u {
                // Of equals the kept one comes first, so the other goes behind it.
                from_kept = kept_scores[stay - 1u] < scores[theirs + enter - 1u];
            }
            if from_kept {
                stay--;
                kept_scores[place - 1u] = kept_scores[stay];
                kept_labels[place - 1u] = kept_labels[stay];
            } else {
                enter--;
                kept_scores[place - 1u] = scores[theirs + enter];
                kept_labels[place - 1u] = labels[theirs + enter];
            }
        }
    }
    for (var i = 0u; i < K; i++) {
        best_scores[mine + i] = kept_scores[i];
        best_labels[mine + i] = kept_labels[i];
    }
}
