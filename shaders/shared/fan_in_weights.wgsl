// The optimizer's step of stored weights, eight connections of a label at a time. Who imports this has `weights`, `first`
// and `second`, and a function keep_before(at, word) that gets each word of weights as it was.

// Purpose::Rounding of src/random.rs
const ROUNDING: u32 = 8u;

// Sixteen random bits for each of eight connections of a label; `tensor` is 0 for weights, 1 and 2 for their states.
fn random_bits(tensor: u32, row: u32, slot: u32) -> vec4<u32> {
    let block = (params.first_label + row) * ((params.fan_in + 7u) / 8u) + slot / 8u;
    return philox(vec4<u32>(block, tensor, params.step, ROUNDING), vec2<u32>(params.seed_low, params.seed_high));
}

fn bits_of(words: vec4<u32>, slot: u32) -> u32 {
    return (words[(slot & 7u) / 2u] >> ((slot & 1u) * 16u)) & 0xffffu;
}

// One optimizer step of eight connections from `begin` on, as many of them as there are.
fn step_weights(row: u32, begin: u32, gradients: array<f32, 8>) {
    var step_by = gradients;
    var weight_bits = vec4<u32>(0u);
    var first_bits = vec4<u32>(0u);
    var second_bits = vec4<u32>(0u);
    if WEIGHTS > 0u { weight_bits = random_bits(0u, row, begin); }
    if MOMENTS > 0u && OPTIMIZER >= 1u { first_bits = random_bits(1u, row, begin); }
    if MOMENTS > 0u && OPTIMIZER >= 2u { second_bits = random_bits(2u, row, begin); }
    for (var i = 0u; i < 8u; i++) {
        let slot = begin + i;
        if slot < params.fan_in {
            let at = row * params.weight_words + slot / per_word(WEIGHTS);
            let state = row * params.moment_words + slot / per_word(MOMENTS);
            let word = weights[at];
            if slot % per_word(WEIGHTS) == 0u { keep_before(at, word); }
            var m = 0.0;
            var v = 0.0;
            if OPTIMIZER >= 1u { m = stored(MOMENTS, first[state], slot); }
            if OPTIMIZER >= 2u { v = stored(MOMENTS, second[state], slot); }
            let after = optimizer_step(params.rates, stored(WEIGHTS, word, slot), step_by[i], m, v);
            let code = rounded(WEIGHTS, after.x, slot, bits_of(weight_bits, slot));
            weights[at] = (word & ~place_mask(WEIGHTS, slot)) | code;
            if OPTIMIZER >= 1u {
                let code = rounded(MOMENTS, after.y, slot, bits_of(first_bits, slot));
                first[state] = (first[state] & ~place_mask(MOMENTS, slot)) | code;
            }
            if OPTIMIZER >= 2u {
                let code = rounded(MOMENTS, after.z, slot, bits_of(second_bits, slot));
                second[state] = (second[state] & ~place_mask(MOMENTS, slot)) | code;
            }
        }
    }
}
