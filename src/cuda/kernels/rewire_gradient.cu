// New indices of pruned slots by the gradient that a connection would have: for each slot `candidates` different
// features that the row does not have are drawn, in a stratified row from the slot's own stratum, and the one with the
// largest
//
//   sum over the labels of the row of |sum_b dlogits[l,b] * x[b, d]|
//
// becomes the slot's index. A warp owns one row of indices: its lanes draw alike and share the sums over the samples.

struct GradientParams {
    u32 rows, index_rows, first_index_row, fan_in, index_words, mask_words, group, features, columns, candidates;
    u32 first_slot, end_slot, step, purpose, seed_low, seed_high;
};

#define MAX_CANDIDATES 32

struct Candidates {
    u32 index[MAX_CANDIDATES];
    u32 found;
};

// Takes the index as a candidate, unless the row has it or it is one already. No other slot looks at the features of a
// stratum.
__device__ inline void offer_index(
    const GradientParams& p, u32 stratified, Candidates& all, const u32* row, u32 index
) {
    bool known = stratified == 0 && row_has(row, p.fan_in, index);
    for (u32 i = 0; i < all.found; i++) {
        known = known || all.index[i] == index;
    }
    if (!known) {
        all.index[all.found] = index;
        all.found++;
    }
}

// Draws the candidates of a slot; with fewer free features than are wanted, all of them.
__device__ inline void find_candidates(
    const GradientParams& p, u32 stratified, const IndexRows& index_rows, Candidates& all, const u32* row,
    u32 index_row, u32 slot
) {
    u32 free = p.features > p.fan_in ? p.features - p.fan_in : 1;
    Choices choices = {0, NOTHING_BARRED, p.features};
    if (stratified == 1) {
        choices = choices_of(p, index_rows, row, slot, true);
        free = choices.count;
    }
    u32 wanted = smaller(p.candidates, free);
    all.found = 0;
    u32 place = 0;
    for (u32 i = 0; i < MAX_DRAWS && all.found < wanted; i++) {
        place = drawn_below(p, index_row, slot, i, choices.count);
        offer_index(p, stratified, all, row, choices.at(place));
    }
    for (u32 i = 0; i < choices.count && all.found < wanted; i++) {
        place = place + 1 >= choices.count ? 0 : place + 1;
        offer_index(p, stratified, all, row, choices.at(place));
    }
}

// The magnitude of the gradient that the row's connections to a feature would have; all lanes call it together.
__device__ inline float strength_of(
    const GradientParams& p, const float4* x, const float4* dlogits, u32 index_row, u32 index, u32 lane
) {
    u32 quads = p.columns / 4;
    u32 first_row = index_row * p.group;
    u32 end_row = smaller(first_row + p.group, p.rows);
    float strength = 0.0f;
    for (u32 row = first_row; row < end_row; row++) {
        float sum = 0.0f;
        for (u32 quad = lane; quad < quads; quad += 32) {
            sum = add_dot(sum, dlogits[row * quads + quad], x[index * quads + quad]);
        }
        strength += fabsf(warp_sum(sum));
    }
    return strength;
}

KERNEL rewire_gradient(
    GradientParams p, u32 stratified, u32 stratified_features, u32 strata, const u32* __restrict__ mask,
    const float4* __restrict__ x,
    const float4* __restrict__ dlogits, u32* __restrict__ indices
) {
    IndexRows index_rows = {stratified_features, strata};
    u32 lane = threadIdx.x % 32;
    // As many rows to a block as it has threads.
    u32 end_row = smaller((blockIdx.x + 1) * blockDim.x, p.index_rows);
    Candidates all;
    for (u32 index_row = blockIdx.x * blockDim.x + threadIdx.x / 32; index_row < end_row;
         index_row += blockDim.x / 32) {
        u32* row = indices + index_row * p.index_words;
        for (u32 slot = p.first_slot; slot < p.end_slot; slot++) {
            if (!is_marked(mask + index_row * p.mask_words, slot)) {
                continue;
            }
            find_candidates(p, stratified, index_rows, all, row, index_row, slot);
            // With every feature in use, the slot keeps its own.
            if (all.found == 0) {
                continue;
            }
            u32 chosen = all.index[0];
            float strongest = strength_of(p, x, dlogits, index_row, chosen, lane);
            for (u32 i = 1; i < all.found; i++) {
                float strength = strength_of(p, x, dlogits, index_row, all.index[i], lane);
                if (strength > strongest) {
                    strongest = strength;
                    chosen = all.index[i];
                }
            }
            // All lanes have read the row before one changes it, and see the change before they read it again.
            __syncwarp();
            if (lane == 0) {
                index_rows.put(row, slot, chosen);
            }
            __syncwarp();
        }
    }
}
