// Loss of a block of labels from the logits that a matrix product gave, and its gradient with respect to them. A warp owns
// a label, a lane four samples side by side.

struct LabelLossParams {
    u32 rows, first_label, batch, columns, positives;
    float scale;
};

KERNEL label_loss(
    LabelLossParams p, u32 loss, const float4* __restrict__ logits, const float* __restrict__ bias,
    const uint2* __restrict__ positives, float4* __restrict__ dlogits, float* __restrict__ label_loss
) {
    u32 lane = threadIdx.x % 32, quads = p.columns / 4;
    // As many labels to a block as it has threads.
    u32 end_row = smaller((blockIdx.x + 1) * blockDim.x, p.rows);
    for (u32 row = blockIdx.x * blockDim.x + threadIdx.x / 32; row < end_row; row += blockDim.x / 32) {
        u32 label = p.first_label + row;
        u32 begin = first_positive(positives, p.positives, label);
        u32 end = first_positive(positives, p.positives, label + 1);
        float total = 0.0f;
        for (u32 quad = lane; quad < quads; quad += 32) {
            float4 z = logits[row * quads + quad];
            add(z, splat(bias[row]));
            if (loss < 2) {
                u32 bits = positive_bits(positives, begin, end, quad);
                total += take_loss(loss, z, bits, 4 * quad, p.batch, p.scale);
            }
            dlogits[row * quads + quad] = z;
        }
        total = warp_sum(total);
        if (lane == 0) {
            label_loss[row] = total;
        }
    }
}
