// Weights and their states, which lie in f32, fetched and stored eight at a time, in fetches of four times 64 bits; the fan-in
// is a multiple of eight. Who imports this has a function keep_before(at, pairs) that gets each eight of weights as it was,
// and the import `pairs`.

// How weights and their states are stored: see narrow.wgsl. Always in f32.
const WEIGHTS: u32 = 0u;
const MOMENTS: u32 = 0u;

@group(0) @binding(3) var<storage, read_write> weights: array<vec4<u64>>; // [rows, weight_words]
// Narrower, since a binding has room for an element at least, and these are empty for some optimizers.
@group(0) @binding(5) var<storage, read_write> first: array<vec2<u64>>;   // [rows, moment_words], if the optimizer has it
@group(0) @binding(6) var<storage, read_write> second: array<vec2<u64>>;  // [rows, moment_words], if the optimizer has it

fn numbers_of(pairs: vec4<u64>) -> array<f32, 8> {
    let low = bitcast<vec4<f32>>(words_of(pairs.xy));
    let high = bitcast<vec4<f32>>(words_of(pairs.zw));
    return array<f32, 8>(low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w);
}

fn pairs_of_numbers(n: array<f32, 8>) -> vec4<u64> {
    let low = bitcast<vec4<u32>>(vec4<f32>(n[0], n[1], n[2], n[3]));
    let high = bitcast<vec4<u32>>(vec4<f32>(n[4], n[5], n[6], n[7]));
    return vec4<u64>(pairs_of(low), pairs_of(high));
}

// The weights of eight connections from `begin` on.
fn weights_of(row: u32, begin: u32) -> array<f32, 8> {
    return numbers_of(weights[(row * params.weight_words + begin) / 8u]);
}

// One optimizer step of eight connections from `begin` on, if there are such.
fn step_weights(row: u32, begin: u32, gradients: array<f32, 8>) {
    if begin < params.fan_in {
        let at = (row * params.weight_words + begin) / 8u;
        var g = gradients;
        let before = weights[at];
        keep_before(at, before);
        var w = numbers_of(before);
        var m: array<f32, 8>;
        var v: array<f32, 8>;
        if OPTIMIZER >= 1u { m = numbers_of(vec4<u64>(first[2u * at], first[2u * at + 1u])); }
        if OPTIMIZER >= 2u { v = numbers_of(vec4<u64>(second[2u * at], second[2u * at + 1u])); }
        for (var i = 0u; i < 8u; i++) {
            let after = optimizer_step(params.rates, w[i], g[i], m[i], v[i]);
            w[i] = after.x;
            m[i] = after.y;
            v[i] = after.z;
        }
        weights[at] = pairs_of_numbers(w);
        if OPTIMIZER >= 1u {
            let pairs = pairs_of_numbers(m);
            first[2u * at] = pairs.xy;
            first[2u * at + 1u] = pairs.zw;
        }
        if OPTIMIZER >= 2u {
            let pairs = pairs_of_numbers(v);
            second[2u * at] = pairs.xy;
            second[2u * at + 1u] = pairs.zw;
        }
    }
}
