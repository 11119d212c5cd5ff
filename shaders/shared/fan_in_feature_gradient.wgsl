// Gradient of the loss with respect to the features, from a run of labels, without atomics: each feature walks the list
// of its connections (inverted indices of runs of labels, rebuilt at rewiring) in a fixed order.
//
//   sums[window,d,b] = sum over (row, f) of the window with indices[row, f] = d, over the labels l of the row:
//                      dlogits[l,b] * weights[l,f]
//
// An invocation owns RUN * 4 samples of one feature in one window. Windows are what gives a GPU lanes enough and keeps
// the logit gradients that a list names near each other. A window has one index, or several, so that a connection takes 16
// bits. Who imports this has `dlogits`, [rows, columns], and `sent`,
// which fetches four samples of it.
//!import linear
//!import narrow

const WORKGROUP: u32 = 64u;

// Quads of samples of an invocation: one where lanes are dear, since neighbours then fetch neighbouring samples; four or more on
// software Vulkan, where it is the fetches of connection and weight that are.
const RUN: u32 = 1u;
// 1: add to what is there
const ACCUMULATE: u32 = 0u;
// 1: labels share rows of indices; 2: and what a group sends back through a connection has been added up already, so that
// `dlogits` holds that, [rows / group, F, columns], and `weights` nothing
const GROUPED: u32 = 0u;
// 1: connections in 16 bits
const NARROW: u32 = 0u;

struct Params {
    features: u32,
    rows: u32,         // labels of this launch
    fan_in: u32,
    weight_words: u32, // words in a row of weights
    group: u32,        // labels that share a row of indices
    columns: u32,      // batch rounded up to 16
    windows: u32,
    window_rows: u32,  // labels of a window, of the last perhaps fewer
    list_rows: u32,    // labels of an index, of the last perhaps fewer
    offset_words: u32, // words in an index's row of offsets
    slot_bits: u32,    // bits of a slot in a connection, below its row
}
var<immediate> params: Params;

@group(0) @binding(1) var<storage, read> weights: array<u32>;          // [rows, weight_words]
@group(0) @binding(2) var<storage, read> offsets: array<u32>;          // [indices, offset_words]: D + 1 of each
@group(0) @binding(3) var<storage, read> connections: array<u32>;      // [rows / group * F], row << slot_bits | f within the index
@group(0) @binding(4) var<storage, read_write> sums: array<vec4<f32>>; // [windows, D, columns]

// Adds what one connection of a label sends back.
fn add(sum: ptr<function, array<vec4<f32>, RUN>>, row: u32, slot: u32, quad: u32) {
    let weight = stored(WEIGHTS, weights[row * params.weight_words + slot / per_word(WEIGHTS)], slot);
    for (var q = 0u; q < RUN; q++) {
        (*sum)[q] += weight * sent(row, quad + q);
    }
}

// Adds what one connection of an index sends back, whose first label is `first_row` and first connection `first_connection`.
fn add_connection(
    sum: ptr<function, array<vec4<f32>, RUN>>,
    first_row: u32,
    first_connection: u32,
    i: u32,
    quad: u32,
) {
    var connection: u32;
    if NARROW == 1u {
        connection = (connections[i / 2u] >> (i % 2u * 16u)) & 0xffffu;
    } else {
        connection = connections[i];
    }
    let slot = connection & ((1u << params.slot_bits) - 1u);
    let index_row = connection >> params.slot_bits;
    if GROUPED == 2u {
        let row = first_connection + index_row * params.fan_in + slot;
        for (var q = 0u; q < RUN; q++) {
            (*sum)[q] += sent(row, quad + q);
        }
        return;
    }
    let begin = first_row + index_row * params.group;
    if GROUPED == 0u {
        add(sum, begin, slot, quad);
        return;
    }
    let end = min(begin + params.group, params.rows);
    for (var row = begin; row < end; row++) {
        add(sum, row, slot, quad);
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    let quads = params.columns / 4u;
    let runs = quads / RUN;
    if lane >= params.windows * params.features * runs {
        return;
    }
    let window = lane / (params.features * runs);
    let feature = (lane / runs) % params.features;
    let quad = (lane % runs) * RUN;
    let out = (window * params.features + feature) * quads + quad;
    var sum: array<vec4<f32>, RUN>;
    for (var q = 0u; q < RUN; q++) {
        sum[q] = vec4<f32>(0.0);
        if ACCUMULATE == 1u { sum[q] = sums[out + q]; }
    }
    let last = min((window + 1u) * params.window_rows, params.rows);
    for (var first_row = window * params.window_rows; first_row < last; first_row += params.list_rows) {
        let list = (first_row / params.list_rows) * params.offset_words + feature;
        let first_connection = (first_row / params.group) * params.fan_in;
        let end = first_connection + offsets[list + 1u];
        for (var i = first_connection + offsets[list]; i < end; i++) {
            add_connection(&sum, first_row, first_connection, i, quad);
        }
    }
    for (var q = 0u; q < RUN; q++) {
        sums[out + q] = sum[q];
    }
}
