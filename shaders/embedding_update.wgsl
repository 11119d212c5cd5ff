// One optimizer step of the whole embedding table, whose gradient is kept only for the tokens of the batch: rows of
// other tokens have gradient zero, which for moments and weight decay is not the same as no step.
//
// An invocation owns SPAN consecutive numbers of the table: those whose states share a word.
//!import linear
//!import stored_step

const WORKGROUP: u32 = 64u;

struct Params {
    @size(48) rates: Rates, // uniform buffers want what follows a struct at a multiple of 16
    vocabulary: u32,
    hidden: u32,
    unique_tokens: u32, // U
    seed_low: u32,      // of the roundings
    seed_high: u32,
    step: u32,
    stream: u32,        // of the first states; that of the second follows
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> gradient: array<f32>;      // [U, H]
@group(0) @binding(1) var<storage, read> unique_tokens: array<u32>; // [U], ascending
@group(0) @binding(2) var<storage, read_write> table: array<f32>;   // [V, H]
@group(0) @binding(3) var<storage, read_write> first: array<u32>;   // [V, H], if the optimizer has it
@group(0) @binding(4) var<storage, read_write> second: array<u32>;  // [V, H], if the optimizer has it

// Of a number of the table: zero for tokens that the batch does not have.
fn gradient_of(number: u32) -> f32 {
    let token = number / params.hidden;
    var low = 0u;
    var high = params.unique_tokens;
    while low < high {
        let middle = (low + high) / 2u;
        if unique_tokens[middle] < token { low = middle + 1u; } else { high = middle; }
    }
    if low < params.unique_tokens {
        if unique_tokens[low] == token {
            return gradient[low * params.hidden + (number - token * params.hidden)];
        }
    }
    return 0.0;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let begin = lane_of(workgroup, grid, WORKGROUP, local) * SPAN;
    for (var number = begin; number < min(begin + SPAN, params.vocabulary * params.hidden); number++) {
        table[number] = step_of(number, table[number], gradient_of(number));
    }
}
