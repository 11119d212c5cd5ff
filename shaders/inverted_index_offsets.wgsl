// Inverted indices of windows of labels, third of five: from the number of entries of each feature to where its list begins.
//
// An invocation owns a window: features are few.
//!import linear

const WORKGROUP: u32 = 64u;

struct Params {
    features: u32,
    windows: u32,
    offset_words: u32, // words in a window's row of offsets
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read_write> offsets: array<u32>; // [windows, offset_words], of which D + 1 are used

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let window = lane_of(workgroup, grid, WORKGROUP, local);
    if window >= params.windows {
        return;
    }
    let first = window * params.offset_words;
    var sum = 0u;
    // In pairs: software Vulkan would not come to the end of 65,536 rounds.
    for (var feature = 0u; feature < params.features; feature += 2u) {
        let count = offsets[first + feature];
        offsets[first + feature] = sum;
        sum += count;
        if feature + 1u < params.features {
            let next = offsets[first + feature + 1u];
            offsets[first + feature + 1u] = sum;
            sum += next;
        }
    }
    offsets[first + params.features] = sum;
}
