// What the step of groups of labels fetches and stores of samples, in fetches of four times 64 bits: software Vulkan goes from
// lane to lane for each fetch, however wide.
//!import eight
//!import pairs

@group(0) @binding(0) var<storage, read> x: array<vec4<u64>>;              // [D, columns]
@group(0) @binding(9) var<storage, read_write> dlogits: array<vec4<u64>>;  // [parts, group, columns]
@group(0) @binding(10) var<storage, read_write> partial: array<vec4<u64>>; // [parts, D, columns]

fn eight_of(pairs: vec4<u64>) -> Eight {
    return Eight(bitcast<vec4<f32>>(words_of(pairs.xy)), bitcast<vec4<f32>>(words_of(pairs.zw)));
}

fn pairs_of_eight(low: vec4<f32>, high: vec4<f32>) -> vec4<u64> {
    return vec4<u64>(pairs_of(bitcast<vec4<u32>>(low)), pairs_of(bitcast<vec4<u32>>(high)));
}

// Eight samples of a feature; a fetch has sixteen in f16.
fn fetch(at: u32) -> Eight {
    if FEATURES == 1u {
        let sixteen = x[at / 2u];
        return halves(words_of(select(sixteen.xy, sixteen.zw, at % 2u == 1u)));
    }
    return eight_of(x[at]);
}

fn gradients_of(at: u32) -> Eight {
    return eight_of(dlogits[at]);
}

fn store_gradients(at: u32, low: vec4<f32>, high: vec4<f32>) {
    dlogits[at] = pairs_of_eight(low, high);
}

fn add_to_features(at: u32, low: vec4<f32>, high: vec4<f32>) {
    let before = eight_of(partial[at]);
    partial[at] = pairs_of_eight(before.low + low, before.high + high);
}
