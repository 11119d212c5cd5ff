// The step of labels whose features lie in tiles, uniform buffers; logit gradients go to such tiles, too.
//!import fan_in_label
//!import uniform_tiles

// The fan-in: what a label fetches of four samples stays where its gradient finds it again.
const KEPT: u32 = 1u;
// columns / 16
const TILES: u32 = 1u;

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
    at: ptr<function, array<u32, KEPT>>,
    w: ptr<function, array<f32, KEPT>>,
    sums: ptr<function, array<f32, KEPT>>,
) {
    let start = bias[(*label).row];
    var bits = positive_bits(label, tile * 16u);
    // Four rounds, which no compiler knows: unrolled, they would not stay in the processor's cache of instructions.
    for (var quad = 0u; quad < params.columns / (4u * TILES); quad++) {
        var x: array<vec4<f32>, KEPT>;
        var z = vec4<f32>(start);
        for (var f = 0u; f < KEPT; f++) {
            x[f] = in_tile(tile, (*at)[f] + quad);
            z += (*w)[f] * x[f];
        }
        let g = finish(label, tile * 4u + quad, z, bits);
        bits >>= 4u;
        for (var f = 0u; f < KEPT; f++) {
            (*sums)[f] += dot(g, x[f]);
        }
    }
}

fn step_label(label: ptr<function, Label>) {
    let row = (*label).row;
    var at: array<u32, KEPT>;
    var w: array<f32, KEPT>;
    var sums: array<f32, KEPT>;
    for (var f = 0u; f < KEPT; f++) {
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
    for (var begin = 0u; begin < KEPT; begin += 8u) {
        var gradients: array<f32, 8>;
        for (var i = 0u; i < 8u; i++) {
            if begin + i < KEPT { gradients[i] = sums[begin + i]; }
        }
        step_weights(row, begin, gradients);
    }
}
