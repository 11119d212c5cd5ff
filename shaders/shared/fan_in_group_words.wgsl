// Weights and their states, stored in any way, as the step of groups of labels fetches them: word by word.
//!import random
//!import narrow
//!import fan_in_weights

@group(0) @binding(3) var<storage, read_write> weights: array<u32>; // [rows, weight_words]
@group(0) @binding(5) var<storage, read_write> first: array<u32>;   // [rows, moment_words], if the optimizer has it
@group(0) @binding(6) var<storage, read_write> second: array<u32>;  // [rows, moment_words], if the optimizer has it

// Everything that needs the weights has read them by now.
fn keep_before(at: u32, word: u32) {}

// The weights of eight connections from `begin` on; beyond the last one they are zero.
fn weights_of(row: u32, begin: u32) -> array<f32, 8> {
    var numbers: array<f32, 8>;
    for (var q = 0u; q < 8u; q++) {
        let slot = min(begin + q, params.fan_in - 1u);
        let word = weights[row * params.weight_words + slot / per_word(WEIGHTS)];
        numbers[q] = select(0.0, stored(WEIGHTS, word, slot), begin + q < params.fan_in);
    }
    return numbers;
}
