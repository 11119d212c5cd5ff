// What a training step of the fixed fan-in layer fetches of the features: eight samples at a time, two words in a fetch. Who
// imports this has `x`, an array of vec2<u64>: [D, columns].
//!import pairs

// How the features lie in x: 0 f32, 1 f16, two in a word.
const FEATURES: u32 = 0u;

struct Eight { low: vec4<f32>, high: vec4<f32> }

// Eight samples of a feature.
fn fetch(at: u32) -> Eight {
    if FEATURES == 1u {
        let word = words_of(x[at]);
        return Eight(
            vec4<f32>(unpack2x16float(word.x), unpack2x16float(word.y)),
            vec4<f32>(unpack2x16float(word.z), unpack2x16float(word.w)),
        );
    }
    return Eight(bitcast<vec4<f32>>(words_of(x[2u * at])), bitcast<vec4<f32>>(words_of(x[2u * at + 1u])));
}
