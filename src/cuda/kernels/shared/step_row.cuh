// What both kernels of a step have in common: the update of a label's weights by a warp, and that of its bias.

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

// A label's weights and their states; what the optimizer does not have is empty.
struct RowTensors { Row weights, first, second; };

__device__ inline RowTensors tensors_of(
    const StepParams& p, u32 optimizer, u32 storage, u32 moments, u32 row, u32* weights, u32* first, u32* second
) {
    RowTensors out;
    out.weights = {storage, weights + row * p.weight_words, p.weight_words};
    out.first = {moments, first + row * p.moment_words, optimizer >= 1 ? p.moment_words : 0};
    out.second = {moments, second + row * p.moment_words, optimizer >= 2 ? p.moment_words : 0};
    return out;
}

// Steps the 32 slots of a label from `chunk` on, of which lane l has the gradient of the l-th; all lanes call it together.
__device__ inline void step_slots(
    const StepParams& p, u32 optimizer, const RowTensors& tensors, u32 row, u32 chunk, float gradient, u32 lane
) {
    u32 slot = chunk + lane;
    bool is_slot = slot < p.fan_in;
    u32 storage = tensors.weights.storage, moments = tensors.first.storage;
    uint4 random = make_uint4(0, 0, 0, 0);
    if (storage > 0 || moments > 0) {
        random = rounding_words(p, lane / 4, row, chunk / 8 + lane % 4);
    }
    u32 weight_word = word_of(tensors.weights, slot);
    u32 first_word = word_of(tensors.first, slot), second_word = word_of(tensors.second, slot);
    float m = stored(moments, first_word, slot), v = stored(moments, second_word, slot);
    Stepped after = step_parameter(optimizer, p.rates, stored(storage, weight_word, slot), gradient, m, v);
    store(tensors.weights, slot, is_slot, weight_word, after.parameter, bits_of_lane(random, 0, lane));
    if (optimizer >= 1) {
        store(tensors.first, slot, is_slot, first_word, after.first, bits_of_lane(random, 1, lane));
    }
    if (optimizer >= 2) {
        store(tensors.second, slot, is_slot, second_word, after.second, bits_of_lane(random, 2, lane));
    }
}

// Steps a label's bias, if biases are trained.
__device__ inline void step_bias_of(
    const StepParams& p, u32 optimizer, u32 row, float gradient, float* bias, float* first, float* second
) {
    if (p.train_bias == 1) {
        Rates rates = p.rates;
        rates.decay = 0.0f;
        rates.keep = 1.0f;
        step_bias(optimizer, rates, row, gradient, bias, first, second);
    }
}
