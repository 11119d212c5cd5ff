// Gradient of the loss with respect to the features, from one window of labels whose logit gradients lie in tiles, uniform
// buffers: as fan_in_feature_gradient.
//
//   sums[d,b] += sum over (row, f) with indices[row, f] = d: dlogits[row,b] * weights[row,f]
//
// An invocation owns one feature with all its samples, so that a weight and a connection, which come from storage buffers,
// are fetched once for all of them.
//!import linear
//!import narrow
//!import uniform_tiles

const WORKGROUP: u32 = 16u;
// columns / 16
const TILES: u32 = 1u;
const QUADS: u32 = 4u * TILES;

struct Params {
    features: u32,
    weight_words: u32, // words in a row of weights
}
var<immediate> params: Params;

@group(0) @binding(0) var<uniform> tile0: array<vec2<u64>, 4096>;
@group(0) @binding(5) var<uniform> tile1: array<vec2<u64>, 4096>;
@group(0) @binding(6) var<uniform> tile2: array<vec2<u64>, 4096>;
@group(0) @binding(7) var<uniform> tile3: array<vec2<u64>, 4096>;
@group(0) @binding(8) var<uniform> tile4: array<vec2<u64>, 4096>;
@group(0) @binding(9) var<uniform> tile5: array<vec2<u64>, 4096>;
@group(0) @binding(10) var<uniform> tile6: array<vec2<u64>, 4096>;
@group(0) @binding(11) var<uniform> tile7: array<vec2<u64>, 4096>;
@group(0) @binding(1) var<storage, read> weights: array<u32>;          // [rows, weight_words]
@group(0) @binding(2) var<storage, read> offsets: array<u32>;          // [D + 1]
@group(0) @binding(3) var<storage, read> connections: array<u32>;      // [rows * F], row << 16 | f
@group(0) @binding(4) var<storage, read_write> sums: array<vec4<f32>>; // [D, columns]

// Adds what one connection sends back to the samples of a tile.
fn add_tile(tile: u32, at: u32, weight: f32, sum: ptr<function, array<vec4<f32>, QUADS>>) {
    for (var quad = 0u; quad < 4u; quad++) {
        (*sum)[4u * tile + quad] += weight * in_tile(tile, at + quad);
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let feature = lane_of(workgroup, grid, WORKGROUP, local);
    if feature >= params.features {
        return;
    }
    var sum: array<vec4<f32>, QUADS>;
    for (var q = 0u; q < QUADS; q++) {
        sum[q] = sums[feature * QUADS + q];
    }
    let end = offsets[feature + 1u];
    for (var i = offsets[feature]; i < end; i++) {
        let connection = connections[i];
        let row = connection >> 16u;
        let slot = connection & 0xffffu;
        let w = stored(WEIGHTS, weights[row * params.weight_words + slot / per_word(WEIGHTS)], slot);
        let at = row * 4u;
        add_tile(0u, at, w, &sum);
        if TILES > 1u { add_tile(1u, at, w, &sum); }
        if TILES > 2u { add_tile(2u, at, w, &sum); }
        if TILES > 3u { add_tile(3u, at, w, &sum); }
        if TILES > 4u { add_tile(4u, at, w, &sum); }
        if TILES > 5u { add_tile(5u, at, w, &sum); }
        if TILES > 6u { add_tile(6u, at, w, &sum); }
        if TILES > 7u { add_tile(7u, at, w, &sum); }
    }
    for (var q = 0u; q < QUADS; q++) {
        sums[feature * QUADS + q] = sum[q];
    }
}
