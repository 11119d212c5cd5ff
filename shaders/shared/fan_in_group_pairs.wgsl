// What the step of groups of labels fetches and stores of logit gradients and of what it sends back, in fetches of four times
// 64 bits: software Vulkan goes from lane to lane for each fetch, however wide.
//!import eight
//!import pairs

@group(0) @binding(9) var<storage, read_write> dlogits: array<vec4<u64>>;  // [parts, group, columns]
@group(0) @binding(10) var<storage, read_write> partial: array<vec4<u64>>; // [parts, D, columns]

fn eight_of(pairs: vec4<u64>) -> Eight {
    return Eight(bitcast<vec4<f32>>(words_of(pairs.xy)), bitcast<vec4<f32>>(words_of(pairs.zw)));
}

fn pairs_of_eight(low: vec4<f32>, high: vec4<f32>) -> vec4<u64> {
    return vec4<u64>(pairs_of(bitcast<vec4<u32>>(low)), pairs_of(bitcast<vec4<u32>>(high)));
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
