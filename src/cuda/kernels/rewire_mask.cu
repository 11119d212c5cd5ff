// Which connections of a block are pruned, one bit each. A thread owns a word of the mask, 32 slots of a row.
//
//   mode 0  score < threshold, strictly
//   mode 1  score < the bits in `key`, or equal to them at a position before `position_end`
//   mode 2  the `per_row` smallest of each row, earlier slots first among equals

struct MaskParams {
    u32 rows, index_rows, fan_in, weight_words, mask_words, group;
    float threshold;
    u32 key, position_end, per_row;
};

__device__ inline bool is_pruned(
    const MaskParams& p, u32 mode, u32 storage, const u32* weights, u32 index_row, u32 slot
) {
    float score = score_of(p, storage, weights, index_row, slot);
    if (mode == 0) {
        return score < p.threshold;
    }
    if (mode == 1) {
        u32 bits = __float_as_uint(score);
        return bits < p.key || (bits == p.key && index_row * p.fan_in + slot < p.position_end);
    }
    u32 before = 0;
    for (u32 other = 0; other < p.fan_in; other++) {
        float theirs = score_of(p, storage, weights, index_row, other);
        before += theirs < score || (theirs == score && other < slot) ? 1 : 0;
    }
    return before < p.per_row;
}

KERNEL rewire_mask(
    MaskParams p, u32 mode, u32 storage, const u32* __restrict__ weights, u32* __restrict__ mask
) {
    u32 lane = lane_of();
    if (lane >= p.index_rows * p.mask_words) {
        return;
    }
    u32 index_row = lane / p.mask_words;
    u32 first = (lane - index_row * p.mask_words) * 32;
    u32 bits = 0;
    for (u32 slot = first; slot < smaller(p.fan_in, first + 32); slot++) {
        if (is_pruned(p, mode, storage, weights, index_row, slot)) {
            bits |= 1u << (slot - first);
        }
    }
    mask[lane] = bits;
}
