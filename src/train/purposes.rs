//! What the buffers of a memory plan are for, by their names.

/// Which buffers belong to which purpose, by the beginning of their name; the last takes the rest.
pub(super) const PURPOSES: [(&str, &[&str]); 7] = [
    (
        "classifier weights, indices, biases",
        &[
            "classifier weights",
            "classifier indices",
            "classifier bias",
            "classifier.dense weights",
            "classifier.dense bias",
        ],
    ),
    (
        "classifier optimizer states, rewiring, inverted index",
        &[
            "classifier first",
            "classifier second",
            "classifier bias first",
            "classifier bias second",
            "classifier.dense first",
            "classifier.dense second",
            "classifier.dense bias first",
            "classifier.dense bias second",
            "regrown",
            "inverted index",
        ],
    ),
    ("encoder parameters", &["encoder."]),
    ("encoder optimizer states", &["first moment of", "second moment of"]),
    (
        "encoder activations and gradients",
        &[
            "gradient ",
            "queries",
            "keys",
            "values",
            "attention ",
            "norm statistics",
            "feed-forward ",
            "output norm inputs",
            "layer outputs",
            "embedding ",
            "dense results",
            "pooled embeddings",
            "hidden before GELU",
            "encoder outputs",
            "encoder's features",
        ],
    ),
    (
        "intermediate layer and auxiliary head, with their states",
        &[
            "intermediate ",
            "intermediate.",
            "first moment of intermediate",
            "second moment of intermediate",
            "auxiliary ",
        ],
    ),
    ("workspace: inputs, features, ranking", &[""]),
];

/// The place in [`PURPOSES`] of a buffer's purpose.
pub(super) fn purpose_of(name: &str) -> usize {
    // The longest beginning wins: `classifier bias first moment` is a state, not a bias.
    let fits = |i: &usize| {
        PURPOSES[*i].1.iter().filter(|beginning| name.starts_with(**beginning)).map(|b| b.len()).max()
    };
    (0..PURPOSES.len()).max_by_key(|i| (fits(i), std::cmp::Reverse(*i))).unwrap_or(PURPOSES.len() - 1)
}
