// Gradient of the loss with respect to the features, from a run of labels, without atomics.
//
// A block of eight warps owns a feature and 128 samples in one window of the labels: each warp walks an eighth of the
// feature's list of connections, four samples a lane, and the eight sums are added in order.

struct FeatureGradientParams {
    u32 features;
    u32 rows;         // labels of this launch
    u32 fan_in;
    u32 weight_words; // words in a row of weights
    u32 group;        // labels that share a row of indices
    u32 columns;      // batch rounded up to 16
    u32 windows;
    u32 window_rows;  // labels of a window, of the last perhaps fewer
    u32 list_rows;    // labels of an index: here as many
    u32 offset_words; // words in a window's row of offsets
    u32 slot_bits;    // bits of a slot in a connection, below its row: here 16
};

#define LIST_WARPS 8
#define NO_ROW 0xffffffffu

KERNEL fan_in_feature_gradient(
    FeatureGradientParams p, u32 accumulate, u32 storage, const float4* __restrict__ dlogits,
    const u32* __restrict__ weights, const u32* __restrict__ offsets, const u32* __restrict__ connections,
    float4* __restrict__ sums
) {
    __shared__ float4 partial[LIST_WARPS][32];
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 quads = p.columns / 4;
    u32 runs = (quads + 31) / 32;
    u32 feature = blockIdx.x / runs % p.features;
    u32 window = blockIdx.x / runs / p.features;
    u32 quad = blockIdx.x % runs * 32 + lane;
    u32 first_row = window * p.window_rows;
    const u32* list = connections + (u64)(first_row / p.group) * p.fan_in;
    u32 begin = offsets[window * p.offset_words + feature];
    u32 length = offsets[window * p.offset_words + feature + 1] - begin;
    float4* out = sums + ((u64)window * p.features + feature) * quads;
    if (length == 0) {
        if (accumulate == 0 && warp == 0 && quad < quads) {
            out[quad] = splat(0.0f);
        }
        return;
    }
    // A connection stands for as many items as labels share its row of indices.
    u64 items = (u64)length * p.group;
    u64 item = items * warp / LIST_WARPS, end = items * (warp + 1) / LIST_WARPS;
    float4 sum = splat(0.0f);
    for (; item < end; item += 32) {
        // Each lane looks up one item; then all walk the 32 together.
        u32 row = NO_ROW;
        float w = 0.0f;
        u64 mine = item + lane;
        if (mine < end) {
            u32 connection = list[begin + (u32)(mine / p.group)];
            u32 slot = connection & 0xffff;
            u32 label = first_row + (connection >> 16) * p.group + (u32)(mine % p.group);
            if (label < p.rows) {
                row = label;
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
        float4 total = accumulate == 1 ? out[quad] : splat(0.0f);
        for (u32 i = 0; i < LIST_WARPS; i++) {
            add(total, partial[i][lane]);
        }
        out[quad] = total;
    }
}
