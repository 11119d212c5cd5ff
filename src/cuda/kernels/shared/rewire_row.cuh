// What the kernels that give pruned slots new indices have in common: shaders/shared/rewire_row.wgsl. `P` are the
// parameters of either.

// After so many draws the next free index is taken: rows that use nearly all features would draw for long.
#define MAX_DRAWS 32

template <class P> __device__ inline uint4 draw(const P& p, u32 index_row, u32 sub) {
    return philox(make_uint4(p.first_index_row + index_row, sub, p.step, p.purpose), p.seed_low, p.seed_high);
}

// The i-th number below `end` drawn for a slot.
template <class P> __device__ inline u32 drawn_below(const P& p, u32 index_row, u32 slot, u32 i, u32 end) {
    uint4 words = draw(p, index_row, slot * (MAX_DRAWS / 4 + 1) + i / 4);
    return below(component(words, i % 4), end);
}

// No place.
#define NOTHING_BARRED 0xffffffffu

// The features that a slot may take: `count` from `first` on, without the one at place `barred`.
struct Choices {
    u32 first, barred, count;

    __device__ inline u32 at(u32 place) const { return first + place + (place >= barred ? 1 : 0); }
};

// All features of the slot's stratum; with `others_only`, but the one that the slot has.
template <class P>
__device__ inline Choices choices_of(
    const P& p, const IndexRows& index_rows, const u32* row, u32 slot, bool others_only
) {
    u32 first = stratum_start(p.features, p.fan_in, slot);
    u32 size = stratum_start(p.features, p.fan_in, slot + 1) - first;
    if (!others_only) {
        return {first, NOTHING_BARRED, size};
    }
    return {first, index_rows.at(row, slot) - first, size - 1};
}

// Whether the first `end` slots of a row of features in 16 bits have this index.
__device__ inline bool row_has(const u32* row, u32 end, u32 index) {
    for (u32 word = 0; word < end / 2; word++) {
        u32 pair = row[word];
        if ((pair & 0xffff) == index || (pair >> 16) == index) {
            return true;
        }
    }
    return (end & 1) == 1 && (row[end / 2] & 0xffff) == index;
}

__device__ inline bool is_marked(const u32* mask, u32 slot) { return (mask[slot / 32] >> (slot % 32) & 1) == 1; }
