// New indices of pruned slots by the gradient that a connection would have: RigL's growth without its dense gradient.
// For each slot `candidates` different features that the row does not have are drawn, as rewire_regrow draws them; the
// one with the largest
//
//   sum over the labels of the row of |sum_b dlogits[l,b] * x[b, d]|
//
// becomes the slot's index, among equals the one drawn first. Slots take their turns in order, so that no two of a row
// choose the same feature. In stratified rows all candidates are from the slot's own stratum. Weights and states are
// rewire_regrow's.
//
// An invocation owns one row of indices, and of it the slots from first_slot to before end_slot.
//!import linear
//!import random
//!import rewire_row

const WORKGROUP: u32 = 64u;
const MAX_CANDIDATES: u32 = 32u;

struct Params {
    rows: u32,            // labels of this block
    index_rows: u32,
    first_index_row: u32, // number of the block's first row of indices in the layer
    fan_in: u32,
    index_words: u32,     // words in a row of indices
    mask_words: u32,      // words in a row of the mask
    group: u32,           // labels that share a row of indices
    features: u32,        // D
    columns: u32,         // batch rounded up to 16
    candidates: u32,      // 1 to MAX_CANDIDATES
    first_slot: u32,
    end_slot: u32,
    step: u32,
    purpose: u32,         // Purpose of src/random.rs
    seed_low: u32,
    seed_high: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> mask: array<u32>;            // [index_rows, mask_words]
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // [D, columns]
@group(0) @binding(2) var<storage, read> dlogits: array<vec4<f32>>;   // [rows, columns]
@group(0) @binding(3) var<storage, read_write> indices: array<u32>;   // [index_rows, index_words]

var<private> candidates: array<u32, MAX_CANDIDATES>;
var<private> found: u32;

// Takes the index as a candidate, unless the row has it or it is one already. No other slot looks at the features of a
// stratum.
fn offer(index_row: u32, index: u32) {
    var known = false;
    if STRATIFIED == 0u { known = row_has(index_row, params.fan_in, index); }
    for (var i = 0u; i < found; i++) {
        if candidates[i] == index {
            known = true;
        }
    }
    if !known {
        candidates[found] = index;
        found++;
    }
}

// Draws the candidates of a slot; with fewer free features than are wanted, all of them.
fn find_candidates(index_row: u32, slot: u32) {
    var free = select(1u, params.features - params.fan_in, params.features > params.fan_in);
    var choices = Choices(0u, NOTHING_BARRED, params.features);
    if STRATIFIED == 1u {
        choices = choices_of(index_row, slot, true);
        free = choices.count;
    }
    let wanted = min(params.candidates, free);
    found = 0u;
    var place = 0u;
    for (var i = 0u; i < MAX_DRAWS && found < wanted; i++) {
        place = drawn_below(index_row, slot, i, choices.count);
        offer(index_row, choice_at(choices, place));
    }
    for (var i = 0u; i < choices.count && found < wanted; i++) {
        place = select(place + 1u, 0u, place + 1u >= choices.count);
        offer(index_row, choice_at(choices, place));
    }
}

// The magnitude of the gradient that the row's connections to a feature would have.
fn strength_of(index_row: u32, index: u32) -> f32 {
    let quads = params.columns / 4u;
    let first_row = index_row * params.group;
    let end_row = min(first_row + params.group, params.rows);
    var strength = 0.0;
    for (var row = first_row; row < end_row; row++) {
        var sum = vec4<f32>(0.0);
        for (var quad = 0u; quad < quads; quad++) {
            sum += dlogits[row * quads + quad] * x[index * quads + quad];
        }
        strength += abs(dot(sum, vec4<f32>(1.0)));
    }
    return strength;
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
    for (var slot = params.first_slot; slot < params.end_slot; slot++) {
        if (mask[index_row * params.mask_words + slot / 32u] >> (slot % 32u) & 1u) == 0u {
            continue;
        }
        find_candidates(index_row, slot);
        // With every feature in use, the slot keeps its own.
        if found == 0u {
            continue;
        }
        var chosen = candidates[0];
        var strongest = strength_of(index_row, chosen);
        for (var i = 1u; i < found; i++) {
            let strength = strength_of(index_row, candidates[i]);
            if strength > strongest {
                strongest = strength;
                chosen = candidates[i];
            }
        }
        set_index(index_row, slot, chosen);
    }
}
