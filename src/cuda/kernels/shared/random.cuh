// Philox4x32-10, the same function as src/random.rs: a number depends on (seed, purpose, step, index, sub) alone.

__device__ inline uint4 philox(uint4 c, u32 key_low, u32 key_high) {
    for (u32 round = 0; round < 10; round++) {
        u64 p0 = (u64)c.x * 0xD2511F53u;
        u64 p1 = (u64)c.z * 0xCD9E8D57u;
        c = make_uint4((u32)(p1 >> 32) ^ c.y ^ key_low, (u32)p1, (u32)(p0 >> 32) ^ c.w ^ key_high, (u32)p0);
        key_low += 0x9E3779B9u;
        key_high += 0xBB67AE85u;
    }
    return c;
}

__device__ inline u32 component(uint4 words, u32 i) {
    return i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w;
}

// A word as a float in [0, 1), a multiple of 2^-24.
__device__ inline float unit(u32 word) { return (float)(word >> 8) * (1.0f / 16777216.0f); }

// A word as an integer in [0, n).
__device__ inline u32 below(u32 word, u32 n) { return (u32)(((u64)word * n) >> 32); }
