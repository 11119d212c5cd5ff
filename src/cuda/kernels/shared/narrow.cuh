// Narrow storage, the same as shaders/shared/narrow.wgsl: numbers in 32, 16 or 8 bits, packed into words; what is
// written is rounded stochastically, by integer arithmetic.
//
// A storage is 0 f32, 1 f16, 2 bf16, 3 fp8 (E4M3).

// Numbers in a word.
__device__ inline u32 per_word(u32 storage) { return storage == 3 ? 4 : storage == 0 ? 1 : 2; }

// Numbers that share words: a row is padded to a multiple of it.
__device__ inline u32 span_of(u32 weights, u32 moments) {
    u32 a = per_word(weights), b = per_word(moments);
    return a > b ? a : b;
}

__device__ inline u32 fraction_bits(u32 storage) { return storage == 3 ? 3 : storage == 1 ? 10 : 7; }

// Exponents of f32 below the first one of the format.
__device__ inline u32 exponent_offset(u32 storage) { return storage == 3 ? 120 : storage == 1 ? 112 : 0; }

__device__ inline u32 largest_code(u32 storage) { return storage == 3 ? 0x7e : storage == 1 ? 0x7bff : 0x7f7f; }

__device__ inline u32 nan_code(u32 storage) { return storage == 3 ? 0x7f : storage == 1 ? 0x7e00 : 0x7fc0; }

// 2 to the number of steps between 0 and 1, for the formats whose exponents begin later than f32's.
__device__ inline float steps_to_one(u32 storage) { return storage == 3 ? 512.0f : 16777216.0f; }

// The number at `place` of a row that lies in consecutive words, of which `word` is the one with this place.
__device__ inline float stored(u32 storage, u32 word, u32 place) {
    if (storage == 0) {
        return __uint_as_float(word);
    }
    u32 bits = storage == 3 ? 8 : 16;
    u32 code = word >> ((place & (per_word(storage) - 1)) * bits);
    u32 magnitude = code & ((1u << (bits - 1)) - 1);
    u32 sign = ((code >> (bits - 1)) & 1) << 31;
    u32 fraction = fraction_bits(storage), offset = exponent_offset(storage);
    u32 value = (magnitude << (23 - fraction)) + (offset << 23);
    if (offset > 0 && magnitude < (1u << fraction)) {
        value = __float_as_uint((float)magnitude / steps_to_one(storage));
    }
    if (magnitude > largest_code(storage)) {
        value = 0x7fc00000u;
    }
    return __uint_as_float(value | sign);
}

// The f16 at place 0 or 1 of a word.
__device__ inline float half_of(u32 word, u32 place) {
    u32 code = word >> (16 * place), magnitude = code & 0x7fff;
    // Shifted, its exponent is 112 below that of f32.
    float value = __uint_as_float(magnitude << 13) * 5.192296858534828e33f;
    u32 bits = magnitude > 0x7bff ? 0x7fc00000u : __float_as_uint(value);
    return __uint_as_float(bits | (code & 0x8000) << 16);
}

// Features of a step, in f32 or in f16, four samples at a time.
struct Features {
    const float4* x;
    u32 halves;

    __device__ inline float4 operator[](u32 quad) const {
        if (halves == 0) {
            return x[quad];
        }
        uint2 words = ((const uint2*)x)[quad];
        return make_float4(half_of(words.x, 0), half_of(words.x, 1), half_of(words.y, 0), half_of(words.y, 1));
    }
};

// The bits of a word that belong to `place`.
__device__ inline u32 place_mask(u32 storage, u32 place) {
    u32 bits = 32 / per_word(storage);
    return (0xffffffffu >> (32 - bits)) << ((place & (per_word(storage) - 1)) * bits);
}

// The code of a number, rounded up or down by sixteen random bits, shifted to its place in the word.
__device__ inline u32 rounded(u32 storage, float number, u32 place, u32 random) {
    if (storage == 0) {
        return __float_as_uint(number);
    }
    u32 bits = storage == 3 ? 8 : 16;
    u32 magnitude = __float_as_uint(number) & 0x7fffffffu;
    u32 fraction = fraction_bits(storage), offset = exponent_offset(storage);
    u32 added = storage == 1 ? random >> 3 : storage == 3 ? (random << 4) + 8 : random;
    u32 code = ((magnitude + added) >> (23 - fraction)) - (offset << fraction);
    if (offset > 0 && magnitude < ((offset + 1) << 23)) {
        code = ((u32)(__uint_as_float(magnitude) * steps_to_one(storage) * 65536.0f) + random) >> 16;
    }
    code = smaller(code, largest_code(storage));
    if (magnitude >= 0x7f800000u) {
        code = nan_code(storage);
    }
    code |= (__float_as_uint(number) >> 31) << (bits - 1);
    return code << ((place & (per_word(storage) - 1)) * bits);
}
