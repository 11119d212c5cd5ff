// What the kernels that give pruned slots new indices have in common: the numbers drawn for a row of indices, and the
// row itself. `params` and `indices` are theirs.
//!import fan_in

// 1: slot f may only point into the f-th of F strata of the features
const STRATIFIED: u32 = 0u;

// After so many draws the next free index is taken: rows that use nearly all features would draw for long.
const MAX_DRAWS: u32 = 32u;

fn draw(index_row: u32, sub: u32) -> vec4<u32> {
    let counter = vec4<u32>(params.first_index_row + index_row, sub, params.step, params.purpose);
    return philox(counter, vec2<u32>(params.seed_low, params.seed_high));
}

// The i-th index drawn for a slot.
fn drawn_index(index_row: u32, slot: u32, i: u32) -> u32 {
    return drawn_below(index_row, slot, i, params.features);
}

fn drawn_below(index_row: u32, slot: u32, i: u32, end: u32) -> u32 {
    return below(draw(index_row, slot * (MAX_DRAWS / 4u + 1u) + i / 4u)[i % 4u], end);
}

// The features that a slot may take: `count` from `first` on, without the one at place `barred`.
struct Choices { first: u32, barred: u32, count: u32 }

// No place.
const NOTHING_BARRED: u32 = 0xffffffffu;

// Where the stratum of a slot begins; behind the last slot, the number of features.
fn stratum_start(slot: u32) -> u32 {
    if slot >= params.fan_in { return params.features; }
    return slot * params.features / params.fan_in;
}

// All features of the slot's stratum; with `others_only`, but the one that the slot has.
fn choices_of(index_row: u32, slot: u32, others_only: bool) -> Choices {
    let first = stratum_start(slot);
    let size = stratum_start(slot + 1u) - first;
    if !others_only { return Choices(first, NOTHING_BARRED, size); }
    return Choices(first, index_at(index_row, slot) - first, size - 1u);
}

fn choice_at(choices: Choices, place: u32) -> u32 {
    return choices.first + place + select(0u, 1u, place >= choices.barred);
}

fn index_at(index_row: u32, slot: u32) -> u32 {
    return index_in(indices[index_row * params.index_words + index_word(slot)], slot);
}

fn set_index(index_row: u32, slot: u32, index: u32) {
    let at = index_row * params.index_words + index_word(slot);
    indices[at] = with_index(indices[at], slot, index);
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
