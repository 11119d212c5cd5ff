// Gradient of a block's weights, used at once: no gradient of the layer is ever stored. A thread owns the connections of
// a label that share words.

__device__ inline float gradient_of(
    const UpdateParams& p, const float4* x, const float4* dlogits, const u32* indices, u32 row, u32 slot
) {
    u32 quads = p.columns / 4;
    u32 feature = index_in(indices[row / p.group * p.index_words + slot / 2], slot) * quads;
    float sum = 0.0f;
    for (u32 quad = 0; quad < quads; quad++) {
        sum = add_dot(sum, dlogits[row * quads + quad], x[feature + quad]);
    }
    return sum;
}

KERNEL fan_in_update(
    UpdateParams p, u32 optimizer, u32 storage, u32 moments, const float4* __restrict__ x,
    const float4* __restrict__ dlogits, const u32* __restrict__ indices, u32* __restrict__ weights,
    u32* __restrict__ first, u32* __restrict__ second
) {
    u32 span = span_of(storage, moments);
    u32 spans = (p.fan_in + span - 1) / span;
    u32 lane = lane_of();
    if (lane >= p.rows * spans) {
        return;
    }
    u32 row = lane / spans;
    u32 begin = (lane - row * spans) * span;
    uint4 weight_bits = make_uint4(0, 0, 0, 0), first_bits = weight_bits, second_bits = weight_bits;
    if (storage > 0) { weight_bits = rounding_words(p, 0, row, begin / 8); }
    if (moments > 0 && optimizer >= 1) { first_bits = rounding_words(p, 1, row, begin / 8); }
    if (moments > 0 && optimizer >= 2) { second_bits = rounding_words(p, 2, row, begin / 8); }
    for (u32 slot = begin; slot < smaller(begin + span, p.fan_in); slot++) {
        u32* weight = weights + row * p.weight_words + slot / per_word(storage);
        u32 state = row * p.moment_words + slot / per_word(moments);
        float m = optimizer >= 1 ? stored(moments, first[state], slot) : 0.0f;
        float v = optimizer >= 2 ? stored(moments, second[state], slot) : 0.0f;
        float gradient = gradient_of(p, x, dlogits, indices, row, slot);
        Stepped after = step_parameter(optimizer, p.rates, stored(storage, *weight, slot), gradient, m, v);
        *weight = (*weight & ~place_mask(storage, slot))
            | rounded(storage, after.parameter, slot, bits_of(weight_bits, slot));
        if (optimizer >= 1) {
            u32 code = rounded(moments, after.first, slot, bits_of(first_bits, slot));
            first[state] = (first[state] & ~place_mask(moments, slot)) | code;
        }
        if (optimizer >= 2) {
            u32 code = rounded(moments, after.second, slot, bits_of(second_bits, slot));
            second[state] = (second[state] & ~place_mask(moments, slot)) | code;
        }
    }
}
