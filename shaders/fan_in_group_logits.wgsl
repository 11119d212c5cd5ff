// The forward half of a training step of labels that share the features of their connections: logits, loss, gradients of
// the logits, and the optimizer's step of the biases.
//
//   z[b,l] = bias[l] + sum_f weights[l,f] * x[b, indices[l / group, f]]
//   dlogits = scale * dloss/dz
//   g[l]    = sum_b dlogits[l,b], then one optimizer step of bias[l], without weight decay
//
// An invocation owns up to eight labels of a group, so that what it fetches of a feature serves all of them: a dense
// product in tiles of 8 x 8, whose columns are gathered.
//!import linear
//!import fan_in
//!import fan_in_eights
//!import group_tile
//!import loss
//!import optimizer
//!import fan_in_bias
//!import narrow

const WORKGROUP: u32 = 64u;

struct Params {
    @size(48) rates: Rates, // uniform buffers want what follows a struct at a multiple of 16
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
    train_bias: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;             // [D, columns]
@group(0) @binding(1) var<storage, read> indices: array<u32>;             // [rows / group, index_words]
@group(0) @binding(2) var<storage, read> positives: array<vec2<u32>>;     // sorted by label, then sample
@group(0) @binding(3) var<storage, read> weights: array<u32>;             // [rows, weight_words]
@group(0) @binding(4) var<storage, read_write> bias: array<f32>;          // [rows]
@group(0) @binding(5) var<storage, read_write> bias_first: array<f32>;    // [rows], if the optimizer has it
@group(0) @binding(6) var<storage, read_write> bias_second: array<f32>;   // [rows], if the optimizer has it
@group(0) @binding(7) var<storage, read_write> dlogits: array<vec4<f32>>; // [rows, columns]
@group(0) @binding(8) var<storage, read_write> label_loss: array<f32>;    // [rows], summed over the samples

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
    let tile = tile_of(lane_of(workgroup, grid, WORKGROUP, local));
    if tile.first >= tile.end {
        return;
    }
    let first_pair = first_positive(params.first_label + tile.first);
    let end_pair = first_positive(params.first_label + tile.end);
    let index_base = tile.index_row * params.index_words;
    var rows: array<u32, TILE>;
    var starts: array<f32, TILE>;
    var losses: array<f32, TILE>;
    var gradients: array<f32, TILE>;
    for (var i = 0u; i < TILE; i++) {
        // Beyond the group's end its last label stands in, for nobody.
        rows[i] = min(tile.first + i, tile.end - 1u) * params.weight_words;
        starts[i] = bias[min(tile.first + i, tile.end - 1u)];
        losses[i] = 0.0;
        gradients[i] = 0.0;
    }
    for (var eight = 0u; eight < params.columns / 8u; eight++) {
        var low: array<vec4<f32>, TILE>;
        var high: array<vec4<f32>, TILE>;
        for (var i = 0u; i < TILE; i++) {
            low[i] = vec4<f32>(starts[i]);
            high[i] = low[i];
        }
        for (var f = 0u; f < params.fan_in; f++) {
            let feature = index_in(indices[index_base + index_word(f)], f);
            let seen = fetch(feature * (params.columns / 8u) + eight);
            for (var i = 0u; i < TILE; i++) {
                let w = stored(WEIGHTS, weights[rows[i] + f / per_word(WEIGHTS)], f);
                low[i] += w * seen.low;
                high[i] += w * seen.high;
            }
        }
        let bits = positive_bits(tile, first_pair, end_pair, eight * 8u);
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
            let g0 = params.scale * r0.gradient;
            let g1 = params.scale * r1.gradient;
            let at = row * (params.columns / 4u) + 2u * eight;
            dlogits[at] = g0;
            dlogits[at + 1u] = g1;
            let loss = dot(r0.loss + r1.loss, vec4<f32>(1.0));
            let gradient = dot(g0 + g1, vec4<f32>(1.0));
            for (var i = 0u; i < TILE; i++) {
                losses[i] += select(0.0, loss, i == place);
                gradients[i] += select(0.0, gradient, i == place);
            }
        }
    }
    for (var row = tile.first; row < tile.end; row++) {
        var loss = 0.0;
        var gradient = 0.0;
        for (var i = 0u; i < TILE; i++) {
            let mine = row - tile.first == i;
            loss = select(loss, losses[i], mine);
            gradient = select(gradient, gradients[i], mine);
        }
        label_loss[row] = loss;
        if params.train_bias == 1u { step_bias(row, gradient); }
    }
}
