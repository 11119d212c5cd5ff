// The step of groups of labels, with fetches of four times 64 bits but for weights and their states, which are stored in any
// way.
//!import fan_in_group_step
//!import fan_in_group_words
//!import fan_in_group_pairs_features
