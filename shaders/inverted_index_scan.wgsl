// Inverted indices of windows of labels, second and fourth of five: how many entries each feature has, and, once it is known
// where its list begins, where each part's entries begin.
//
// An invocation owns one feature of a window.
//!import linear

const WORKGROUP: u32 = 64u;
// 0: `offsets` gets sums of the table; 1: the table gets running sums from `offsets` on
const STARTS: u32 = 0u;

struct Params {
    features: u32,
    windows: u32,
    parts: u32,        // of a window
    table_words: u32,  // words in a window's table
    offset_words: u32, // words in a window's row of offsets
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read_write> table: array<u32>;   // [windows, table_words]: [parts, D] of each
@group(0) @binding(1) var<storage, read_write> offsets: array<u32>; // [windows, offset_words], of which D are used

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.windows * params.features {
        return;
    }
    let window = lane / params.features;
    let feature = lane % params.features;
    let offset = window * params.offset_words + feature;
    let first = window * params.table_words + feature;
    var sum = 0u;
    if STARTS == 1u { sum = offsets[offset]; }
    for (var part = 0u; part < params.parts; part++) {
        let count = table[first + part * params.features];
        if STARTS == 1u { table[first + part * params.features] = sum; }
        sum += count;
    }
    if STARTS == 0u { offsets[offset] = sum; }
}
