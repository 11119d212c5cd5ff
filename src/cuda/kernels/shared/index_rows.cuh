// How rows of indices lie in words: shaders/shared/fan_in.wgsl.
//
// An index is a feature in 16 bits, or, where slot f looks at the f-th of F narrow strata of the features, an offset in 8
// bits from floor(f * D / F), where its stratum begins. Each row starts at a word.

struct IndexRows {
    u32 features; // D, where indices are offsets; 0: they are features
    u32 strata;   // F, where indices are offsets

    // The feature that the code 0 of a slot stands for.
    __device__ inline u32 first_feature(u32 slot) const {
        u32 width = features / strata;
        // Without a division for each slot where strata are of one width.
        return features == width * strata ? slot * width : slot * features / strata;
    }

    // The index in a slot of a row.
    __device__ inline u32 at(const u32* row, u32 slot) const {
        if (features == 0) {
            return (row[slot / 2] >> (slot % 2 * 16)) & 0xffff;
        }
        return ((row[slot / 4] >> (slot % 4 * 8)) & 0xff) + first_feature(slot);
    }

    // Puts an index into a slot of a row.
    __device__ inline void put(u32* row, u32 slot, u32 index) const {
        u32 bits = features == 0 ? 16 : 8;
        u32 shift = slot % (32 / bits) * bits;
        u32 code = features == 0 ? index : index - first_feature(slot);
        u32* word = row + slot / (32 / bits);
        *word = (*word & ~(((1u << bits) - 1) << shift)) | (code << shift);
    }
};

// Where the stratum of a slot begins, of `fan_in` strata of `features`; behind the last slot, the number of features.
__device__ inline u32 stratum_start(u32 features, u32 fan_in, u32 slot) {
    return slot >= fan_in ? features : slot * features / fan_in;
}
