// Inverted indices of windows of labels, last of five: every connection into the list of its feature, in ascending order. The
// table, where each part's entries begin, then says where they end.
//!import inverted_index_part

@group(0) @binding(2) var<storage, read_write> connections: array<u32>; // [rows * F], by feature: row << 16 | f, rows from the window's first on

fn take(place: u32, first_row: u32, row: u32, slot: u32) {
    let at = table[place];
    connections[first_row * params.fan_in + at] = ((row - first_row) << 16u) | slot;
    table[place] = at + 1u;
}
