// One optimizer step of the whole embedding table, whose gradient is kept only for the tokens of the batch: rows of
// other tokens have gradient zero, which for moments and weight decay is not the same as no step.
//
// An invocation owns one feature of one token.
//!import linear
//!import optimizer

const WORKGROUP: u32 = 64u;

struct Params {
    @size(48) rates: Rates, // uniform buffers want what follows a struct at a multiple of 16
    vocabulary: u32,
    hidden: u32,
    unique_tokens: u32, // U
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> gradient: array<f32>;      // [U, H]
@group(0) @binding(1) var<storage, read> unique_tokens: array<u32>; // [U], ascending
@group(0) @binding(2) var<storage, read_write> table: array<f32>;   // [V, H]
@group(0) @binding(3) var<storage, read_write> first: array<f32>;   // [V, H], if the optimizer has it
@group(0) @binding(4) var<storage, read_write> second: array<f32>;  // [V, H], if the optimizer has it

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.vocabulary * params.hidden {
        return;
    }
    let token = lane / params.hidden;
    var low = 0u;
    var high = params.unique_tokens;
    while low < high {
        let middle = (low + high) / 2u;
        if unique_tokens[middle] < token { low = middle + 1u; } else { high = middle; }
    }
    var g = 0.0;
    if low < params.unique_tokens {
        if unique_tokens[low] == token {
            g = gradient[low * params.hidden + (lane - token * params.hidden)];
        }
    }
    var m = 0.0;
    var v = 0.0;
    if OPTIMIZER >= 1u { m = first[lane]; }
    if OPTIMIZER >= 2u { v = second[lane]; }
    let after = optimizer_step(params.rates, table[lane], g, m, v);
    table[lane] = after.x;
    if OPTIMIZER >= 1u { first[lane] = after.y; }
    if OPTIMIZER >= 2u { second[lane] = after.z; }
}
