// Logits of a block of labels and the K best of each segment of it, in one pass: no logits are stored. A thread owns one
// sample and one segment of labels; equal scores rank by the lower label. Labels on a sample's filter list never enter.

struct TopKParams {
    u32 rows, first_label, fan_in, index_words, weight_words, group, batch, columns, segment, segments;
};

// No label: what is left of a list with fewer than K entries.
#define NOTHING 0xffffffffu
#define LOWEST (-3.4028234663852886e38f)

__device__ inline bool is_filtered(const u32* offsets, const u32* filter, u32 sample, u32 label) {
    bool found = false;
    for (u32 i = offsets[sample]; i < offsets[sample + 1]; i++) {
        found = found || filter[i] == label;
    }
    return found;
}

// Puts a label into its place of a list, best first; an equal score stays behind.
__device__ inline void enter(float* scores, u32* labels, u32 k, float score, u32 label) {
    u32 place = k - 1;
    while (place > 0 && !(scores[place - 1] >= score)) {
        scores[place] = scores[place - 1];
        labels[place] = labels[place - 1];
        place--;
    }
    scores[place] = score;
    labels[place] = label;
}

KERNEL fan_in_top_k(
    TopKParams p, u32 k, u32 storage, const float* __restrict__ x, const u32* __restrict__ weights,
    const u32* __restrict__ indices, const float* __restrict__ bias, const u32* __restrict__ filter_offsets,
    const u32* __restrict__ filter_labels, float* __restrict__ scores, u32* __restrict__ labels
) {
    u32 lane = lane_of();
    if (lane >= p.segments * p.columns) {
        return;
    }
    u32 segment = lane / p.columns;
    u32 sample = lane - segment * p.columns;
    float* best_scores = scores + (u64)lane * k;
    u32* best_labels = labels + (u64)lane * k;
    for (u32 i = 0; i < k; i++) {
        best_scores[i] = LOWEST;
        best_labels[i] = NOTHING;
    }
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
            z += w * x[index_in(index_row[f / 2], f) * p.columns + sample];
        }
        if (z > bar && !is_filtered(filter_offsets, filter_labels, sample, p.first_label + row)) {
            enter(best_scores, best_labels, k, z, p.first_label + row);
            bar = best_scores[k - 1];
        }
    }
}
