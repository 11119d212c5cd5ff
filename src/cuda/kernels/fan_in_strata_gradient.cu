// Gradient of the loss with respect to the features, from a block of labels with stratified rows, without atomics and
// without an inverted index: what slot f sends back goes into stratum f alone.
//
// A thread owns four samples of a piece of a stratum for one run of labels. Its accumulators, one a feature, lie in shared
// memory, or for wide strata in `partial` itself.

// Labels whose indices, then weights and gradients are fetched before the first is used.
#define STRATA_AHEAD 8

struct StrataGradientParams {
    u32 features;
    u32 rows;         // labels of this block
    u32 fan_in;
    u32 index_words;  // words in a row of indices
    u32 weight_words; // words in a row of weights
    u32 group;        // labels that share a row of indices
    u32 columns;      // batch rounded up to 16
    u32 run;          // labels in a run, whole groups
    u32 runs;
    u32 piece;        // features in a piece
    u32 pieces;       // of a stratum
};

KERNEL fan_in_strata_gradient(
    StrataGradientParams p, u32 storage, u32 room, u32 stratified_features, u32 strata,
    const float4* __restrict__ dlogits, const u32* __restrict__ weights, const u32* __restrict__ indices,
    float4* __restrict__ partial
) {
    DYNAMIC_SHARED(shared);
    IndexRows index_rows = {stratified_features, strata};
    u32 lane = lane_of(), quads = p.columns / 4;
    if (lane >= p.runs * p.pieces * p.fan_in * quads) {
        return;
    }
    u32 quad = lane % quads;
    u32 slot = lane / quads % p.fan_in;
    u32 piece = lane / quads / p.fan_in % p.pieces;
    u32 run = lane / quads / p.fan_in / p.pieces;
    u32 first = stratum_start(p.features, p.fan_in, slot) + piece * p.piece;
    u32 end = smaller(first + p.piece, stratum_start(p.features, p.fan_in, slot + 1));
    u32 width = first < end ? end - first : 0;
    float4* out = partial + ((u64)run * p.features + first) * quads + quad;
    // Where the accumulators begin, and how far they lie apart.
    float4* sums = room > 0 ? shared + threadIdx.x : out;
    u32 stride = room > 0 ? blockDim.x : quads;
    for (u32 i = 0; i < width; i++) {
        sums[i * stride] = splat(0.0f);
    }
    u32 end_row = smaller((run + 1) * p.run, p.rows);
    for (u32 label = run * p.run; label < end_row; label += STRATA_AHEAD) {
        u32 places[STRATA_AHEAD];
        float w[STRATA_AHEAD];
        float4 g[STRATA_AHEAD];
#pragma unroll
        for (u32 i = 0; i < STRATA_AHEAD; i++) {
            u32 row = label + i;
            u32 index_row = p.group == 1 ? row : row / p.group;
            places[i] = row < end_row ? index_rows.at(indices + index_row * p.index_words, slot) - first : width;
        }
#pragma unroll
        for (u32 i = 0; i < STRATA_AHEAD; i++) {
            u32 row = label + i;
            w[i] = 0.0f;
            g[i] = splat(0.0f);
            if (places[i] < width) {
                w[i] = stored(storage, weights[row * p.weight_words + slot / per_word(storage)], slot);
                g[i] = dlogits[row * quads + quad];
            }
        }
#pragma unroll
        for (u32 i = 0; i < STRATA_AHEAD; i++) {
            if (places[i] < width) {
                add_product(sums[places[i] * stride], w[i], g[i]);
            }
        }
    }
    if (room > 0) {
        for (u32 i = 0; i < width; i++) {
            out[i * quads] = sums[i * stride];
        }
    }
}
