// Features rounded to the nearest number of 16 bits (IEEE f16, of two the even one), for kernels that fetch many.
//
// An invocation owns two samples of a feature. Integers throughout: drivers differ in how they round.
//!import linear

const WORKGROUP: u32 = 64u;
// 1: both in a word, the first in its lower half; 0: as f32
const PACKED: u32 = 1u;

struct Params {
    pairs: u32, // D * columns / 2
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec2<f32>>;       // [D, columns]
@group(0) @binding(1) var<storage, read_write> halves: array<u32>;  // [D, columns / 2] pairs, or [D, columns] as f32

// The code of the nearest f16, as Storage::nearest of src/kernels/storage has it.
fn nearest(number: f32) -> u32 {
    let magnitude = bitcast<u32>(number) & 0x7fffffffu;
    var code = ((magnitude + 0xfffu + ((magnitude >> 13u) & 1u)) >> 13u) - (112u << 10u);
    if magnitude < (113u << 23u) {
        code = u32(round(bitcast<f32>(magnitude) * 16777216.0));
    }
    code = min(code, 0x7bffu);
    if magnitude >= 0x7f800000u {
        code = 0x7e00u;
    }
    return code | ((bitcast<u32>(number) >> 31u) << 15u);
}

// The number that a code means, as bits of an f32.
fn widened(code: u32) -> u32 {
    let magnitude = code & 0x7fffu;
    var value = (magnitude << 13u) + (112u << 23u);
    if magnitude < 0x400u {
        value = bitcast<u32>(f32(magnitude) / 16777216.0);
    }
    if magnitude > 0x7bffu {
        value = 0x7fc00000u;
    }
    return value | ((code & 0x8000u) << 16u);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.pairs {
        return;
    }
    let first = nearest(x[lane].x);
    let second = nearest(x[lane].y);
    if PACKED == 1u {
        halves[lane] = first | (second << 16u);
    } else {
        halves[2u * lane] = widened(first);
        halves[2u * lane + 1u] = widened(second);
    }
}
