// Gradients of the weights of labels that share the features of their connections, and the optimizer's step of them.
//
//   g[l,f] = sum_b dlogits[l,b] * x[b, indices[l / group, f]], then one optimizer step of weights[l,f]
//
// An invocation owns eight connections of up to eight labels of a group.
//!import linear
//!import fan_in
//!import fan_in_eights
//!import group_tile
//!import optimizer
//!import random
//!import narrow
//!import fan_in_weights

const WORKGROUP: u32 = 64u;

struct Params {
    @size(48) rates: Rates, // uniform buffers want what follows a struct at a multiple of 16
    rows: u32,         // labels of this launch
    first_label: u32,  // number of its first label
    fan_in: u32,
    index_words: u32,  // words in a row of indices
    weight_words: u32, // words in a row of weights
    moment_words: u32, // words in a row of states
    group: u32,        // labels that share a row of indices
    columns: u32,      // batch rounded up to 16
    seed_low: u32,     // of the roundings
    seed_high: u32,
    step: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;       // [D, columns]
@group(0) @binding(1) var<storage, read> indices: array<u32>;       // [rows / group, index_words]
@group(0) @binding(2) var<storage, read> dlogits: array<vec4<f32>>; // [rows, columns]
@group(0) @binding(3) var<storage, read_write> weights: array<u32>; // [rows, weight_words]
@group(0) @binding(4) var<storage, read_write> first: array<u32>;   // [rows, moment_words], if the optimizer has it
@group(0) @binding(5) var<storage, read_write> second: array<u32>;  // [rows, moment_words], if the optimizer has it

// What else needs the weights has read them by now.
fn keep_before(at: u32, word: u32) {}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    let slot_tiles = (params.fan_in + 7u) / 8u;
    let begin = (lane % slot_tiles) * 8u;
    let tile = tile_of(lane / slot_tiles);
    if tile.first >= tile.end {
        return;
    }
    let quads = params.columns / 4u;
    var at: array<u32, 8>;
    var low: array<vec4<f32>, TILE>;  // of each label, for the connections begin .. begin + 3
    var high: array<vec4<f32>, TILE>; // and the four after them
    for (var i = 0u; i < 8u; i++) {
        // Beyond the fan-in the last connection stands in, for nobody; so does the last label beyond the group.
        let slot = min(begin + i, params.fan_in - 1u);
        let word = indices[tile.index_row * params.index_words + index_word(slot)];
        at[i] = index_in(word, slot) * (params.columns / 8u);
        low[i] = vec4<f32>(0.0);
        high[i] = vec4<f32>(0.0);
    }
    for (var eight = 0u; eight < quads / 2u; eight++) {
        let x0 = fetch(at[0] + eight);
        let x1 = fetch(at[1] + eight);
        let x2 = fetch(at[2] + eight);
        let x3 = fetch(at[3] + eight);
        let x4 = fetch(at[4] + eight);
        let x5 = fetch(at[5] + eight);
        let x6 = fetch(at[6] + eight);
        let x7 = fetch(at[7] + eight);
        for (var i = 0u; i < TILE; i++) {
            let row = min(tile.first + i, tile.end - 1u);
            let g0 = dlogits[row * quads + 2u * eight];
            let g1 = dlogits[row * quads + 2u * eight + 1u];
            low[i] += vec4<f32>(dot(g0, x0.low), dot(g0, x1.low), dot(g0, x2.low), dot(g0, x3.low))
                + vec4<f32>(dot(g1, x0.high), dot(g1, x1.high), dot(g1, x2.high), dot(g1, x3.high));
            high[i] += vec4<f32>(dot(g0, x4.low), dot(g0, x5.low), dot(g0, x6.low), dot(g0, x7.low))
                + vec4<f32>(dot(g1, x4.high), dot(g1, x5.high), dot(g1, x6.high), dot(g1, x7.high));
        }
    }
    // By rows, so that the code of a step is there once: a driver unrolls loops over constants.
    for (var row = tile.first; row < tile.end; row++) {
        var a = vec4<f32>(0.0);
        var b = vec4<f32>(0.0);
        for (var i = 0u; i < TILE; i++) {
            a = select(a, low[i], row - tile.first == i);
            b = select(b, high[i], row - tile.first == i);
        }
        step_weights(row, begin, array<f32, 8>(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w));
    }
}
