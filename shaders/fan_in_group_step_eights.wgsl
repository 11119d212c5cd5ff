// The step of groups of labels, with fetches of four times 64 bits for weights, too: they and their states lie in f32, and
// the fan-in is a multiple of eight.
//!import fan_in_group_step
//!import fan_in_group_pairs_features
//!import weights_eights

// Everything that needs the weights has read them by now.
fn keep_before(at: u32, pairs: vec4<u64>) {}
