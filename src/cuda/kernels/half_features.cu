// Features rounded to the nearest f16 for the classifier's step: see shaders/half_features.wgsl. A thread owns two samples of
// a feature.

struct HalfFeaturesParams { u32 pairs; };

// The code of the nearest f16, of two the even one.
__device__ inline u32 nearest_half(float number) {
    u32 magnitude = __float_as_uint(number) & 0x7fffffffu;
    u32 code = ((magnitude + 0xfffu + ((magnitude >> 13) & 1)) >> 13) - (112u << 10);
    if (magnitude < (113u << 23)) {
        // 2^23 leaves no room for a fraction: the sum rounds as the nearest integer, of two the even one.
        code = __float_as_uint(__uint_as_float(magnitude) * 16777216.0f + 8388608.0f) - 0x4b000000u;
    }
    code = smaller(code, 0x7bff);
    if (magnitude >= 0x7f800000u) {
        code = 0x7e00;
    }
    return code | (__float_as_uint(number) >> 31) << 15;
}

KERNEL half_features(HalfFeaturesParams p, u32 packed, const float2* __restrict__ x, u32* __restrict__ halves) {
    u32 lane = lane_of();
    if (lane >= p.pairs) {
        return;
    }
    float2 pair = x[lane];
    u32 word = nearest_half(pair.x) | nearest_half(pair.y) << 16;
    if (packed == 1) {
        halves[lane] = word;
    } else {
        halves[2 * lane] = __float_as_uint(half_of(word, 0));
        halves[2 * lane + 1] = __float_as_uint(half_of(word, 1));
    }
}
