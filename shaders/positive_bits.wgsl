// Which samples of a batch are positive for each of a run of labels, a bit each: what a kernel can look up without
// walking through pairs.
//
// An invocation owns one label.
//!import linear
//!import first_positive

const WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,        // labels of this launch
    first_label: u32, // number of its first label
    words: u32,       // of a label: a bit for each sample, rounded up
    positives: u32,   // (label, sample) pairs of the batch
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> positives: array<vec2<u32>>; // sorted by label, then sample
@group(0) @binding(1) var<storage, read_write> bits: array<u32>;      // [rows, words]

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = lane_of(workgroup, grid, WORKGROUP, local);
    if row >= params.rows {
        return;
    }
    let label = params.first_label + row;
    var cursor = first_positive(label);
    for (var word = 0u; word < params.words; word++) {
        var found = 0u;
        while cursor < params.positives {
            let pair = positives[cursor];
            if pair.x != label || pair.y / 32u != word {
                break;
            }
            found |= 1u << (pair.y % 32u);
            cursor++;
        }
        bits[row * params.words + word] = found;
    }
}
