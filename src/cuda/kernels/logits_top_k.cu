// The K best of each segment of a block of labels, from the logits that a matrix product gave. A thread owns one sample and
// one segment of labels; equal scores rank by the lower label. Labels on a sample's filter list never enter.

struct LogitsTopKParams {
    u32 rows, first_label, batch, columns, segment, segments;
};

KERNEL logits_top_k(
    LogitsTopKParams p, u32 k, const float* __restrict__ logits, const float* __restrict__ bias,
    const u32* __restrict__ filter_offsets, const u32* __restrict__ filter_labels, float* __restrict__ scores,
    u32* __restrict__ labels
) {
    u32 lane = lane_of();
    if (lane >= p.segments * p.columns) {
        return;
    }
    u32 segment = lane / p.columns;
    u32 sample = lane - segment * p.columns;
    float* best_scores = scores + (u64)lane * k;
    u32* best_labels = labels + (u64)lane * k;
    begin_list(best_scores, best_labels, k);
    if (sample >= p.batch) {
        return;
    }
    float bar = LOWEST;
    u32 end = smaller((segment + 1) * p.segment, p.rows);
    for (u32 row = segment * p.segment; row < end; row++) {
        float z = logits[row * p.columns + sample] + bias[row];
        if (z > bar && !is_filtered(filter_offsets, filter_labels, sample, p.first_label + row)) {
            enter(best_scores, best_labels, k, z, p.first_label + row);
            bar = best_scores[k - 1];
        }
    }
}
