// What the kernels that give pruned slots new indices have in common: the numbers drawn for a row of indices, and the
// row itself. `params` and `indices` are theirs.

// After so many draws the next free index is taken: rows that use nearly all features would draw for long.
const MAX_DRAWS: u32 = 32u;

fn draw(index_row: u32, sub: u32) -> vec4<u32> {
    let counter = vec4<u32>(params.first_index_row + index_row, sub, params.step, params.purpose);
    return philox(counter, vec2<u32>(params.seed_low, params.seed_high));
}

// The i-th index drawn for a slot.
fn drawn_index(index_row: u32, slot: u32, i: u32) -> u32 {
    return below(draw(index_row, slot * (MAX_DRAWS / 4u + 1u) + i / 4u)[i % 4u], params.features);
}

fn index_at(index_row: u32, slot: u32) -> u32 {
    return (indices[index_row * params.index_words + slot / 2u] >> ((slot & 1u) * 16u)) & 0xffffu;
}

fn set_index(index_row: u32, slot: u32, index: u32) {
    let at = index_row * params.index_words + slot / 2u;
    let shift = (slot & 1u) * 16u;
    indices[at] = (indices[at] & ~(0xffffu << shift)) | (index << shift);
}

// Whether the first `end` slots of the row have this index.
fn row_has(index_row: u32, end: u32, index: u32) -> bool {
    let base = index_row * params.index_words;
    for (var word = 0u; word < end / 2u; word++) {
        let pair = indices[base + word];
        if (pair & 0xffffu) == index || (pair >> 16u) == index {
            return true;
        }
    }
    return (end & 1u) == 1u && index_at(index_row, end - 1u) == index;
}
