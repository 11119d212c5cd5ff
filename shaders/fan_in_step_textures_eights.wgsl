// The step of labels whose features lie in a texture; eight connections are fetched at a time. Weights and their states lie in
// f32, indices in 16 bits, and the fan-in is a multiple of eight.
//!import fan_in_label
//!import pairs
//!import weights_eights
//!import fan_in_kept_textures

@group(0) @binding(1) var<storage, read> indices: array<vec2<u64>>;        // [rows / group, index_words]
@group(0) @binding(10) var<storage, read_write> before: array<vec4<u64>>; // [rows, weight_words], before the step

// The features' gradient needs the weights as they were.
fn keep_before(at: u32, pairs: vec4<u64>) {
    before[at] = pairs;
}

fn connections_of(row: u32, begin: u32) -> Connections {
    let words = words_of(indices[((row / params.group) * params.index_words + begin / 2u) / 4u]);
    var eight: Connections;
    for (var i = 0u; i < 8u; i++) {
        eight.features[i] = index_in(words[i / 2u], begin + i);
    }
    eight.weights = weights_of(row, begin);
    return eight;
}

fn step_label(label: ptr<function, Label>) {
    step_kept(label);
}
