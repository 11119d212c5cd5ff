// The step of labels, with fetches of 64 bits: software Vulkan goes from lane to lane for each fetch, however wide.
//!import fan_in_step
//!import fan_in_eights_pairs

@group(0) @binding(0) var<storage, read> x: array<vec2<u64>>; // [D, columns]
