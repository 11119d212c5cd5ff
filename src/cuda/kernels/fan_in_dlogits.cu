// Logits of a block of labels, their loss, and its gradient with respect to the logits. A warp owns a label: its lanes
// fetch the samples of a feature side by side.

struct DlogitsParams {
    u32 rows, first_label, fan_in, index_words, weight_words, group, batch, columns, positives;
    float scale;
};

KERNEL fan_in_dlogits(
    DlogitsParams p, u32 loss, u32 storage, u32 stratified_features, u32 strata, const float4* __restrict__ x, const u32* __restrict__ weights,
    const u32* __restrict__ indices, const float* __restrict__ bias, const uint2* __restrict__ positives,
    float4* __restrict__ dlogits, float* __restrict__ label_loss
) {
    IndexRows index_rows = {stratified_features, strata};
    u32 lane = threadIdx.x % 32;
    // As many labels to a block as it has threads.
    u32 end_row = smaller((blockIdx.x + 1) * blockDim.x, p.rows);
    for (u32 row = blockIdx.x * blockDim.x + threadIdx.x / 32; row < end_row; row += blockDim.x / 32) {
        const u32* weight_row = weights + row * p.weight_words;
        const u32* index_row = indices + row / p.group * p.index_words;
        u32 label = p.first_label + row;
        u32 begin = first_positive(positives, p.positives, label);
        u32 end = first_positive(positives, p.positives, label + 1);
        float total = 0.0f;
        for (u32 quad = lane; quad < p.columns / 4; quad += 32) {
            float4 z = splat(bias[row]);
            for (u32 f = 0; f < p.fan_in; f++) {
                float w = stored(storage, weight_row[f / per_word(storage)], f);
                add_product(z, w, x[index_rows.at(index_row, f) * (p.columns / 4) + quad]);
            }
            if (loss < 2) {
                u32 bits = positive_bits(positives, begin, end, quad);
                total += take_loss(loss, z, bits, 4 * quad, p.batch, p.scale);
            }
            dlogits[row * (p.columns / 4) + quad] = z;
        }
        total = warp_sum(total);
        if (lane == 0) {
            label_loss[row] = total;
        }
    }
}
