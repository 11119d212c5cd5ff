// What the kernels of the fixed fan-in layer have in common.
//
// Features lie transposed, x[D][columns], columns = batch rounded up to 16 with zeros: one index fetches a run of
// samples. Indices are 16 bits wide, two in a word, each row starting at a word.

// The index in slot `slot` of a row of indices that begins at word `base`.
fn index_in(word: u32, slot: u32) -> u32 {
    return (word >> ((slot & 1u) * 16u)) & 0xffffu;
}
