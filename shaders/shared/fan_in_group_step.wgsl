// One training step of groups of labels in one pass: logits, loss, gradients of the logits, of the weights and of the
// features, and the optimizer's step of weights and biases. Weights are read once and written once.
//
//   z[b,l] = bias[l] + sum_f weights[l,f] * x[b, indices[l / group, f]]
//   dlogits = scale * dloss/dz
//   partial[part,d,b] += sum over the part's groups, over f with indices[group, f] = d: sum over the group's labels l:
//                        weights[l,f] * dlogits[l,b]
//   g[l,f] = sum_b dlogits[l,b] * x[b, indices[l / group, f]], then one optimizer step of weights[l,f]
//   g[l]   = sum_b dlogits[l,b], then one of bias[l], without weight decay
//
// A workgroup is one subgroup and takes group after group, so that nothing waits at a barrier. A lane owns eight
// samples, then eight connections; what all lanes need of a number that one has fetched, they get from its register. For
// software Vulkan, where a fetch costs what dozens of products cost, and numbers that loops carry lie on the stack, to which
// each is stored under a mask: so a lane holds features or gradients, which do not change, and goes over labels or connections,
// whose sums stay in registers. On a real GPU a part would have too few lanes.
//
// Who imports this has a function fetch(feature, eight), which fetches eight samples of a feature, and how eights of
// `dlogits`, [parts, group, columns] and what is kept behind them, and of `partial`, [parts, D, columns], are fetched and
// stored; and `weights`, [rows, weight_words], and their states, [rows, moment_words], how the weights of eight connections are
// fetched, `weights_of`, and how they make a step, `step_weights`.
//!import fan_in
//!import loss
//!import optimizer
//!import fan_in_bias

// Lanes of a subgroup, which is a workgroup
const SUBGROUP: u32 = 8u;
// Connections whose features a lane holds for its eight samples, while it goes over the labels
const SEEN: u32 = 64u;
// Labels whose logit gradients a lane holds, while they send back
const BACK: u32 = 32u;
// Samples, in eights, of which a lane holds its eight connections' features, while it goes over the labels; a lane for each
const STEPPED: u32 = 8u;

// Registers for the features of eight connections, a lane for each
const HELD: u32 = max(8u / SUBGROUP, 1u);
// Eights of the connections that are seen, and registers for their weights, a lane for each
const SEEN_EIGHTS: u32 = SEEN / 8u;
const SEEN_VECTORS: u32 = max(SEEN_EIGHTS / SUBGROUP, 1u);
// Registers for a number of each of BACK labels, a lane for each
const BACK_VECTORS: u32 = max(BACK / SUBGROUP, 1u);

struct Params {
    @size(48) rates: Rates, // uniform buffers want what follows a struct at a multiple of 16
    rows: u32,         // labels of this launch
    first_label: u32,  // number of its first label
    fan_in: u32,
    index_words: u32,  // words in a row of indices
    weight_words: u32, // words in a row of weights
    moment_words: u32, // words in a row of states
    group: u32,        // labels that share a row of indices
    batch: u32,
    columns: u32,      // batch rounded up to 16
    bit_words: u32,    // words in a row of positive_bits
    scale: f32,        // of the gradient: what the reduction divides by
    train_bias: u32,
    seed_low: u32,     // of the roundings
    seed_high: u32,
    step: u32,
    features: u32,     // D
    parts: u32,        // runs of groups, a workgroup each
}
var<immediate> params: Params;

@group(0) @binding(1) var<storage, read> indices: array<u32>;              // [rows / group, index_words]
@group(0) @binding(2) var<storage, read> positive_bits: array<u32>;        // [rows, bit_words]: a bit for each sample
@group(0) @binding(4) var<storage, read_write> bias: array<f32>;           // [rows]
@group(0) @binding(7) var<storage, read_write> bias_first: array<f32>;     // [rows], if the optimizer has it
@group(0) @binding(8) var<storage, read_write> bias_second: array<f32>;    // [rows], if the optimizer has it
@group(0) @binding(11) var<storage, read_write> losses: array<f32>;        // [rows / group, columns / 8]

// A group and who works at it.
struct Group {
    index_row: u32,
    first: u32,   // its first label
    labels: u32,  // of the last group perhaps fewer
    scratch: u32, // where its logit gradients begin, in eights
    lane: u32,
    part: u32,
}

// Of labels or connections beyond the end the last one stands in, for nobody.
fn row_at(group: Group, label: u32) -> u32 {
    return group.first + min(label, group.labels - 1u);
}

fn feature_at(group: Group, slot: u32) -> u32 {
    let s = min(slot, params.fan_in - 1u);
    return index_in(indices[group.index_row * params.index_words + index_word(s)], s);
}

// The features of eight connections from `run` on, a lane for each.
fn features_of(group: Group, run: u32) -> array<u32, HELD> {
    var features: array<u32, HELD>;
    for (var h = 0u; h < HELD; h++) { features[h] = feature_at(group, run + h * SUBGROUP + group.lane); }
    return features;
}

// The k-th of them, for all lanes.
fn kth_feature(features: array<u32, HELD>, k: u32) -> u32 {
    var held = features;
    var feature = held[0];
    for (var h = 1u; h < HELD; h++) { feature = select(feature, held[h], k / SUBGROUP == h); }
    return subgroupShuffle(feature, k % SUBGROUP);
}

// The weights of eight connections from `begin` on; beyond the last one they are zero.
fn weights_or_zeros(row: u32, begin: u32) -> array<f32, 8> {
    var weights = weights_of(row, min(begin, params.fan_in - 1u));
    for (var q = 0u; q < 8u; q++) { weights[q] = select(0.0, weights[q], begin < params.fan_in); }
    return weights;
}

// The lane's k-th.
fn kth(weights: array<f32, 8>, k: u32) -> f32 {
    var all = weights;
    var weight = all[0];
    for (var q = 1u; q < 8u; q++) { weight = select(weight, all[q], k == q); }
    return weight;
}

// Logits of all labels for the lane's eight samples; their gradients go to scratch. Returns the loss.
fn forward(group: Group, eight: u32, inside: bool) -> f32 {
    let eights = params.columns / 8u;
    let mine = min(eight, eights - 1u);
    var loss = 0.0;
    for (var run = 0u; run < params.fan_in; run += SEEN) {
        var seen: array<array<Eight, 8>, SEEN_EIGHTS>;
        for (var r = 0u; r < SEEN_EIGHTS; r++) {
            let features = features_of(group, run + 8u * r);
            for (var k = 0u; k < 8u; k++) { seen[r][k] = fetch(kth_feature(features, k), mine); }
        }
        for (var label = 0u; label < group.labels; label++) {
            let row = group.first + label;
            let at = group.scratch + label * eights + mine;
            // A lane has the weights of eight connections; beyond the last one they are zero.
            var weights: array<array<f32, 8>, SEEN_VECTORS>;
            for (var v = 0u; v < SEEN_VECTORS; v++) {
                weights[v] = weights_or_zeros(row, run + 8u * (v * SUBGROUP + group.lane));
            }
            var z = Eight(vec4<f32>(bias[row]), vec4<f32>(bias[row]));
            if run > 0u { z = gradients_of(at); }
            for (var r = 0u; r < SEEN_EIGHTS; r++) {
                for (var k = 0u; k < 8u; k++) {
                    let w = subgroupShuffle(weights[r / SUBGROUP][k], r % SUBGROUP);
                    z.low += w * seen[r][k].low;
                    z.high += w * seen[r][k].high;
                }
            }
            if run + SEEN >= params.fan_in {
                let bits = positive_bits[row * params.bit_words + mine / 4u] >> ((mine % 4u) * 8u);
                let r0 = loss_of(z.low, signs(bits, eight * 8u));
                let r1 = loss_of(z.high, signs(bits >> 4u, eight * 8u + 4u));
                z = Eight(params.scale * r0.gradient, params.scale * r1.gradient);
                loss += dot(r0.loss + r1.loss, vec4<f32>(1.0));
            }
            if inside { store_gradients(at, z.low, z.high); }
        }
    }
    return loss;
}

// What BACK labels send back to the lane's eight samples.
fn send_back(group: Group, begin: u32, eight: u32, inside: bool) {
    let eights = params.columns / 8u;
    let mine = min(eight, eights - 1u);
    var g: array<Eight, BACK>;
    for (var i = 0u; i < BACK; i++) {
        g[i] = gradients_of(group.scratch + min(begin + i, group.labels - 1u) * eights + mine);
    }
    for (var run = 0u; run < params.fan_in; run += 8u) {
        let features = features_of(group, run);
        // A lane has the weights of a label; where there is none, zeros.
        var weights: array<array<f32, 8>, BACK_VECTORS>;
        for (var v = 0u; v < BACK_VECTORS; v++) {
            let label = begin + v * SUBGROUP + group.lane;
            weights[v] = weights_of(row_at(group, label), run);
            for (var q = 0u; q < 8u; q++) { weights[v][q] = select(0.0, weights[v][q], label < group.labels); }
        }
        let end = min(8u, params.fan_in - run);
        for (var k = 0u; k < end; k++) {
            var low = vec4<f32>(0.0);
            var high = vec4<f32>(0.0);
            for (var v = 0u; v < BACK_VECTORS; v++) {
                let of_lane = kth(weights[v], k);
                for (var i = 0u; i < BACK / BACK_VECTORS; i++) {
                    let w = subgroupShuffle(of_lane, i);
                    low += w * g[v * SUBGROUP + i].low;
                    high += w * g[v * SUBGROUP + i].high;
                }
            }
            let at = (group.part * params.features + kth_feature(features, k)) * eights + eight;
            if inside { add_to_features(at, low, high); }
        }
    }
}

// What lane `k` has.
fn quad_of_lane(quad: vec4<f32>, k: u32) -> vec4<f32> {
    return vec4<f32>(
        subgroupShuffle(quad.x, k),
        subgroupShuffle(quad.y, k),
        subgroupShuffle(quad.z, k),
        subgroupShuffle(quad.w, k),
    );
}

// The step of the group's weights of the lane's eight connections from `first_slot` on, and of its biases.
fn step_labels(group: Group, first_slot: u32) {
    let eights = params.columns / 8u;
    let slot = first_slot + 8u * group.lane;
    for (var run = 0u; run < eights; run += STEPPED) {
        // Of samples beyond the end the last ones stand in: their gradients are zero.
        var seen: array<array<Eight, 8>, STEPPED>;
        for (var q = 0u; q < 8u; q++) {
            let feature = feature_at(group, slot + q);
            for (var k = 0u; k < STEPPED; k++) { seen[k][q] = fetch(feature, min(run + k, eights - 1u)); }
        }
        let own = run + min(group.lane, STEPPED - 1u);
        let inside = own < eights && group.lane < STEPPED;
        for (var label = 0u; label < group.labels; label++) {
            let row = group.first + label;
            let gradients = group.scratch + label * eights;
            var g = gradients_of(gradients + min(own, eights - 1u));
            g.low = select(vec4<f32>(0.0), g.low, inside);
            g.high = select(vec4<f32>(0.0), g.high, inside);
            let kept = kept_at(group, label, slot);
            var sum = Eight(vec4<f32>(0.0), vec4<f32>(0.0));
            if run > 0u { sum = gradients_of(kept); }
            for (var k = 0u; k < STEPPED; k++) {
                let low = quad_of_lane(g.low, k);
                let high = quad_of_lane(g.high, k);
                sum.low += vec4<f32>(
                    dot_of(low, high, seen[k][0]),
                    dot_of(low, high, seen[k][1]),
                    dot_of(low, high, seen[k][2]),
                    dot_of(low, high, seen[k][3]),
                );
                sum.high += vec4<f32>(
                    dot_of(low, high, seen[k][4]),
                    dot_of(low, high, seen[k][5]),
                    dot_of(low, high, seen[k][6]),
                    dot_of(low, high, seen[k][7]),
                );
            }
            if run + STEPPED < eights {
                store_gradients(kept, sum.low, sum.high);
                continue;
            }
            let a = sum.low;
            let b = sum.high;
            step_weights(row, slot, array<f32, 8>(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w));
            if first_slot == 0u && params.train_bias == 1u {
                var of_bias = dot(g.low + g.high, vec4<f32>(1.0));
                for (var before = 0u; before < run; before += STEPPED) {
                    let earlier = gradients_of(gradients + min(before + group.lane, eights - 1u));
                    of_bias += select(0.0, dot(earlier.low + earlier.high, vec4<f32>(1.0)), group.lane < STEPPED);
                }
                let gradient = subgroupAdd(of_bias);
                if group.lane == 0u { step_bias(row, gradient); }
            }
        }
    }
}

fn dot_of(low: vec4<f32>, high: vec4<f32>, seen: Eight) -> f32 {
    return dot(low, seen.low) + dot(high, seen.high);
}

// Where a sum over the first samples waits for the others, in eights: behind all logit gradients.
fn kept_at(group: Group, label: u32, slot: u32) -> u32 {
    let across = (params.fan_in + 8u * SUBGROUP - 1u) / (8u * SUBGROUP) * SUBGROUP;
    return params.parts * params.group * (params.columns / 8u) + (group.part * params.group + label) * across + slot / 8u;
}

@compute @workgroup_size(SUBGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let part = workgroup.x;
    let index_rows = (params.rows + params.group - 1u) / params.group;
    let share = (index_rows + params.parts - 1u) / params.parts;
    let eights = params.columns / 8u;
    let end = min((part + 1u) * share, index_rows);
    for (var index_row = part * share; index_row < end; index_row++) {
        let first = index_row * params.group;
        let labels = min(params.group, params.rows - first);
        let group = Group(index_row, first, labels, part * params.group * eights, lane, part);
        for (var run = 0u; run < eights; run += SUBGROUP) {
            let eight = run + lane;
            let inside = eight < eights;
            let loss = forward(group, eight, inside);
            if inside { losses[index_row * eights + eight] = loss; }
            for (var begin = 0u; begin < labels; begin += BACK) {
                send_back(group, begin, eight, inside);
            }
        }
        for (var slot = 0u; slot < params.fan_in; slot += 8u * SUBGROUP) {
            step_labels(group, slot);
        }
    }
}
