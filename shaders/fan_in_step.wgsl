// The step of labels, with fetches of 32 bits.
//!import fan_in_step
//!import fan_in_eights

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>; // [D, columns]
