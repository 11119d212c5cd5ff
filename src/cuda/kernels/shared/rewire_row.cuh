// What the kernels that give pruned slots new indices have in common: shaders/shared/rewire_row.wgsl. `P` are the
// parameters of either.

// After so many draws the next free index is taken: rows that use nearly all features would draw for long.
#define MAX_DRAWS 32

template <class P> __device__ inline uint4 draw(const P& p, u32 index_row, u32 sub) {
    return philox(make_uint4(p.first_index_row + index_row, sub, p.step, p.purpose), p.seed_low, p.seed_high);
}

// The i-th index drawn for a slot.
template <class P> __device__ inline u32 drawn_index(const P& p, u32 index_row, u32 slot, u32 i) {
    uint4 words = draw(p, index_row, slot * (MAX_DRAWS / 4 + 1) + i / 4);
    return below(component(words, i % 4), p.features);
}

__device__ inline u32 index_at(const u32* row, u32 slot) { return index_in(row[slot / 2], slot); }

__device__ inline void set_index(u32* row, u32 slot, u32 index) {
    u32 shift = (slot & 1) * 16;
    row[slot / 2] = (row[slot / 2] & ~(0xffffu << shift)) | (index << shift);
}

// Whether the first `end` slots of the row have this index.
__device__ inline bool row_has(const u32* row, u32 end, u32 index) {
    for (u32 word = 0; word < end / 2; word++) {
        u32 pair = row[word];
        if ((pair & 0xffff) == index || (pair >> 16) == index) {
            return true;
        }
    }
    return (end & 1) == 1 && index_at(row, end - 1) == index;
}

__device__ inline bool is_marked(const u32* mask, u32 slot) { return (mask[slot / 32] >> (slot % 32) & 1) == 1; }
