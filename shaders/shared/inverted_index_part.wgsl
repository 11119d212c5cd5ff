// What counting and scattering connections have in common: an invocation owns a part of a window, some rows of indices, and
// with it a row of the table, a number for each feature, so that nothing is counted by two.
//!import linear
//!import fan_in

const WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,         // of indices, of all windows
    fan_in: u32,
    index_words: u32,  // words in a row of indices
    features: u32,
    windows: u32,
    window_rows: u32,  // rows of indices in a window, of the last perhaps fewer
    parts: u32,        // of a window
    part_rows: u32,    // rows of indices in a part, of the last perhaps fewer
    table_words: u32,  // words in a window's table
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> indices: array<u32>;     // [rows, index_words]
@group(0) @binding(1) var<storage, read_write> table: array<u32>; // [windows, table_words]: [parts, D] of each

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.windows * params.parts {
        return;
    }
    let window = lane / params.parts;
    let part = lane % params.parts;
    let first_row = window * params.window_rows;
    let counts = window * params.table_words + part * params.features;
    let begin = first_row + part * params.part_rows;
    let end = min(begin + params.part_rows, min(first_row + params.window_rows, params.rows));
    for (var row = begin; row < end; row++) {
        for (var slot = 0u; slot < params.fan_in; slot += 2u) {
            let word = indices[row * params.index_words + slot / 2u];
            take(counts + index_in(word, 0u), first_row, row, slot);
            if slot + 1u < params.fan_in { take(counts + index_in(word, 1u), first_row, row, slot + 1u); }
        }
    }
}
