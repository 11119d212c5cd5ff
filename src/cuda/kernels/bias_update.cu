// Gradient of a block's biases and one optimizer step of them. A thread owns a label.

struct BiasUpdateParams {
    Rates rates;
    u32 rows, columns;
};

__device__ inline void step_bias(
    u32 optimizer, const Rates& rates, u32 row, float gradient, float* bias, float* first, float* second
) {
    float m = optimizer >= 1 ? first[row] : 0.0f;
    float v = optimizer >= 2 ? second[row] : 0.0f;
    Stepped after = step_parameter(optimizer, rates, bias[row], gradient, m, v);
    bias[row] = after.parameter;
    if (optimizer >= 1) { first[row] = after.first; }
    if (optimizer >= 2) { second[row] = after.second; }
}

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
