// Pruned connections grow again elsewhere: a new index, drawn at random among those that the row does not have, a
// new weight (zero, or uniform within +-bound), and optimizer states of zero. The bias and other slots stay as they
// are, bit for bit. The first wiring of a layer is the same with every slot pruned. In a stratified row the new index is
// drawn from the slot's own stratum, where no other slot looks.
//
// An invocation owns one row of indices, and of it the slots from first_slot to before end_slot; the numbers drawn depend on the row's number in the whole layer alone.
//!import linear
//!import random
//!import narrow
//!import rewire_row

// how many states the optimizer keeps for a weight
const STATES: u32 = 2u;
// 1: indices are drawn here; 0: pruned slots have their new ones already
const DRAW: u32 = 1u;
const WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,            // labels of this block
    index_rows: u32,
    first_index_row: u32, // number of the block's first row of indices in the layer
    fan_in: u32,
    index_words: u32,     // words in a row of indices
    weight_words: u32,    // words in a row of weights
    moment_words: u32,    // words in a row of the optimizer's states
    mask_words: u32,      // words in a row of the mask
    group: u32,           // labels that share a row of indices
    features: u32,        // D
    bound: f32,           // 0: new weights are zero
    step: u32,
    purpose: u32,         // Purpose of src/random.rs
    first_wiring: u32,    // 1: what the row holds is nothing yet
    seed_low: u32,
    seed_high: u32,
    first_slot: u32,      // 0: this launch also counts
    end_slot: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> mask: array<u32>;                   // [index_rows, mask_words]
@group(0) @binding(1) var<storage, read_write> regrown: array<u32>;          // the mask of the last rewiring
@group(0) @binding(2) var<storage, read_write> weights: array<u32>;          // [rows, weight_words]
@group(0) @binding(3) var<storage, read_write> indices: array<u32>;          // [index_rows, index_words]
@group(0) @binding(4) var<storage, read_write> first: array<u32>;            // [rows, moment_words], if the optimizer has it
@group(0) @binding(5) var<storage, read_write> second: array<u32>;           // [rows, moment_words], if the optimizer has it
@group(0) @binding(6) var<storage, read_write> counts: array<atomic<u32>>;   // pruned, pruned again, regrown

// Bits that round to the nearest.
const NEAREST: u32 = 0x8000u;

// An index that the row does not have. With every index in use, the slot keeps its own.
fn fresh_index(index_row: u32, slot: u32) -> u32 {
    if STRATIFIED == 1u { return fresh_in_stratum(index_row, slot); }
    let end = select(params.fan_in, slot, params.first_wiring == 1u);
    var candidate = 0u;
    for (var i = 0u; i < MAX_DRAWS; i++) {
        candidate = drawn_index(index_row, slot, i);
        if !row_has(index_row, end, candidate) {
            return candidate;
        }
    }
    for (var i = 0u; i < params.features; i++) {
        candidate = select(candidate + 1u, 0u, candidate + 1u >= params.features);
        if !row_has(index_row, end, candidate) {
            return candidate;
        }
    }
    return index_at(index_row, slot);
}

// A feature of the slot's stratum, not the one that it has; the only one there is stays.
fn fresh_in_stratum(index_row: u32, slot: u32) -> u32 {
    let choices = choices_of(index_row, slot, params.first_wiring == 0u);
    if choices.count == 0u { return choices.first; }
    return choice_at(choices, drawn_below(index_row, slot, 0u, choices.count));
}

// Adds the row to the counts; its mask becomes the one of the last rewiring.
fn count_slots(index_row: u32) {
    var pruned = 0u;
    var again = 0u;
    for (var word = 0u; word < params.mask_words; word++) {
        let at = index_row * params.mask_words + word;
        pruned += countOneBits(mask[at]);
        again += countOneBits(mask[at] & regrown[at]);
        regrown[at] = mask[at];
    }
    if pruned > 0u {
        atomicAdd(&counts[0], pruned);
        atomicAdd(&counts[1], again);
        atomicAdd(&counts[2], pruned);
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let index_row = lane_of(workgroup, grid, WORKGROUP, local);
    if index_row >= params.index_rows {
        return;
    }
    if params.first_slot == 0u {
        count_slots(index_row);
    }
    let first_row = index_row * params.group;
    let end_row = min(first_row + params.group, params.rows);
    for (var slot = params.first_slot; slot < params.end_slot; slot++) {
        if (mask[index_row * params.mask_words + slot / 32u] >> (slot % 32u) & 1u) == 0u {
            continue;
        }
        if DRAW == 1u { set_index(index_row, slot, fresh_index(index_row, slot)); }
        for (var row = first_row; row < end_row; row++) {
            var weight = 0.0;
            if params.bound > 0.0 {
                let member = (row - first_row) * params.fan_in + slot;
                let words = draw(index_row, 0x80000000u + member / 4u);
                weight = params.bound * (2.0 * unit(words[member % 4u]) - 1.0);
            }
            let at = row * params.weight_words + slot / per_word(WEIGHTS);
            weights[at] = (weights[at] & ~place_mask(WEIGHTS, slot)) | rounded(WEIGHTS, weight, slot, NEAREST);
            let state = row * params.moment_words + slot / per_word(MOMENTS);
            if STATES >= 1u { first[state] &= ~place_mask(MOMENTS, slot); }
            if STATES >= 2u { second[state] &= ~place_mask(MOMENTS, slot); }
        }
    }
}
