// What the kernels of the fixed fan-in layer have in common, the same as src/kernels/storage/indices.rs.
//
// Features lie transposed, x[D][columns], columns = batch rounded up to 16 with zeros: one index fetches a run of
// samples. Rows of indices begin at a word. An index is a feature in 16 bits, or, where slot f looks at the f-th of F
// narrow strata of the features, an offset in 8 bits from floor(f * D / F), where its stratum begins.

// D, where indices are offsets; 0: they are features
const STRATIFIED_FEATURES: u32 = 0u;
// F, where indices are offsets
const STRATA: u32 = 1u;

const INDEX_BITS: u32 = select(8u, 16u, STRATIFIED_FEATURES == 0u);
const INDICES_IN_WORD: u32 = 32u / INDEX_BITS;
const LARGEST_CODE: u32 = 0xffffffffu >> (32u - INDEX_BITS);

// The feature that the code 0 of a slot stands for.
fn first_feature(slot: u32) -> u32 {
    if STRATIFIED_FEATURES == 0u { return 0u; }
    return slot * STRATIFIED_FEATURES / STRATA;
}

// The word of a row in which the index of a slot is.
fn index_word(slot: u32) -> u32 {
    return slot / INDICES_IN_WORD;
}

fn index_shift(slot: u32) -> u32 {
    return (slot % INDICES_IN_WORD) * INDEX_BITS;
}

// The index of a slot, which is in `word`: a feature.
fn index_in(word: u32, slot: u32) -> u32 {
    return ((word >> index_shift(slot)) & LARGEST_CODE) + first_feature(slot);
}

// The word with another index in a slot.
fn with_index(word: u32, slot: u32, index: u32) -> u32 {
    let shift = index_shift(slot);
    return (word & ~(LARGEST_CODE << shift)) | ((index - first_feature(slot)) << shift);
}
