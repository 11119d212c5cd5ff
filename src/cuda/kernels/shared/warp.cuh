// Sums over the 32 lanes of a warp, in a fixed order.

#define ALL_LANES 0xffffffffu

// The sum of every lane's value, the same in all lanes.
__device__ inline float warp_sum(float value) {
    for (u32 width = 16; width > 0; width /= 2) {
        value += __shfl_xor_sync(ALL_LANES, value, width);
    }
    return value;
}

template <u32 WIDTH> struct Folded {
    // Halves the values of a lane: it keeps those whose number has its own bit, and gives the others away.
    __device__ static inline void fold(float* values, u32 lane) {
        bool upper = (lane & WIDTH) != 0;
#pragma unroll
        for (u32 i = 0; i < WIDTH; i++) {
            float given = upper ? values[i] : values[i + WIDTH];
            float kept = upper ? values[i + WIDTH] : values[i];
            values[i] = kept + __shfl_xor_sync(ALL_LANES, given, WIDTH);
        }
        Folded<WIDTH / 2>::fold(values, lane);
    }
};

template <> struct Folded<0> {
    __device__ static inline void fold(float*, u32) {}
};

// 32 sums over the warp at once, in 31 exchanges: lane l gets the sum of every lane's values[l].
__device__ inline float warp_sums(float (&values)[32], u32 lane) {
    Folded<16>::fold(values, lane);
    return values[0];
}
