// The score of a slot by which it is pruned: |w|, in a group the mean of |w|. `P` are the parameters of a kernel.

template <class P>
__device__ inline float magnitude(const P& p, u32 storage, const u32* weights, u32 row, u32 slot) {
    return fabsf(stored(storage, weights[row * p.weight_words + slot / per_word(storage)], slot));
}

template <class P>
__device__ inline float score_of(const P& p, u32 storage, const u32* weights, u32 index_row, u32 slot) {
    if (p.group == 1) {
        return magnitude(p, storage, weights, index_row, slot);
    }
    u32 first = index_row * p.group;
    u32 end = smaller(first + p.group, p.rows);
    float sum = 0.0f;
    for (u32 row = first; row < end; row++) {
        sum += magnitude(p, storage, weights, row, slot);
    }
    return sum / (float)(end - first);
}
