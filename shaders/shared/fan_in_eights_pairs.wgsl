// What a training step of the fixed fan-in layer fetches of the features: eight samples at a time, two words in a fetch. Who
// imports this has `x`, an array of vec2<u64>: [D, columns].
//!import eight
//!import pairs

// Eight samples of a feature.
fn fetch(at: u32) -> Eight {
    if FEATURES == 1u { return halves(words_of(x[at])); }
    return Eight(bitcast<vec4<f32>>(words_of(x[2u * at])), bitcast<vec4<f32>>(words_of(x[2u * at + 1u])));
}
