// The step of labels whose features lie in tiles, uniform buffers; logit gradients go to such tiles, too.
//!import fan_in_label
//!import uniform_tiles

// The fan-in, if what a label fetches of four samples shall stay where its gradient finds it again; 0: fetch it twice.
const KEPT: u32 = 0u;
const SLOTS: u32 = max(KEPT, 1u);
// columns / 16
const TILES: u32 = 1u;
const QUADS: u32 = 4u * TILES;

@group(0) @binding(0) var<uniform> tile0: array<vec2<u64>, 4096>;
@group(0) @binding(12) var<uniform> tile1: array<vec2<u64>, 4096>;
@group(0) @binding(13) var<uniform> tile2: array<vec2<u64>, 4096>;
@group(0) @binding(14) var<uniform> tile3: array<vec2<u64>, 4096>;
@group(0) @binding(15) var<uniform> tile4: array<vec2<u64>, 4096>;
@group(0) @binding(16) var<uniform> tile5: array<vec2<u64>, 4096>;
@group(0) @binding(17) var<uniform> tile6: array<vec2<u64>, 4096>;
@group(0) @binding(18) var<uniform> tile7: array<vec2<u64>, 4096>;

// The row's place in the tile of its samples.
fn quad_place(row: u32, quad: u32) -> u32 {
    return (quad / 4u) * 4096u + row * 4u + quad % 4u;
}

// A label's sixteen samples of a tile.
fn step_tile(
    tile: u32,
    label: ptr<function, Label>,
    at: ptr<function, array<u32, SLOTS>>,
    w: ptr<function, array<f32, SLOTS>>,
    sums: ptr<function, array<f32, SLOTS>>,
) {
    let start = bias[(*label).row];
    var bits = positive_bits(label, tile * 16u);
    // Four rounds, which no compiler knows: unrolled, they would not stay in the processor's cache of instructions.
    for (var quad = 0u; quad < params.columns / (4u * TILES); quad++) {
        var x: array<vec4<f32>, SLOTS>;
        var z = vec4<f32>(start);
        for (var f = 0u; f < SLOTS; f++) {
            x[f] = in_tile(tile, (*at)[f] + quad);
            z += (*w)[f] * x[f];
        }
        let g = finish(label, tile * 4u + quad, z, bits);
        bits >>= 4u;
        for (var f = 0u; f < SLOTS; f++) {
            (*sums)[f] += dot(g, x[f]);
        }
    }
}

// What the label looks at is fetched once.
fn step_kept(label: ptr<function, Label>) {
    let row = (*label).row;
    var at: array<u32, SLOTS>;
    var w: array<f32, SLOTS>;
    var sums: array<f32, SLOTS>;
    for (var f = 0u; f < SLOTS; f++) {
        at[f] = feature_of(row, f) * 4u;
        w[f] = weight_of(row, f);
        sums[f] = 0.0;
    }
    step_tile(0u, label, &at, &w, &sums);
    if TILES > 1u { step_tile(1u, label, &at, &w, &sums); }
    if TILES > 2u { step_tile(2u, label, &at, &w, &sums); }
    if TILES > 3u { step_tile(3u, label, &at, &w, &sums); }
    if TILES > 4u { step_tile(4u, label, &at, &w, &sums); }
    if TILES > 5u { step_tile(5u, label, &at, &w, &sums); }
    if TILES > 6u { step_tile(6u, label, &at, &w, &sums); }
    if TILES > 7u { step_tile(7u, label, &at, &w, &sums); }
    for (var begin = 0u; begin < SLOTS; begin += 8u) {
        var gradients: array<f32, 8>;
        for (var i = 0u; i < 8u; i++) {
            if begin + i < SLOTS { gradients[i] = sums[begin + i]; }
        }
        step_weights(row, begin, gradients);
    }
}

// Adds to the logits of a tile what a connection gives.
fn add_logits(tile: u32, at: u32, weight: f32, z: ptr<function, array<vec4<f32>, QUADS>>) {
    for (var quad = 0u; quad < 4u; quad++) {
        (*z)[4u * tile + quad] += weight * in_tile(tile, at + quad);
    }
}

// The logits of a tile become their gradients.
fn finish_tile(tile: u32, label: ptr<function, Label>, z: ptr<function, array<vec4<f32>, QUADS>>) {
    var bits = positive_bits(label, tile * 16u);
    for (var quad = 0u; quad < 4u; quad++) {
        let at = 4u * tile + quad;
        (*z)[at] = finish(label, at, (*z)[at], bits);
        bits >>= 4u;
    }
}

// What the samples of a tile add to the gradient of a connection's weight.
fn gradient_of(tile: u32, at: u32, g: ptr<function, array<vec4<f32>, QUADS>>) -> vec4<f32> {
    var sum = vec4<f32>(0.0);
    for (var quad = 0u; quad < 4u; quad++) {
        sum += (*g)[4u * tile + quad] * in_tile(tile, at + quad);
    }
    return sum;
}

// What the label looks at is fetched for the logits and again for the gradients, of all samples at a time, so that an index
// and a weight, which come from storage buffers, are fetched once for each.
fn step_fetching_twice(label: ptr<function, Label>) {
    let row = (*label).row;
    let start = bias[row];
    var z: array<vec4<f32>, QUADS>;
    for (var q = 0u; q < QUADS; q++) {
        z[q] = vec4<f32>(start);
    }
    for (var f = 0u; f < params.fan_in; f++) {
        let at = feature_of(row, f) * 4u;
        let w = weight_of(row, f);
        add_logits(0u, at, w, &z);
        if TILES > 1u { add_logits(1u, at, w, &z); }
        if TILES > 2u { add_logits(2u, at, w, &z); }
        if TILES > 3u { add_logits(3u, at, w, &z); }
        if TILES > 4u { add_logits(4u, at, w, &z); }
        if TILES > 5u { add_logits(5u, at, w, &z); }
        if TILES > 6u { add_logits(6u, at, w, &z); }
        if TILES > 7u { add_logits(7u, at, w, &z); }
    }
    finish_tile(0u, label, &z);
    if TILES > 1u { finish_tile(1u, label, &z); }
    if TILES > 2u { finish_tile(2u, label, &z); }
    if TILES > 3u { finish_tile(3u, label, &z); }
    if TILES > 4u { finish_tile(4u, label, &z); }
    if TILES > 5u { finish_tile(5u, label, &z); }
    if TILES > 6u { finish_tile(6u, label, &z); }
    if TILES > 7u { finish_tile(7u, label, &z); }
    for (var begin = 0u; begin < params.fan_in; begin += 8u) {
        var gradients: array<f32, 8>;
        for (var i = 0u; i < 8u; i++) {
            // Beyond the fan-in the last connection stands in, for nobody.
            let at = feature_of(row, min(begin + i, params.fan_in - 1u)) * 4u;
            var sum = gradient_of(0u, at, &z);
            if TILES > 1u { sum += gradient_of(1u, at, &z); }
            if TILES > 2u { sum += gradient_of(2u, at, &z); }
            if TILES > 3u { sum += gradient_of(3u, at, &z); }
            if TILES > 4u { sum += gradient_of(4u, at, &z); }
            if TILES > 5u { sum += gradient_of(5u, at, &z); }
            if TILES > 6u { sum += gradient_of(6u, at, &z); }
            if TILES > 7u { sum += gradient_of(7u, at, &z); }
            gradients[i] = dot(sum, vec4<f32>(1.0));
        }
        step_weights(row, begin, gradients);
    }
}

fn step_label(label: ptr<function, Label>) {
    if KEPT > 0u { step_kept(label); } else { step_fetching_twice(label); }
}
