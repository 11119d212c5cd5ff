// The forward half of a training step of labels that share the features of their connections: logits, loss, and gradients
// of the logits.
//
//   z[b,l] = bias[l] + sum_f weights[l,f] * x[b, indices[l / group, f]]
//   dlogits = scale * dloss/dz
//
// An invocation owns up to eight labels of a group and eight samples, so that what it fetches of a feature serves all of
// these labels: a dense product in tiles of 8 x 8, whose columns are gathered.
//!import linear
//!import fan_in
//!import fan_in_eights
//!import group_tile
//!import first_positive
//!import loss
//!import narrow

const WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,         // labels of this launch
    first_label: u32,  // number of its first label
    fan_in: u32,
    index_words: u32,  // words in a row of indices
    weight_words: u32, // words in a row of weights
    group: u32,        // labels that share a row of indices
    batch: u32,
    columns: u32,      // batch rounded up to 16
    positives: u32,    // (label, sample) pairs of the batch
    scale: f32,        // of the gradient: what the reduction divides by
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;             // [D, columns]
@group(0) @binding(1) var<storage, read> weights: array<u32>;             // [rows, weight_words]
@group(0) @binding(2) var<storage, read> indices: array<u32>;             // [rows / group, index_words]
@group(0) @binding(3) var<storage, read> bias: array<f32>;                // [rows]
@group(0) @binding(4) var<storage, read> positives: array<vec2<u32>>;     // sorted by label, then sample
@group(0) @binding(5) var<storage, read_write> dlogits: array<vec4<f32>>; // [rows, columns]
@group(0) @binding(6) var<storage, read_write> tile_loss: array<f32>;     // [tiles, columns / 8]

// Which of eight samples from `first_sample` on are positive: eight bits for each label of the tile, four labels in a word.
// The pairs of the tile's labels are those from `begin` to `end`.
fn positive_bits(tile: Tile, begin: u32, end: u32, first_sample: u32) -> vec2<u32> {
    var bits = vec2<u32>(0u);
    for (var i = begin; i < end; i++) {
        let pair = positives[i];
        let sample = pair.y - first_sample;
        if sample < 8u {
            let place = (pair.x - params.first_label - tile.first) * 8u + sample;
            bits |= select(vec2<u32>(0u, 1u << (place & 31u)), vec2<u32>(1u << (place & 31u), 0u), place < 32u);
        }
    }
    return bits;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    let eights = params.columns / 8u;
    let eight = lane % eights;
    let tile = tile_of(lane / eights);
    if tile.index_row * params.group >= params.rows {
        return;
    }
    if tile.first >= tile.end {
        tile_loss[lane] = 0.0;
        return;
    }
    var rows: array<u32, TILE>;
    var low: array<vec4<f32>, TILE>;
    var high: array<vec4<f32>, TILE>;
    for (var i = 0u; i < TILE; i++) {
        // Beyond the group's end its last label stands in, for nobody.
        let row = min(tile.first + i, tile.end - 1u);
        rows[i] = row * params.weight_words;
        low[i] = vec4<f32>(bias[row]);
        high[i] = low[i];
    }
    for (var f = 0u; f < params.fan_in; f++) {
        let word = indices[tile.index_row * params.index_words + index_word(f)];
        let seen = fetch(index_in(word, f) * eights + eight);
        for (var i = 0u; i < TILE; i++) {
            let w = stored(WEIGHTS, weights[rows[i] + f / per_word(WEIGHTS)], f);
            low[i] += w * seen.low;
            high[i] += w * seen.high;
        }
    }
    let first_pair = first_positive(params.first_label + tile.first);
    let end_pair = first_positive(params.first_label + tile.end);
    let bits = positive_bits(tile, first_pair, end_pair, eight * 8u);
    var loss = 0.0;
    // By rows, so that the code of a loss is there once: a driver unrolls loops over constants.
    for (var row = tile.first; row < tile.end; row++) {
        let place = row - tile.first;
        var z0 = vec4<f32>(0.0);
        var z1 = vec4<f32>(0.0);
        for (var i = 0u; i < TILE; i++) {
            z0 = select(z0, low[i], i == place);
            z1 = select(z1, high[i], i == place);
        }
        let mine = select(bits.y, bits.x, place < 4u) >> ((place & 3u) * 8u);
        let r0 = loss_of(z0, signs(mine, eight * 8u));
        let r1 = loss_of(z1, signs(mine >> 4u, eight * 8u + 4u));
        let at = row * (params.columns / 4u) + 2u * eight;
        dlogits[at] = params.scale * r0.gradient;
        dlogits[at + 1u] = params.scale * r1.gradient;
        loss += dot(r0.loss + r1.loss, vec4<f32>(1.0));
    }
    tile_loss[lane] = loss;
}
