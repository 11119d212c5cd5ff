// Where a label's positives are. Who imports this has `positives`, (label, sample) pairs sorted by label, then sample, and
// their number in `params`.

// The first pair of this label or a later one.
fn first_positive(label: u32) -> u32 {
    var low = 0u;
    var high = params.positives;
    while low < high {
        let middle = (low + high) / 2u;
        if positives[middle].x < label { low = middle + 1u; } else { high = middle; }
    }
    return low;
}
