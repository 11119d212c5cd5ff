// Gradient of a block's biases and one optimizer step of them. A thread owns a label.

struct BiasUpdateParams {
    Rates rates;
    u32 rows, columns;
};

KERNEL bias_update(
    BiasUpdateParams p, u32 optimizer, const float4* __restrict__ dlogits, float* __restrict__ bias,
    float* __restrict__ first, float* __restrict__ second
) {
    u32 row = lane_of();
    if (row >= p.rows) {
        return;
    }
    float4 sum = splat(0.0f);
    for (u32 quad = 0; quad < p.columns / 4; quad++) {
        add(sum, dlogits[row * (p.columns / 4) + quad]);
    }
    step_bias(optimizer, p.rates, row, sum_of(sum), bias, first, second);
}
