// A step over a block of labels in one walk over its weights: what fan_in_dlogits, fan_in_update and bias_update do one
// after the other. The gradient of the features comes after it, from the logit gradients and from `kept`, the weights as
// they were.
//
// A warp owns a label, a lane four samples side by side, so that every fetch of a feature is whole lines; the second
// fetch finds them in the first cache. A gradient of a weight is a sum over the lanes: 32 of them at once, after which
// lane l holds that of the l-th connection and steps it.

struct SweepParams {
    UpdateParams update;
    u32 batch;
    u32 positives;
    float scale;    // of the gradient
    u32 train_bias;
};

#define SWEEP_WARPS 4

// Puts the codes of neighbouring lanes that share a word together and stores the word, from its first lane.
__device__ inline void store_word(u32 storage, u32* row, u32 words, u32 slot, u32 code) {
    u32 shared_by = per_word(storage);
    for (u32 width = 1; width < shared_by; width *= 2) {
        code |= __shfl_xor_sync(ALL_LANES, code, width);
    }
    if (slot % shared_by == 0 && slot / shared_by < words) {
        row[slot / shared_by] = code;
    }
}

// A tensor of a label's row: weights or one of their states.
struct Row {
    u32 storage;
    u32* words;
    u32 count;
};

__device__ inline u32 word_of(const Row& row, u32 slot) {
    u32 at = slot / per_word(row.storage);
    return at < row.count ? row.words[at] : 0;
}

// Stores a number of a slot, and leaves what lies behind the last slot.
__device__ inline void store(const Row& row, u32 slot, bool is_slot, u32 before, float number, u32 bits) {
    u32 code = is_slot ? rounded(row.storage, number, slot, bits) : before & place_mask(row.storage, slot);
    store_word(row.storage, row.words, row.count, slot, code);
}

// The sixteen random bits of this lane's slot: block `lane % 4` of tensor `lane / 4` was drawn by lane `lane`.
__device__ inline u32 bits_of_lane(uint4 words, u32 tensor, u32 lane) {
    u32 from = tensor * 4 + lane / 8;
    uint4 of_slot;
    of_slot.x = __shfl_sync(ALL_LANES, words.x, from);
    of_slot.y = __shfl_sync(ALL_LANES, words.y, from);
    of_slot.z = __shfl_sync(ALL_LANES, words.z, from);
    of_slot.w = __shfl_sync(ALL_LANES, words.w, from);
    return bits_of(of_slot, lane);
}

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
    Row weight_row = {storage, weights + row * p.weight_words, p.weight_words};
    Row first_row = {moments, first + row * p.moment_words, optimizer >= 1 ? p.moment_words : 0};
    Row second_row = {moments, second + row * p.moment_words, optimizer >= 2 ? p.moment_words : 0};
    for (u32 slot = lane; slot < p.fan_in; slot += 32) {
        w[slot] = stored(storage, weight_row.words[slot / per_word(storage)], slot);
        at[slot] = index_in(indices[row / p.group * p.index_words + slot / 2], slot) * quads;
    }
    for (u32 word = lane; word < p.weight_words; word += 32) {
        kept[row * p.weight_words + word] = weight_row.words[word];
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
        u32 slot = chunk + lane;
        bool is_slot = slot < p.fan_in;
        uint4 random = make_uint4(0, 0, 0, 0);
        if (storage > 0 || moments > 0) {
            random = rounding_words(p, lane / 4, row, chunk / 8 + lane % 4);
        }
        u32 weight_word = word_of(weight_row, slot);
        u32 first_word = word_of(first_row, slot), second_word = word_of(second_row, slot);
        Stepped after = step_parameter(
            optimizer, p.rates, stored(storage, weight_word, slot), gradient, stored(moments, first_word, slot),
            stored(moments, second_word, slot)
        );
        store(weight_row, slot, is_slot, weight_word, after.parameter, bits_of_lane(random, 0, lane));
        if (optimizer >= 1) {
            store(first_row, slot, is_slot, first_word, after.first, bits_of_lane(random, 1, lane));
        }
        if (optimizer >= 2) {
            store(second_row, slot, is_slot, second_word, after.second, bits_of_lane(random, 2, lane));
        }
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
