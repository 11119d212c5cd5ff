// A step of a block of labels: its parameters, and the random bits that round what is stored narrow.

struct StepParams {
    Rates rates;
    u32 rows;         // labels of this launch
    u32 first_label;  // number of its first label
    u32 fan_in;
    u32 index_words;  // words in a row of indices
    u32 weight_words; // words in a row of weights
    u32 moment_words; // words in a row of states
    u32 group;        // labels that share a row of indices
    u32 batch;
    u32 columns;      // batch rounded up to 16
    u32 positives;    // (label, sample) pairs of the batch
    float scale;      // of the gradient
    u32 train_bias;
    u32 seed_low;     // of the roundings
    u32 seed_high;
    u32 step;
};

// Purpose::Rounding of src/random.rs
#define ROUNDING 8

// Sixteen random bits for each of the eight connections of block `block` of a label, two in a word; `tensor` is 0 for
// weights, 1 and 2 for their states.
__device__ inline uint4 rounding_words(const StepParams& p, u32 tensor, u32 row, u32 block) {
    u32 index = (p.first_label + row) * ((p.fan_in + 7) / 8) + block;
    return philox(make_uint4(index, tensor, p.step, ROUNDING), p.seed_low, p.seed_high);
}

// Those of a slot.
__device__ inline u32 bits_of(uint4 words, u32 slot) {
    return (component(words, (slot & 7) / 2) >> ((slot & 1) * 16)) & 0xffff;
}
