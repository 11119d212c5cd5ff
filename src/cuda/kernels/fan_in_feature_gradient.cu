// Gradient of the loss with respect to the features, from one block of labels, without atomics.
//
// A block of eight warps owns a feature and 128 samples: each warp walks an eighth of the feature's list of connections,
// four samples a lane, and the eight sums are added in order.

struct FeatureGradientParams {
    u32 features, rows, fan_in, weight_words, group, columns;
};

#define LIST_WARPS 8
#define NO_ROW 0xffffffffu

KERNEL fan_in_feature_gradient(
    FeatureGradientParams p, u32 storage, const float4* __restrict__ dlogits, const u32* __restrict__ weights,
    const u32* __restrict__ offsets, const u32* __restrict__ connections, float4* __restrict__ dx
) {
    __shared__ float4 partial[LIST_WARPS][32];
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 quads = p.columns / 4;
    u32 runs = (quads + 31) / 32;
    u32 feature = blockIdx.x / runs;
    u32 quad = blockIdx.x % runs * 32 + lane;
    u32 begin = offsets[feature];
    // A connection stands for as many items as labels share its row of indices.
    u64 items = (u64)(offsets[feature + 1] - begin) * p.group;
    if (items == 0) {
        return;
    }
    u64 item = items * warp / LIST_WARPS, end = items * (warp + 1) / LIST_WARPS;
    float4 sum = splat(0.0f);
    for (; item < end; item += 32) {
        // Each lane looks up one item; then all walk the 32 together.
        u32 row = NO_ROW;
        float w = 0.0f;
        u64 mine = item + lane;
        if (mine < end) {
            u32 connection = connections[begin + (u32)(mine / p.group)];
            u32 index_row = connection / p.fan_in;
            u32 slot = connection - index_row * p.fan_in;
            u32 member = (u32)(mine % p.group);
            if (index_row * p.group + member < p.rows) {
                row = index_row * p.group + member;
                w = stored(storage, weights[row * p.weight_words + slot / per_word(storage)], slot);
            }
        }
        u32 count = end - item < 32 ? (u32)(end - item) : 32;
#pragma unroll 4
        for (u32 i = 0; i < count; i++) {
            u32 from = __shfl_sync(ALL_LANES, row, i);
            float factor = __shfl_sync(ALL_LANES, w, i);
            if (from != NO_ROW && quad < quads) {
                add_product(sum, factor, dlogits[from * quads + quad]);
            }
        }
    }
    partial[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && quad < quads) {
        float4 total = dx[feature * quads + quad];
        for (u32 i = 0; i < LIST_WARPS; i++) {
            add(total, partial[i][lane]);
        }
        dx[feature * quads + quad] = total;
    }
}
