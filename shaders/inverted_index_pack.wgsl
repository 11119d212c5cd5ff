// Lists of connections in 16 bits from such in 32: neighbours are written by different invocations when lists are made, and
// no two can write into one word.
//
// An invocation owns two connections.
//!import linear

const WORKGROUP: u32 = 64u;

struct Params {
    connections: u32,
    slot_bits: u32,   // bits of a slot, below its row
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> wide: array<u32>;         // [connections]: row << 16 | slot
@group(0) @binding(1) var<storage, read_write> narrow: array<u32>; // [connections / 2, rounded up]: row << slot_bits | slot, twice

fn narrowed(connection: u32) -> u32 {
    return ((connection >> 16u) << params.slot_bits) | (connection & 0xffffu);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let first = 2u * lane_of(workgroup, grid, WORKGROUP, local);
    if first >= params.connections {
        return;
    }
    var word = narrowed(wide[first]);
    if first + 1u < params.connections { word |= narrowed(wide[first + 1u]) << 16u; }
    narrow[first / 2u] = word;
}
