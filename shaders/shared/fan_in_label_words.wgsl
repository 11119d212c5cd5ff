// Weights and their states, stored in any way, and indices, as the step of labels fetches them: word by word.
//!import random
//!import narrow
//!import fan_in_weights

@group(0) @binding(1) var<storage, read> indices: array<u32>;       // [rows / group, index_words]
@group(0) @binding(3) var<storage, read_write> weights: array<u32>; // [rows, weight_words]
@group(0) @binding(5) var<storage, read_write> first: array<u32>;   // [rows, moment_words], if the optimizer has it
@group(0) @binding(6) var<storage, read_write> second: array<u32>;  // [rows, moment_words], if the optimizer has it
@group(0) @binding(10) var<storage, read_write> before: array<u32>; // [rows, weight_words], before the step

// The features' gradient needs the weights as they were.
fn keep_before(at: u32, word: u32) {
    before[at] = word;
}

fn feature_of(row: u32, slot: u32) -> u32 {
    return index_in(indices[(row / params.group) * params.index_words + index_word(slot)], slot);
}

fn weight_of(row: u32, slot: u32) -> f32 {
    return stored(WEIGHTS, weights[row * params.weight_words + slot / per_word(WEIGHTS)], slot);
}
