// Logits of a block of labels and the K best of each segment of it, in one pass: no logits are stored. A thread owns one
// sample and one segment of labels; equal scores rank by the lower label. Labels on a sample's filter list never enter.

struct TopKParams {
    u32 rows, first_label, fan_in, index_words, weight_words, group, batch, columns, segment, segments;
};

KERNEL fan_in_top_k(
    TopKParams p, u32 k, u32 storage, u32 stratified_features, u32 strata, const float* __restrict__ x, const u32* __restrict__ weights,
    const u32* __restrict__ indices, const float* __restrict__ bias, const u32* __restrict__ filter_offsets,
    const u32* __restrict__ filter_labels, float* __restrict__ scores, u32* __restrict__ labels
) {
    IndexRows index_rows = {stratified_features, strata};
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
        const u32* weight_row = weights + row * p.weight_words;
        const u32* index_row = indices + row / p.group * p.index_words;
        float z = bias[row];
#pragma unroll 4
        for (u32 f = 0; f < p.fan_in; f++) {
            float w = stored(storage, weight_row[f / per_word(storage)], f);
            z += w * x[index_rows.at(index_row, f) * p.columns + sample];
        }
        if (z > bar && !is_filtered(filter_offsets, filter_labels, sample, p.first_label + row)) {
            enter(best_scores, best_labels, k, z, p.first_label + row);
            bar = best_scores[k - 1];
        }
    }
}
