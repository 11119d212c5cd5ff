// Inverted index of a block, last of four: every connection into the list of its feature, in ascending order.
//
// An invocation owns a chunk of the connections.
//!import linear
//!import fan_in

const WORKGROUP: u32 = 64u;

struct Params {
    connections: u32, // rows of indices * F
    fan_in: u32,
    index_words: u32, // words in a row of indices
    features: u32,
    chunks: u32,
    chunk: u32,       // connections in a chunk
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> indices: array<u32>;           // [index_rows, index_words]
@group(0) @binding(1) var<storage, read> offsets: array<u32>;           // [D + 1]
@group(0) @binding(2) var<storage, read_write> table: array<u32>;       // [D, chunks]
@group(0) @binding(3) var<storage, read_write> connections: array<u32>; // row << 16 | f, by feature

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let chunk = lane_of(workgroup, grid, WORKGROUP, local);
    if chunk >= params.chunks {
        return;
    }
    let end = min((chunk + 1u) * params.chunk, params.connections);
    for (var c = chunk * params.chunk; c < end; c++) {
        let index_row = c / params.fan_in;
        let slot = c - index_row * params.fan_in;
        let feature = index_in(indices[index_row * params.index_words + slot / 2u], slot);
        let place = feature * params.chunks + chunk;
        connections[offsets[feature] + table[place]] = (index_row << 16u) | slot;
        table[place] += 1u;
    }
}
