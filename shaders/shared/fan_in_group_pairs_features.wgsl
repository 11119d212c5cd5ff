// Features as the step of groups of labels fetches them from a buffer, in fetches of four times 64 bits.
//!import fan_in_group_pairs

@group(0) @binding(0) var<storage, read> x: array<vec4<u64>>; // [D, columns]

// Eight samples of a feature; a fetch has sixteen in f16.
fn fetch(feature: u32, eight: u32) -> Eight {
    let at = feature * (params.columns / 8u) + eight;
    if FEATURES == 1u {
        let sixteen = x[at / 2u];
        return halves(words_of(select(sixteen.xy, sixteen.zw, at % 2u == 1u)));
    }
    return eight_of(x[at]);
}
