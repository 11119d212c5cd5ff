// What groups of labels send back through their connections, a sum over each group's labels: the part of the features'
// gradient that is a dense product. fan_in_feature_gradient then adds up what comes to each feature.
//
//   by_slot[r,f,b] = sum over the labels l of group r: weights[l,f] * dlogits[l,b]
//
// An invocation owns eight connections and eight samples of a group.
//!import linear
//!import narrow

const WORKGROUP: u32 = 64u;
const TILE: u32 = 8u;

struct Params {
    rows: u32,         // labels of this launch
    fan_in: u32,
    weight_words: u32, // words in a row of weights
    group: u32,        // labels that share a row of indices
    columns: u32,      // batch rounded up to 16
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> weights: array<u32>;             // [rows, weight_words]
@group(0) @binding(1) var<storage, read> dlogits: array<vec4<f32>>;       // [rows, columns]
@group(0) @binding(2) var<storage, read_write> by_slot: array<vec4<f32>>; // [rows / group, F, columns]

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    let eights = params.columns / 8u;
    let slot_tiles = (params.fan_in + TILE - 1u) / TILE;
    let eight = lane % eights;
    let begin = ((lane / eights) % slot_tiles) * TILE;
    let index_row = lane / (eights * slot_tiles);
    let first = index_row * params.group;
    if first >= params.rows {
        return;
    }
    let quads = params.columns / 4u;
    var low: array<vec4<f32>, TILE>;
    var high: array<vec4<f32>, TILE>;
    for (var i = 0u; i < TILE; i++) {
        low[i] = vec4<f32>(0.0);
        high[i] = vec4<f32>(0.0);
    }
    let end = min(first + params.group, params.rows);
    for (var row = first; row < end; row++) {
        let g0 = dlogits[row * quads + 2u * eight];
        let g1 = dlogits[row * quads + 2u * eight + 1u];
        for (var i = 0u; i < TILE; i++) {
            // Beyond the fan-in the last connection stands in, for nobody.
            let slot = min(begin + i, params.fan_in - 1u);
            let w = stored(WEIGHTS, weights[row * params.weight_words + slot / per_word(WEIGHTS)], slot);
            low[i] += w * g0;
            high[i] += w * g1;
        }
    }
    for (var i = 0u; i < TILE; i++) {
        if begin + i < params.fan_in {
            let at = (index_row * params.fan_in + begin + i) * quads + 2u * eight;
            by_slot[at] = low[i];
            by_slot[at + 1u] = high[i];
        }
    }
}
