// Which connections of a block are pruned, one bit each. The score of a slot is |w|, in a group the mean of |w|.
//
//   mode 0  score < threshold, strictly
//   mode 1  score < the bits in `key`, or equal to them at a position before `position_end`: the k smallest of the
//           whole layer, as the radix selection found them
//   mode 2  the `per_row` smallest of each row, earlier slots first among equals
//
// An invocation owns a word of the mask, 32 slots of a row.
//!import linear
//!import narrow

const MODE: u32 = 0u;
const WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,         // labels of this block
    index_rows: u32,
    fan_in: u32,
    weight_words: u32, // words in a row of weights
    mask_words: u32,   // words in a row of the mask
    group: u32,        // labels that share a row of indices
    threshold: f32,
    key: u32,
    position_end: u32,
    per_row: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> weights: array<u32>;    // [rows, weight_words]
@group(0) @binding(1) var<storage, read_write> mask: array<u32>; // [index_rows, mask_words]

fn magnitude(row: u32, slot: u32) -> f32 {
    return abs(stored(WEIGHTS, weights[row * params.weight_words + slot / per_word(WEIGHTS)], slot));
}

fn score_of(index_row: u32, slot: u32) -> f32 {
    if params.group == 1u {
        return magnitude(index_row, slot);
    }
    let first = index_row * params.group;
    let end = min(first + params.group, params.rows);
    var sum = 0.0;
    for (var row = first; row < end; row++) {
        sum += magnitude(row, slot);
    }
    return sum / f32(end - first);
}

fn is_pruned(index_row: u32, slot: u32) -> bool {
    let score = score_of(index_row, slot);
    if MODE == 0u {
        return score < params.threshold;
    }
    let bits = bitcast<u32>(score);
    return bits < params.key || (bits == params.key && index_row * params.fan_in + slot < params.position_end);
}

// The slots from `begin` to `end` that are among the `per_row` smallest of their row. Each score of the row is computed
// once, so that F * (G + 32) iterations do, not 32 * F * G: software Vulkan ends loops after 65,535.
fn smallest_of_row(index_row: u32, begin: u32, end: u32) -> u32 {
    var scores: array<f32, 32>;
    var smaller: array<u32, 32>;
    for (var slot = begin; slot < end; slot++) {
        scores[slot - begin] = score_of(index_row, slot);
        smaller[slot - begin] = 0u;
    }
    for (var other = 0u; other < params.fan_in; other++) {
        let theirs = score_of(index_row, other);
        for (var slot = begin; slot < end; slot++) {
            let score = scores[slot - begin];
            smaller[slot - begin] += u32(theirs < score || (theirs == score && other < slot));
        }
    }
    var bits = 0u;
    for (var slot = begin; slot < end; slot++) {
        bits |= u32(smaller[slot - begin] < params.per_row) << (slot - begin);
    }
    return bits;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let lane = lane_of(workgroup, grid, WORKGROUP, local);
    if lane >= params.index_rows * params.mask_words {
        return;
    }
    let index_row = lane / params.mask_words;
    let word = lane - index_row * params.mask_words;
    let end = min(params.fan_in, word * 32u + 32u);
    if MODE == 2u {
        mask[lane] = smallest_of_row(index_row, word * 32u, end);
        return;
    }
    var bits = 0u;
    for (var slot = word * 32u; slot < end; slot++) {
        if is_pruned(index_row, slot) {
            bits |= 1u << (slot - word * 32u);
        }
    }
    mask[lane] = bits;
}
