// A step of the labels of groups on matrix units: fan_in_step for 16, 32 or 64 labels that share a row of indices, and a
// multiple of 16 connections.
//
// A block owns a group. What the group looks at is gathered into shared memory, 32 samples at a time, [F, 32]; logits
// [G, 32] and gradients of the weights [G, F] are products of small matrices. Numbers go into the units as three bf16
// each, six products for one, so that all bits of an f32 count; sums are in f32.

#define GROUP_WARPS 8
#define GROUP_TILE 32
// Numbers between rows in shared memory: neighbours lie in different banks.
#define GROUP_PAD 4
#define TILE_STRIDE (GROUP_TILE + GROUP_PAD)
// Products of 16 x 8 gradients that a warp keeps.
#define KEPT_TILES 8

// The block's shared memory.
struct GroupMemory {
    float* weights;  // [G, F + pad]; in the end their gradients
    float* x;        // [F, tile + pad]
    float* dlogits;  // [G, tile + pad]
    float* losses;   // [4, G]: of the columns 0..7, 8..15, ... of a tile
    float* biases;   // [4, G]: gradients
    u32* positive;   // [G]: which samples of the tile are positive
};

__device__ inline GroupMemory group_memory(void* shared, u32 group, u32 fan_in) {
    GroupMemory out;
    out.weights = (float*)shared;
    out.x = out.weights + group * (fan_in + GROUP_PAD);
    out.dlogits = out.x + fan_in * TILE_STRIDE;
    out.losses = out.dlogits + group * TILE_STRIDE;
    out.biases = out.losses + 4 * group;
    out.positive = (u32*)(out.biases + 4 * group);
    return out;
}

// The samples from `first` to before `first + 32` among the pairs from `begin` to before `end`.
__device__ inline u32 positive_mask(const uint2* positives, u32 begin, u32 end, u32 first) {
    u32 mask = 0;
    for (u32 i = begin; i < end; i++) {
        u32 sample = positives[i].y - first;
        if (sample < 32) {
            mask |= 1u << sample;
        }
    }
    return mask;
}

KERNEL __launch_bounds__(32 * GROUP_WARPS) fan_in_group_step(
    StepParams p, u32 loss, u32 optimizer, u32 storage, u32 moments, u32 stratified_features, u32 strata,
    const float4* __restrict__ x, const u32* __restrict__ indices, const uint2* __restrict__ positives,
    u32* __restrict__ weights, float* __restrict__ bias, u32* __restrict__ first, u32* __restrict__ second,
    float* __restrict__ bias_first, float* __restrict__ bias_second, float2* __restrict__ dlogits,
    u32* __restrict__ before, float* __restrict__ label_loss
) {
    DYNAMIC_SHARED(shared);
    IndexRows index_rows = {stratified_features, strata};
    u32 group = p.group, fan_in = p.fan_in, weight_stride = fan_in + GROUP_PAD;
    GroupMemory memory = group_memory(shared, group, fan_in);
    u32 thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    u32 first_row = blockIdx.x * group;
    u32 labels = smaller(group, p.rows - first_row);
    const u32* index = indices + blockIdx.x * p.index_words;

    for (u32 i = thread; i < group * fan_in; i += blockDim.x) {
        u32 member = i / fan_in, slot = i - member * fan_in;
        u32 at = (first_row + member) * p.weight_words + slot / per_word(storage);
        memory.weights[member * weight_stride + slot] = member < labels ? stored(storage, weights[at], slot) : 0.0f;
    }
    for (u32 i = thread; i < labels * p.weight_words; i += blockDim.x) {
        before[first_row * p.weight_words + i] = weights[first_row * p.weight_words + i];
    }
    u32 begin = 0, end = 0;
    if (thread < labels) {
        begin = first_positive(positives, p.positives, p.first_label + first_row + thread);
        end = first_positive(positives, p.positives, p.first_label + first_row + thread + 1);
    }

    // A warp has 16 labels; of a tile's columns, each 8 that its number among those with the same labels tells.
    u32 parts = group / 16;
    u32 my_part = warp % parts, my_columns = warp / parts, warps_for_part = GROUP_WARPS / parts;
    u32 member = my_part * 16 + lane / 4;
    float bias_of[2], loss_sum[2] = {0.0f, 0.0f}, bias_sum[2] = {0.0f, 0.0f};
    for (u32 half = 0; half < 2; half++) {
        bias_of[half] = member + 8 * half < labels ? bias[first_row + member + 8 * half] : 0.0f;
    }
    float gradients[KEPT_TILES][4];
#pragma unroll
    for (u32 i = 0; i < KEPT_TILES; i++) {
        gradients[i][0] = gradients[i][1] = gradients[i][2] = gradients[i][3] = 0.0f;
    }
    u32 tiles = parts * (fan_in / 8);

    for (u32 sample = 0; sample < p.columns; sample += GROUP_TILE) {
        for (u32 i = thread; i < fan_in * (GROUP_TILE / 4); i += blockDim.x) {
            u32 slot = i / (GROUP_TILE / 4), quad = i % (GROUP_TILE / 4);
            float* to = memory.x + slot * TILE_STRIDE + 4 * quad;
            if (sample + 4 * quad < p.columns) {
                begin_copy(to, x + index_rows.at(index, slot) * (p.columns / 4) + sample / 4 + quad);
            } else {
                to[0] = to[1] = to[2] = to[3] = 0.0f;
            }
        }
        if (thread < group) {
            memory.positive[thread] = positive_mask(positives, begin, end, sample);
        }
        wait_for_copies();
        __syncthreads();

        // Logits, loss and its gradient.
        for (u32 run = my_columns; run < GROUP_TILE / 8; run += warps_for_part) {
            float z[4] = {bias_of[0], bias_of[0], bias_of[1], bias_of[1]};
            for (u32 slot = 0; slot < fan_in; slot += 16) {
                SplitA a;
                SplitB b;
                a.load(memory.weights, weight_stride, my_part * 16, slot, lane);
                b.load(memory.x, TILE_STRIDE, 1, slot, run * 8, lane);
                multiply_add(z, a, b);
            }
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                u32 row = member + 8 * half, column = run * 8 + lane % 4 * 2;
                float g[2];
#pragma unroll
                for (u32 i = 0; i < 2; i++) {
                    bool inside = sample + column + i < p.batch && row < labels;
                    bool positive = (memory.positive[row] >> (column + i) & 1) == 1;
                    float sign = inside ? (positive ? -1.0f : 1.0f) : 0.0f;
                    LossAndGradient of = loss_of(loss, z[2 * half + i], sign);
                    g[i] = p.scale * of.gradient;
                    loss_sum[half] += of.loss;
                    bias_sum[half] += g[i];
                }
                memory.dlogits[row * TILE_STRIDE + column] = g[0];
                memory.dlogits[row * TILE_STRIDE + column + 1] = g[1];
                if (row < labels && sample + column < p.columns) {
                    u32 at = (first_row + row) * (p.columns / 2) + (sample + column) / 2;
                    dlogits[at] = make_float2(g[0], g[1]);
                }
            }
        }
        __syncthreads();

        // Gradients of the weights: samples are what is summed over.
#pragma unroll
        for (u32 i = 0; i < KEPT_TILES; i++) {
            u32 tile = warp + i * GROUP_WARPS;
            if (tile < tiles) {
#pragma unroll 1
                for (u32 column = 0; column < GROUP_TILE; column += 16) {
                    SplitA a;
                    SplitB b;
                    a.load(memory.dlogits, TILE_STRIDE, tile % parts * 16, column, lane);
                    b.load(memory.x, 1, TILE_STRIDE, column, tile / parts * 8, lane);
                    multiply_add(gradients[i], a, b);
                }
            }
        }
        __syncthreads();
    }

    // The weights have been read for the last time: their gradients take their place.
#pragma unroll
    for (u32 i = 0; i < KEPT_TILES; i++) {
        u32 tile = warp + i * GROUP_WARPS;
        if (tile < tiles) {
            u32 row = tile % parts * 16 + lane / 4, slot = tile / parts * 8 + lane % 4 * 2;
            float* at = memory.weights + row * weight_stride + slot;
            at[0] = gradients[i][0];
            at[1] = gradients[i][1];
            at[8 * weight_stride] = gradients[i][2];
            at[8 * weight_stride + 1] = gradients[i][3];
        }
    }
    // Four lanes share a row: their sums are added, then those of the warps, in order.
    for (u32 half = 0; half < 2; half++) {
        for (u32 width = 1; width < 4; width *= 2) {
            loss_sum[half] += __shfl_xor_sync(ALL_LANES, loss_sum[half], width);
            bias_sum[half] += __shfl_xor_sync(ALL_LANES, bias_sum[half], width);
        }
        if (lane % 4 == 0 && my_columns < 4) {
            memory.losses[my_columns * group + member + 8 * half] = loss_sum[half];
            memory.biases[my_columns * group + member + 8 * half] = bias_sum[half];
        }
    }
    __syncthreads();

    u32 sums = smaller(warps_for_part, 4);
    if (thread < labels) {
        float total = 0.0f, bias_gradient = 0.0f;
        for (u32 i = 0; i < sums; i++) {
            total += memory.losses[i * group + thread];
            bias_gradient += memory.biases[i * group + thread];
        }
        label_loss[first_row + thread] = total;
        step_bias_of(p, optimizer, first_row + thread, bias_gradient, bias, bias_first, bias_second);
    }
    for (u32 member = warp; member < labels; member += GROUP_WARPS) {
        RowTensors tensors = tensors_of(p, optimizer, storage, moments, first_row + member, weights, first, second);
        for (u32 chunk = 0; chunk < fan_in; chunk += 32) {
            u32 slot = chunk + lane;
            float gradient = slot < fan_in ? memory.weights[member * weight_stride + slot] : 0.0f;
            step_slots(p, optimizer, tensors, first_row + member, chunk, gradient, lane);
        }
    }
}
