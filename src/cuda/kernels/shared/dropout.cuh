// Dropout without a stored mask: shaders/shared/dropout.wgsl.

struct Dropout {
    u32 drop_below; // a word below this drops: p * 2^32; 0: no dropout
    float scale;    // 1 / (1 - p)
    u32 step;
    u32 stream;     // which of the model's dropouts
    u32 seed_low;
    u32 seed_high;
    u32 unused[2];
};

// Purpose::Dropout of src/random.rs
#define DROPOUT 4

// A value after dropout, by the element's number.
__device__ inline float dropped_element(const Dropout& dropout, float value, u32 element) {
    if (dropout.drop_below == 0) {
        return value;
    }
    uint4 counter = make_uint4(element / 4, dropout.stream, dropout.step, DROPOUT);
    u32 word = component(philox(counter, dropout.seed_low, dropout.seed_high), element % 4);
    return word < dropout.drop_below ? 0.0f : value * dropout.scale;
}
