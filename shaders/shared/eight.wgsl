// Eight samples of a feature, as a training step of the fixed fan-in layer fetches them.

// How the features lie in x: 0 f32, 1 f16, two in a word.
const FEATURES: u32 = 0u;

struct Eight { low: vec4<f32>, high: vec4<f32> }

// Eight samples that lie in f16.
fn halves(words: vec4<u32>) -> Eight {
    return Eight(
        vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y)),
        vec4<f32>(unpack2x16float(words.z), unpack2x16float(words.w)),
    );
}
