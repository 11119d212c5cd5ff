// What a training step of the fixed fan-in layer fetches of the features: eight samples at a time. Who imports this has
// `x`, an array of vec4<u32>: [D, columns].
//!import eight

// Eight samples of a feature.
fn fetch(at: u32) -> Eight {
    if FEATURES == 1u { return halves(x[at]); }
    return Eight(bitcast<vec4<f32>>(x[2u * at]), bitcast<vec4<f32>>(x[2u * at + 1u]));
}
