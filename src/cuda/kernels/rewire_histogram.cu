// A digit of a radix selection: how many connections have each value of eight bits of their key, among those whose
// higher bits are already decided. The keys are scores, or, with by_position, the positions among equal scores.

struct HistogramParams {
    u32 rows, index_rows, fan_in, weight_words, group, shift, prefix, score;
};

KERNEL rewire_histogram(
    HistogramParams p, u32 by_position, u32 storage, const u32* __restrict__ weights, u32* __restrict__ counts
) {
    __shared__ u32 local_counts[256];
    for (u32 bin = threadIdx.x; bin < 256; bin += blockDim.x) {
        local_counts[bin] = 0;
    }
    __syncthreads();
    u32 index_row = lane_of();
    if (index_row < p.index_rows) {
        for (u32 slot = 0; slot < p.fan_in; slot++) {
            u32 score = __float_as_uint(score_of(p, storage, weights, index_row, slot));
            u32 key = by_position == 1 ? index_row * p.fan_in + slot : score;
            bool counted = by_position == 0 || score == p.score;
            // A shift by 32 is not defined: the first digit has no higher bits.
            if (p.shift < 24) {
                counted = counted && (key >> (p.shift + 8)) == p.prefix;
            }
            if (counted) {
                atomicAdd(&local_counts[(key >> p.shift) & 255], 1u);
            }
        }
    }
    __syncthreads();
    for (u32 bin = threadIdx.x; bin < 256; bin += blockDim.x) {
        if (local_counts[bin] > 0) {
            atomicAdd(&counts[bin], local_counts[bin]);
        }
    }
}
