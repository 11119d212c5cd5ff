// Dropout without a stored mask: an element's fate is a function of the seed, the step, the stream and its number.
//!import random

struct Dropout {
    drop_below: u32, // a word below this drops: p * 2^32; 0: no dropout
    scale: f32,      // 1 / (1 - p)
    step: u32,
    stream: u32,     // which of the model's dropouts
    seed_low: u32,
    seed_high: u32,
}

// Purpose::Dropout of src/random.rs
const DROPOUT: u32 = 4u;

// The words of the elements 4 * index .. 4 * index + 3.
fn dropout_words(dropout: Dropout, index: u32) -> vec4<u32> {
    let counter = vec4<u32>(index, dropout.stream, dropout.step, DROPOUT);
    return philox(counter, vec2<u32>(dropout.seed_low, dropout.seed_high));
}

// A value after dropout, by the element's word.
fn dropped(dropout: Dropout, value: f32, word: u32) -> f32 {
    return select(value * dropout.scale, 0.0, word < dropout.drop_below);
}

// A value after dropout, by the element's number.
fn dropped_element(dropout: Dropout, value: f32, element: u32) -> f32 {
    if dropout.drop_below == 0u {
        return value;
    }
    return dropped(dropout, value, dropout_words(dropout, element / 4u)[element % 4u]);
}
