// A step of a block of labels but for the features' gradient: logits, loss, gradients and the optimizer's step of weights
// and biases. The features' gradient needs the logit gradients and `before`, the weights as they were.
//
// A warp owns a label, a lane four samples side by side, so that every fetch of a feature is whole lines; the second
// fetch finds them in the first cache. A gradient of a weight is a sum over the lanes: 32 of them at once, after which
// lane l holds that of the l-th connection and steps it.

#define STEP_WARPS 4
// Connections of a label that are opened in shared memory at once. Of longer rows one part comes after the other, and the
// logits wait in `dlogits`.
#define OPENED 1024

KERNEL __launch_bounds__(32 * STEP_WARPS) fan_in_step(
    StepParams p, u32 loss, u32 optimizer, u32 storage, u32 moments, u32 stratified_features, u32 strata,
    u32 features, const float4* __restrict__ samples, const u32* __restrict__ indices, const uint2* __restrict__ positives,
    u32* __restrict__ weights, float* __restrict__ bias, u32* __restrict__ first, u32* __restrict__ second,
    float* __restrict__ bias_first, float* __restrict__ bias_second, float4* __restrict__ dlogits,
    u32* __restrict__ before, float* __restrict__ label_loss
) {
    DYNAMIC_SHARED(shared);
    IndexRows index_rows = {stratified_features, strata};
    Features x = {samples, features};
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u32 row = blockIdx.x * STEP_WARPS + warp;
    if (row >= p.rows) {
        return;
    }
    u32 quads = p.columns / 4;
    u32 room = smaller(p.fan_in, OPENED);
    float* w = (float*)shared + warp * 2 * room;
    u32* at = (u32*)(w + room);
    const u32* index = indices + row / p.group * p.index_words;
    RowTensors tensors = tensors_of(p, optimizer, storage, moments, row, weights, first, second);
    for (u32 word = lane; word < p.weight_words; word += 32) {
        before[row * p.weight_words + word] = tensors.weights.words[word];
    }

    // Logits, loss and its gradient.
    u32 begin = first_positive(positives, p.positives, p.first_label + row);
    u32 end = first_positive(positives, p.positives, p.first_label + row + 1);
    float total = 0.0f, bias_gradient = 0.0f;
    for (u32 part = 0; part < p.fan_in; part += OPENED) {
        u32 opened = smaller(p.fan_in - part, OPENED);
        __syncwarp();
        for (u32 f = lane; f < opened; f += 32) {
            u32 slot = part + f;
            w[f] = stored(storage, tensors.weights.words[slot / per_word(storage)], slot);
            at[f] = index_rows.at(index, slot) * quads;
        }
        __syncwarp();
        for (u32 quad = lane; quad < quads; quad += 32) {
            float4 z = part == 0 ? splat(bias[row]) : dlogits[row * quads + quad];
#pragma unroll 4
            for (u32 f = 0; f < opened; f++) {
                add_product(z, w[f], x[at[f] + quad]);
            }
            if (part + opened == p.fan_in) {
                u32 bits = positive_bits(positives, begin, end, quad);
                total += take_loss(loss, z, bits, 4 * quad, p.batch, p.scale);
                bias_gradient += sum_of(z);
            }
            dlogits[row * quads + quad] = z;
        }
    }

    // Gradients of 32 weights at a time, and their step.
    for (u32 part = 0; part < p.fan_in; part += OPENED) {
        u32 opened = smaller(p.fan_in - part, OPENED);
        if (p.fan_in > OPENED) {
            __syncwarp();
            for (u32 f = lane; f < opened; f += 32) {
                at[f] = index_rows.at(index, part + f) * quads;
            }
            __syncwarp();
        }
        for (u32 chunk = 0; chunk < opened; chunk += 32) {
            float sums[32];
#pragma unroll
            for (u32 i = 0; i < 32; i++) {
                sums[i] = 0.0f;
            }
            for (u32 quad = lane; quad < quads; quad += 32) {
                float4 g = dlogits[row * quads + quad];
#pragma unroll
                for (u32 i = 0; i < 32; i++) {
                    if (chunk + i < opened) {
                        sums[i] = add_dot(sums[i], g, x[at[chunk + i] + quad]);
                    }
                }
            }
            float gradient = warp_sums(sums, lane);
            step_slots(p, optimizer, tensors, row, part + chunk, gradient, lane);
        }
    }

    total = warp_sum(total);
    bias_gradient = warp_sum(bias_gradient);
    if (lane == 0) {
        label_loss[row] = total;
        step_bias_of(p, optimizer, row, bias_gradient, bias, bias_first, bias_second);
    }
}
