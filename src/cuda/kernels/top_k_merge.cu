// Merges the best lists of a block's segments into the list of each sample. A thread owns one sample; segments come in
// the order of their labels, so equal scores rank by lower label.

struct MergeParams {
    u32 columns, segments, fresh;
};

KERNEL top_k_merge(
    MergeParams p, u32 k, const float* __restrict__ scores, const u32* __restrict__ labels,
    float* __restrict__ best_scores, u32* __restrict__ best_labels
) {
    u32 sample = lane_of();
    if (sample >= p.columns) {
        return;
    }
    float* kept_scores = best_scores + sample * k;
    u32* kept_labels = best_labels + sample * k;
    if (p.fresh == 1) {
        begin_list(kept_scores, kept_labels, k);
    }
    for (u32 segment = 0; segment < p.segments; segment++) {
        u64 theirs = ((u64)segment * p.columns + sample) * k;
        // Best first: once one does not enter, none after it does.
        for (u32 i = 0; i < k && scores[theirs + i] > kept_scores[k - 1]; i++) {
            enter(kept_scores, kept_labels, k, scores[theirs + i], labels[theirs + i]);
        }
    }
}
