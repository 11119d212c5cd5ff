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
// software Vulkan, where a fetch costs what dozens of products cost. On a real GPU a part would have too few lanes. Who
// imports this has `x`, [D, columns], `dlogits`, [parts, group, columns], and `partial`, [parts, D, columns], and how eight
// samples of them are fetched and stored; and `weights`, [rows, weight_words], and their states, [rows, moment_words], how
// the weights of eight connections are fetched, `weights_of`, and how they make a step, `step_weights`.
//!import fan_in
//!import loss
//!import optimizer
//!import fan_in_bias

// Lanes of a subgroup, which is a workgroup
const SUBGROUP: u32 = 8u;
// Labels whose logits a lane holds
const LABELS: u32 = 32u;
// Labels whose logit gradients a lane holds, while they send back
const BACK: u32 = 32u;
// Labels of whose weights a lane holds the gradients, for eight connections
const STEPPED: u32 = 32u;

// Registers for the features of eight connections, a lane for each
const HELD: u32 = max(8u / SUBGROUP, 1u);
// Those for a number of each of LABELS and of BACK labels, a lane for each
const VECTORS: u32 = max(LABELS / SUBGROUP, 1u);
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

// The lane's k-th.
fn kth(weights: array<f32, 8>, k: u32) -> f32 {
    var all = weights;
    var weight = all[0];
    for (var q = 1u; q < 8u; q++) { weight = select(weight, all[q], k == q); }
    return weight;
}

// Logits of up to LABELS labels for the lane's eight samples; their gradients go to scratch. Returns the loss.
fn forward(group: Group, begin: u32, eight: u32, inside: bool) -> f32 {
    let eights = params.columns / 8u;
    let mine = min(eight, eights - 1u);
    var low: array<vec4<f32>, LABELS>;
    var high: array<vec4<f32>, LABELS>;
    for (var i = 0u; i < LABELS; i++) {
        low[i] = vec4<f32>(bias[row_at(group, begin + i)]);
        high[i] = low[i];
    }
    for (var run = 0u; run < params.fan_in; run += 8u) {
        let features = features_of(group, run);
        // A lane has the weights of a label.
        var weights: array<array<f32, 8>, VECTORS>;
        for (var v = 0u; v < VECTORS; v++) {
            weights[v] = weights_of(row_at(group, begin + v * SUBGROUP + group.lane), run);
        }
        let end = min(8u, params.fan_in - run);
        for (var k = 0u; k < end; k += 2u) {
            let x0 = fetch(kth_feature(features, k) * eights + mine);
            let x1 = fetch(kth_feature(features, k + 1u) * eights + mine);
            for (var v = 0u; v < VECTORS; v++) {
                let of_lane_0 = kth(weights[v], k);
                let of_lane_1 = kth(weights[v], k + 1u);
                for (var i = 0u; i < LABELS / VECTORS; i++) {
                    let w0 = subgroupShuffle(of_lane_0, i);
                    let w1 = subgroupShuffle(of_lane_1, i);
                    low[v * SUBGROUP + i] += w0 * x0.low + w1 * x1.low;
                    high[v * SUBGROUP + i] += w0 * x0.high + w1 * x1.high;
                }
            }
        }
    }
    var loss = 0.0;
    let labels = min(LABELS, group.labels - begin);
    // By labels, so that the code of a loss is there once: a driver unrolls loops over constants.
    for (var label = 0u; label < labels; label++) {
        var z0 = vec4<f32>(0.0);
        var z1 = vec4<f32>(0.0);
        for (var i = 0u; i < LABELS; i++) {
            z0 = select(z0, low[i], i == label);
            z1 = select(z1, high[i], i == label);
        }
        let row = group.first + begin + label;
        let bits = positive_bits[row * params.bit_words + mine / 4u] >> ((mine % 4u) * 8u);
        let r0 = loss_of(z0, signs(bits, eight * 8u));
        let r1 = loss_of(z1, signs(bits >> 4u, eight * 8u + 4u));
        if inside {
            let at = group.scratch + (begin + label) * eights + eight;
            store_gradients(at, params.scale * r0.gradient, params.scale * r1.gradient);
        }
        loss += dot(r0.loss + r1.loss, vec4<f32>(1.0));
    }
    return loss;
}

// What BACK labels send back to the lane's eight samples.
fn send_back(group: Group, begin: u32, eight: u32, inside: bool, part: u32) {
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
            let at = (part * params.features + kth_feature(features, k)) * eights + eight;
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

fn dots(g: vec4<f32>, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(dot(g, a), dot(g, b), dot(g, c), dot(g, d));
}

// The step of up to STEPPED labels' weights from the lane's eight connections on, and of their biases.
fn step_labels(group: Group, begin: u32, first_slot: u32) {
    let eights = params.columns / 8u;
    let slot = first_slot + 8u * group.lane;
    var at: array<u32, 8>;
    for (var q = 0u; q < 8u; q++) { at[q] = feature_at(group, slot + q) * eights; }
    var low: array<vec4<f32>, STEPPED>;
    var high: array<vec4<f32>, STEPPED>;
    var sum: array<f32, STEPPED>;
    for (var i = 0u; i < STEPPED; i++) {
        low[i] = vec4<f32>(0.0);
        high[i] = vec4<f32>(0.0);
        sum[i] = 0.0;
    }
    for (var run = 0u; run < eights; run += SUBGROUP) {
        let end = min(SUBGROUP, eights - run);
        let own = min(group.lane, end - 1u);
        var g: array<Eight, STEPPED>;
        for (var i = 0u; i < STEPPED; i++) {
            g[i] = gradients_of(group.scratch + min(begin + i, group.labels - 1u) * eights + run + own);
            sum[i] += select(0.0, dot(g[i].low + g[i].high, vec4<f32>(1.0)), group.lane < end);
        }
        for (var k = 0u; k < end; k++) {
            var seen: array<Eight, 8>;
            for (var q = 0u; q < 8u; q++) { seen[q] = fetch(at[q] + run + k); }
            for (var i = 0u; i < STEPPED; i++) {
                let from_low = quad_of_lane(g[i].low, k);
                let from_high = quad_of_lane(g[i].high, k);
                low[i] += dots(from_low, seen[0].low, seen[1].low, seen[2].low, seen[3].low)
                    + dots(from_high, seen[0].high, seen[1].high, seen[2].high, seen[3].high);
                high[i] += dots(from_low, seen[4].low, seen[5].low, seen[6].low, seen[7].low)
                    + dots(from_high, seen[4].high, seen[5].high, seen[6].high, seen[7].high);
            }
        }
    }
    let labels = min(STEPPED, group.labels - begin);
    for (var label = 0u; label < labels; label++) {
        var a = vec4<f32>(0.0);
        var b = vec4<f32>(0.0);
        var s = 0.0;
        for (var i = 0u; i < STEPPED; i++) {
            a = select(a, low[i], i == label);
            b = select(b, high[i], i == label);
            s = select(s, sum[i], i == label);
        }
        let row = group.first + begin + label;
        step_weights(row, slot, array<f32, 8>(a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w));
        if first_slot == 0u && params.train_bias == 1u {
            let gradient = subgroupAdd(s);
            if group.lane == 0u { step_bias(row, gradient); }
        }
    }
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
        let group = Group(index_row, first, labels, part * params.group * eights, lane);
        for (var run = 0u; run < eights; run += SUBGROUP) {
            let eight = run + lane;
            let inside = eight < eights;
            var loss = 0.0;
            for (var begin = 0u; begin < labels; begin += LABELS) {
                loss += forward(group, begin, eight, inside);
            }
            if inside { losses[index_row * eights + eight] = loss; }
            for (var begin = 0u; begin < labels; begin += BACK) {
                send_back(group, begin, eight, inside, part);
            }
        }
        for (var begin = 0u; begin < labels; begin += STEPPED) {
            for (var slot = 0u; slot < params.fan_in; slot += 8u * SUBGROUP) {
                step_labels(group, begin, slot);
            }
        }
    }
}
