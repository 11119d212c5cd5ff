// A digit of a radix selection: how many connections have each value of eight bits of their key, among those whose
// higher bits are already decided. Counting is exact and does not depend on order.
//
// First the keys are scores, |w| as an unsigned integer (monotone for magnitudes); then, among the connections whose
// score is exactly the one found, their positions row * F + f.
//!import linear
//!import narrow

// 0: digits of the score; 1: digits of the position among equal scores
const BY_POSITION: u32 = 0u;
const WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,       // labels of this block
    index_rows: u32,
    fan_in: u32,
    weight_words: u32, // words in a row of weights
    group: u32,      // labels that share a row of indices: their mean |w| is the score
    shift: u32,      // place of the digit
    prefix: u32,     // the higher bits that are decided
    score: u32,      // the score found, as bits, when BY_POSITION
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> weights: array<u32>;                // [rows, weight_words]
@group(0) @binding(1) var<storage, read_write> counts: array<atomic<u32>>;   // [256]

var<workgroup> local_counts: array<atomic<u32>, 256>;

fn magnitude(row: u32, slot: u32) -> f32 {
    return abs(stored(WEIGHTS, weights[row * params.weight_words + slot / per_word(WEIGHTS)], slot));
}

fn score_of(index_row: u32, slot: u32) -> u32 {
    if params.group == 1u {
        return bitcast<u32>(magnitude(index_row, slot));
    }
    let first = index_row * params.group;
    let end = min(first + params.group, params.rows);
    var sum = 0.0;
    for (var row = first; row < end; row++) {
        sum += magnitude(row, slot);
    }
    return bitcast<u32>(sum / f32(end - first));
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    for (var bin = local; bin < 256u; bin += WORKGROUP) {
        atomicStore(&local_counts[bin], 0u);
    }
    workgroupBarrier();
    let index_row = lane_of(workgroup, grid, WORKGROUP, local);
    if index_row < params.index_rows {
        for (var slot = 0u; slot < params.fan_in; slot++) {
            let score = score_of(index_row, slot);
            var key = score;
            var counted = true;
            if BY_POSITION == 1u {
                key = index_row * params.fan_in + slot;
                counted = score == params.score;
            }
            // A shift by 32 is not defined: the first digit has no higher bits.
            if params.shift < 24u {
                counted = counted && (key >> (params.shift + 8u)) == params.prefix;
            }
            if counted {
                atomicAdd(&local_counts[(key >> params.shift) & 255u], 1u);
            }
        }
    }
    workgroupBarrier();
    for (var bin = local; bin < 256u; bin += WORKGROUP) {
        let count = atomicLoad(&local_counts[bin]);
        if count > 0u {
            atomicAdd(&counts[bin], count);
        }
    }
}
