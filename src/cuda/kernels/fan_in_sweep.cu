// A step over a block of labels in one walk over its weights: what fan_in_dlogits, fan_in_update and bias_update do one
// after the other. The gradient of the features comes after it, from the logit gradients and from `kept`, the weights as
// they were.
//
// A warp owns a label, a lane four samples side by side, so that every fetch of a feature is whole lines; the second
// fetch finds them in the first cache. A gradient of a weight is a sum over the lanes: 32 of them at once, after which
// lane l holds that of the l-th connection and steps it.

#define SWEEP_WARPS 4

KERNEL __launch_bounds__(32 * SWEEP_WARPS) fan_in_sweep(
    SweepParams sweep, u32 loss, u32 optimizer, u32 storage, u32 moments, const float4* __restrict__ x,
    u32* __restrict__ weights, const u32* __restrict__ indices, float* __restrict__ bias,
    const uint2* __restrict__ positives, float4* __restrict__ dlogits, float* __restrict__ label_loss,
    u32* __restrict__ first, u32* __restrict__ second, float* __restrict__ bias_first,
    float* __restrict__ bias_second, u32* __restrict__ kept
) {
    DYNAMIC_SHARED(shared);
    const UpdateParams& p = sweep.update;
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 row = blockIdx.x * SWEEP_WARPS + warp;
    if (row >= p.rows) {
        return;
    }
    u32 quads = p.columns / 4;
    float* w = (float*)shared + warp * 2 * p.fan_in;
    u32* at = (u32*)(w + p.fan_in);
    RowTensors tensors = tensors_of(p, optimizer, storage, moments, row, weights, first, second);
    for (u32 slot = lane; slot < p.fan_in; slot += 32) {
        w[slot] = stored(storage, tensors.weights.words[slot / per_word(storage)], slot);
        at[slot] = index_in(indices[row / p.group * p.index_words + slot / 2], slot) * quads;
    }
    for (u32 word = lane; word < p.weight_words; word += 32) {
        kept[row * p.weight_words + word] = tensors.weights.words[word];
    }
    __syncwarp();

    // Logits, loss and its gradient.
    u32 begin = first_positive(positives, sweep.positives, p.first_label + row);
    u32 end = first_positive(positives, sweep.positives, p.first_label + row + 1);
    float total = 0.0f, bias_gradient = 0.0f;
    for (u32 quad = lane; quad < quads; quad += 32) {
        float4 z = splat(bias[row]);
#pragma unroll 4
        for (u32 f = 0; f < p.fan_in; f++) {
            add_product(z, w[f], x[at[f] + quad]);
        }
        u32 bits = positive_bits(positives, begin, end, quad);
        total += take_loss(loss, z, bits, 4 * quad, sweep.batch, sweep.scale);
        bias_gradient += sum_of(z);
        dlogits[row * quads + quad] = z;
    }

    // Gradients of 32 weights at a time, and their step.
    for (u32 chunk = 0; chunk < p.fan_in; chunk += 32) {
        float sums[32];
#pragma unroll
        for (u32 i = 0; i < 32; i++) {
            sums[i] = 0.0f;
        }
        for (u32 quad = lane; quad < quads; quad += 32) {
            float4 g = dlogits[row * quads + quad];
#pragma unroll
            for (u32 i = 0; i < 32; i++) {
                if (chunk + i < p.fan_in) {
                    sums[i] = add_dot(sums[i], g, x[at[chunk + i] + quad]);
                }
            }
        }
        float gradient = warp_sums(sums, lane);
        step_slots(p, optimizer, tensors, row, chunk, gradient, lane);
    }

    total = warp_sum(total);
    bias_gradient = warp_sum(bias_gradient);
    if (lane == 0) {
        label_loss[row] = total;
        if (sweep.train_bias == 1) {
            Rates rates = p.rates;
            rates.decay = 0.0f;
            rates.keep = 1.0f;
            step_bias(optimizer, rates, row, bias_gradient, bias, bias_first, bias_second);
        }
    }
}
