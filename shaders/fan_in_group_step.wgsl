// The step of groups of labels, with fetches of 32 bits.
//!import fan_in_group_step
//!import fan_in_group_words
//!import eight

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;              // [D, columns]
@group(0) @binding(9) var<storage, read_write> dlogits: array<vec4<f32>>;  // [parts, group, columns]
@group(0) @binding(10) var<storage, read_write> partial: array<vec4<f32>>; // [parts, D, columns]

// Eight samples of a feature.
fn fetch(feature: u32, eight: u32) -> Eight {
    let at = feature * (params.columns / 8u) + eight;
    if FEATURES == 1u { return halves(x[at]); }
    return Eight(bitcast<vec4<f32>>(x[2u * at]), bitcast<vec4<f32>>(x[2u * at + 1u]));
}

fn gradients_of(at: u32) -> Eight {
    return Eight(dlogits[2u * at], dlogits[2u * at + 1u]);
}

fn store_gradients(at: u32, low: vec4<f32>, high: vec4<f32>) {
    dlogits[2u * at] = low;
    dlogits[2u * at + 1u] = high;
}

fn add_to_features(at: u32, low: vec4<f32>, high: vec4<f32>) {
    partial[2u * at] += low;
    partial[2u * at + 1u] += high;
}
