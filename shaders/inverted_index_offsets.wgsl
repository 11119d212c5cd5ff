// Inverted index of a block, third of four: from the number of entries of each feature to where its list begins.
//
// One invocation: features are few.

struct Params {
    features: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read_write> offsets: array<u32>; // [D + 1]

@compute @workgroup_size(1)
fn main() {
    var sum = 0u;
    for (var feature = 0u; feature < params.features; feature++) {
        let count = offsets[feature];
        offsets[feature] = sum;
        sum += count;
    }
    offsets[params.features] = sum;
}
