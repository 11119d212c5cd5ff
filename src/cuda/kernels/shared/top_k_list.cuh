// The K best labels of a sample: shaders/shared/top_k_list.wgsl.

// No label: what is left of a list with fewer than K entries.
#define NOTHING 0xffffffffu
#define LOWEST (-3.4028234663852886e38f)

__device__ inline void begin_list(float* scores, u32* labels, u32 k) {
    for (u32 i = 0; i < k; i++) {
        scores[i] = LOWEST;
        labels[i] = NOTHING;
    }
}

__device__ inline bool is_filtered(const u32* offsets, const u32* filter, u32 sample, u32 label) {
    bool found = false;
    for (u32 i = offsets[sample]; i < offsets[sample + 1]; i++) {
        found = found || filter[i] == label;
    }
    return found;
}

// Puts a label into its place of a list, best first; an equal score stays behind.
__device__ inline void enter(float* scores, u32* labels, u32 k, float score, u32 label) {
    u32 place = k - 1;
    while (place > 0 && !(scores[place - 1] >= score)) {
        scores[place] = scores[place - 1];
        labels[place] = labels[place - 1];
        place--;
    }
    scores[place] = score;
    labels[place] = label;
}
