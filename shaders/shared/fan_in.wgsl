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
// floor(D / F)
const STRATUM: u32 = STRATIFIED_FEATURES / STRATA;

// The feature that the code 0 of a slot stands for.
fn first_feature(slot: u32) -> u32 {
    if STRATIFIED_FEATURES == 0u { return 0u; }
    // Without a division where strata are of one width: drivers do it for each invocation.
    if STRATIFIED_FEATURES == STRATUM * STRATA { return slot * STRATUM; }
    return slot * STRATIFIED_FEATURES / STRATA;
}

// The word of a row in which the index of a slot is.
fn index_word(slot: u32) -> u32 {
    return slot / INDICES_IN_WORD;
}

// The index of a slot, which is at `place` of `word`: a feature.
fn index_at_place(word: u32, place: u32, slot: u32) -> u32 {
    return ((word >> (place * INDEX_BITS)) & LARGEST_CODE) + first_feature(slot);
}

// The index of a slot, which is in `word`.
fn index_in(word: u32, slot: u32) -> u32 {
    return index_at_place(word, slot % INDICES_IN_WORD, slot);
}

// The word with another index in a slot.
fn with_index(word: u32, slot: u32, index: u32) -> u32 {
    let shift = (slot % INDICES_IN_WORD) * INDEX_BITS;
    return (word & ~(LARGEST_CODE << shift)) | ((index - first_feature(slot)) << shift);
}
