// One optimizer step of a dense tensor. A thread owns the parameters whose states share a word.

struct OptimizerStepParams {
    Rates rates;
    u32 count, seed_low, seed_high, step, stream;
};

// The sixteen random bits of a number; `state` is 0 for the first states, 1 for the second.
__device__ inline u32 random_bits(const OptimizerStepParams& p, u32 state, u32 number) {
    uint4 counter = make_uint4(number / 8, p.stream + state, p.step, ROUNDING);
    return bits_of(philox(counter, p.seed_low, p.seed_high), number);
}

KERNEL optimizer_step(
    OptimizerStepParams p, u32 optimizer, u32 moments, const float* __restrict__ gradient,
    float* __restrict__ parameters, u32* __restrict__ first, u32* __restrict__ second
) {
    u32 span = per_word(moments);
    u32 begin = lane_of() * span;
    for (u32 number = begin; number < smaller(begin + span, p.count); number++) {
        u32 at = number / span;
        float m = optimizer >= 1 ? stored(moments, first[at], number) : 0.0f;
        float v = optimizer >= 2 ? stored(moments, second[at], number) : 0.0f;
        Stepped after = step_parameter(optimizer, p.rates, parameters[number], gradient[number], m, v);
        parameters[number] = after.parameter;
        if (optimizer >= 1) {
            u32 bits = moments > 0 ? random_bits(p, 0, number) : 0;
            first[at] = (first[at] & ~place_mask(moments, number)) | rounded(moments, after.first, number, bits);
        }
        if (optimizer >= 2) {
            u32 bits = moments > 0 ? random_bits(p, 1, number) : 0;
            second[at] = (second[at] & ~place_mask(moments, number)) | rounded(moments, after.second, number, bits);
        }
    }
}
