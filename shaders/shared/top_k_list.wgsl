// The K best of the labels that an invocation meets for one sample, in ascending order of the labels. Who imports this
// has `filter_labels`, and where each sample's begin in `filter_offsets`.

const K: u32 = 5u;

// No label: what is left of a list with fewer than K entries.
const NOTHING: u32 = 0xffffffffu;
const LOWEST: f32 = -3.4028234e38;

// Best first.
var<private> best_scores: array<f32, K>;
var<private> best_labels: array<u32, K>;

fn begin_list() {
    for (var i = 0u; i < K; i++) {
        best_scores[i] = LOWEST;
        best_labels[i] = NOTHING;
    }
}

fn is_filtered(sample: u32, label: u32) -> bool {
    var found = false;
    for (var i = filter_offsets[sample]; i < filter_offsets[sample + 1u]; i++) {
        if filter_labels[i] == label {
            found = true;
        }
    }
    return found;
}

// Labels come in ascending order, so an equal score stays behind; those on the sample's filter list never enter.
fn offer(sample: u32, label: u32, score: f32) {
    if score > best_scores[K - 1u] {
        if !is_filtered(sample, label) {
            var place = K - 1u;
            while place > 0u {
                if best_scores[place - 1u] >= score {
                    break;
                }
                best_scores[place] = best_scores[place - 1u];
                best_labels[place] = best_labels[place - 1u];
                place--;
            }
            best_scores[place] = score;
            best_labels[place] = label;
        }
    }
}
