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
// software Vulkan, where a fetch costs what dozens of products cost. On a real GPU a part would have too few lanes.
//!import fan_in
//!import fan_in_eights
//!import loss
//!import optimizer
//!import fan_in_bias
//!import random
//!import narrow
//!import fan_in_weights

// Lanes of a subgroup, which is a workgroup
const SUBGROUP: u32 = 8u;
// Labels whose logits a lane holds
const LABELS: u32 = 16u;
// Connections of which a lane holds what they send back
const SLOTS: u32 = 16u;
// Labels of whose weights a lane holds the gradients, for eight connections
const STEPPED: u32 = 8u;

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

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;              // [D, columns]
@group(0) @binding(1) var<storage, read> indices: array<u32>;              // [rows / group, index_words]
@group(0) @binding(2) var<storage, read> positive_bits: array<u32>;        // [rows, bit_words]: a bit for each sample
@group(0) @binding(3) var<storage, read_write> weights: array<u32>;        // [rows, weight_words]
@group(0) @binding(4) var<storage, read_write> bias: array<f32>;           // [rows]
@group(0) @binding(5) var<storage, read_write> first: array<u32>;          // [rows, moment_words], if the optimizer has it
@group(0) @binding(6) var<storage, read_write> second: array<u32>;         // [rows, moment_words], if the optimizer has it
@group(0) @binding(7) var<storage, read_write> bias_first: array<f32>;     // [rows], if the optimizer has it
@group(0) @binding(8) var<storage, read_write> bias_second: array<f32>;    // [rows], if the optimizer has it
@group(0) @binding(9) var<storage, read_write> dlogits: array<vec4<f32>>;  // [parts, group, columns]
@group(0) @binding(10) var<storage, read_write> partial: array<vec4<f32>>; // [parts, D, columns]
@group(0) @binding(11) var<storage, read_write> losses: array<f32>;        // [rows / group, columns / 8]

// Everything that needs the weights has read them by now.
fn keep_before(at: u32, word: u32) {}

// A group and who works at it.
struct Group {
    index_row: u32,
    first: u32,   // its first label
    labels: u32,  // of the last group perhaps fewer
    scratch: u32, // where its logit gradients begin, in quads
    lane: u32,
}

// Of labels or connections beyond the end the last one stands in, for nobody.
fn row_at(group: Group, label: u32) -> u32 {
    return group.first + min(label, group.labels - 1u);
}

fn weight_at(row: u32, slot: u32) -> f32 {
    let s = min(slot, params.fan_in - 1u);
    return stored(WEIGHTS, weights[row * params.weight_words + s / per_word(WEIGHTS)], s);
}

fn feature_at(group: Group, slot: u32) -> u32 {
    let s = min(slot, params.fan_in - 1u);
    return index_in(indices[group.index_row * params.index_words + index_word(s)], s);
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
    for (var run = 0u; run < params.fan_in; run += SUBGROUP) {
        let feature = feature_at(group, run + group.lane);
        var w: array<f32, LABELS>;
        for (var i = 0u; i < LABELS; i++) {
            w[i] = weight_at(row_at(group, begin + i), run + group.lane);
        }
        let end = min(SUBGROUP, params.fan_in - run);
        for (var k = 0u; k < end; k++) {
            let seen = fetch(subgroupShuffle(feature, k) * eights + mine);
            for (var i = 0u; i < LABELS; i++) {
                let weight = subgroupShuffle(w[i], k);
                low[i] = fma(vec4<f32>(weight), seen.low, low[i]);
                high[i] = fma(vec4<f32>(weight), seen.high, high[i]);
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
            let at = group.scratch + (begin + label) * (params.columns / 4u) + 2u * eight;
            dlogits[at] = params.scale * r0.gradient;
            dlogits[at + 1u] = params.scale * r1.gradient;
        }
        loss += dot(r0.loss + r1.loss, vec4<f32>(1.0));
    }
    return loss;
}

// What SLOTS connections send back to the lane's eight samples.
fn send_back(group: Group, begin: u32, eight: u32, inside: bool, part: u32) {
    let quads = params.columns / 4u;
    let mine = min(eight, quads / 2u - 1u);
    var low: array<vec4<f32>, SLOTS>;
    var high: array<vec4<f32>, SLOTS>;
    for (var i = 0u; i < SLOTS; i++) {
        low[i] = vec4<f32>(0.0);
        high[i] = vec4<f32>(0.0);
    }
    for (var label = 0u; label < group.labels; label++) {
        let at = group.scratch + label * quads + 2u * mine;
        let g0 = dlogits[at];
        let g1 = dlogits[at + 1u];
        for (var run = 0u; run < SLOTS; run += SUBGROUP) {
            let w = weight_at(group.first + label, begin + run + group.lane);
            for (var k = 0u; k < SUBGROUP; k++) {
                let weight = subgroupShuffle(w, k);
                if run + k < SLOTS {
                    low[run + k] = fma(vec4<f32>(weight), g0, low[run + k]);
                    high[run + k] = fma(vec4<f32>(weight), g1, high[run + k]);
                }
            }
        }
    }
    let end = min(SLOTS, params.fan_in - begin);
    for (var slot = 0u; slot < end; slot++) {
        var a = vec4<f32>(0.0);
        var b = vec4<f32>(0.0);
        for (var i = 0u; i < SLOTS; i++) {
            a = select(a, low[i], i == slot);
            b = select(b, high[i], i == slot);
        }
        let at = (part * params.features + feature_at(group, begin + slot)) * quads + 2u * eight;
        if inside {
            partial[at] += a;
            partial[at + 1u] += b;
        }
    }
}

// The step of up to STEPPED labels' weights from the lane's eight connections on, and of their biases.
fn step_labels(group: Group, begin: u32, first_slot: u32) {
    let quads = params.columns / 4u;
    let slot = first_slot + 8u * group.lane;
    var at: array<u32, 8>;
    for (var q = 0u; q < 8u; q++) { at[q] = feature_at(group, slot + q) * quads; }
    var low: array<vec4<f32>, STEPPED>;
    var high: array<vec4<f32>, STEPPED>;
    var sum: array<f32, STEPPED>;
    for (var i = 0u; i < STEPPED; i++) {
        low[i] = vec4<f32>(0.0);
        high[i] = vec4<f32>(0.0);
        sum[i] = 0.0;
    }
    for (var run = 0u; run < quads; run += SUBGROUP) {
        let end = min(SUBGROUP, quads - run);
        let own = min(group.lane, end - 1u);
        var g: array<vec4<f32>, STEPPED>;
        for (var i = 0u; i < STEPPED; i++) {
            g[i] = dlogits[group.scratch + min(begin + i, group.labels - 1u) * quads + run + own];
            sum[i] += select(0.0, dot(g[i], vec4<f32>(1.0)), group.lane < end);
        }
        for (var k = 0u; k < end; k++) {
            let x0 = fetch_quad(at[0] + run + k);
            let x1 = fetch_quad(at[1] + run + k);
            let x2 = fetch_quad(at[2] + run + k);
            let x3 = fetch_quad(at[3] + run + k);
            let x4 = fetch_quad(at[4] + run + k);
            let x5 = fetch_quad(at[5] + run + k);
            let x6 = fetch_quad(at[6] + run + k);
            let x7 = fetch_quad(at[7] + run + k);
            for (var i = 0u; i < STEPPED; i++) {
                let gx = vec4<f32>(subgroupShuffle(g[i].x, k));
                let gy = vec4<f32>(subgroupShuffle(g[i].y, k));
                let gz = vec4<f32>(subgroupShuffle(g[i].z, k));
                let gw = vec4<f32>(subgroupShuffle(g[i].w, k));
                var a = fma(gx, vec4<f32>(x0.x, x1.x, x2.x, x3.x), low[i]);
                var b = fma(gx, vec4<f32>(x4.x, x5.x, x6.x, x7.x), high[i]);
                a = fma(gy, vec4<f32>(x0.y, x1.y, x2.y, x3.y), a);
                b = fma(gy, vec4<f32>(x4.y, x5.y, x6.y, x7.y), b);
                a = fma(gz, vec4<f32>(x0.z, x1.z, x2.z, x3.z), a);
                b = fma(gz, vec4<f32>(x4.z, x5.z, x6.z, x7.z), b);
                low[i] = fma(gw, vec4<f32>(x0.w, x1.w, x2.w, x3.w), a);
                high[i] = fma(gw, vec4<f32>(x4.w, x5.w, x6.w, x7.w), b);
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

// Four samples of a feature.
fn fetch_quad(at: u32) -> vec4<f32> {
    if FEATURES == 1u {
        let eight = x[at / 2u];
        let half = select(eight.xy, eight.zw, at % 2u == 1u);
        return vec4<f32>(unpack2x16float(half.x), unpack2x16float(half.y));
    }
    return bitcast<vec4<f32>>(x[at]);
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
    let quads = params.columns / 4u;
    let end = min((part + 1u) * share, index_rows);
    for (var index_row = part * share; index_row < end; index_row++) {
        let first = index_row * params.group;
        let labels = min(params.group, params.rows - first);
        let group = Group(index_row, first, labels, part * params.group * quads, lane);
        for (var run = 0u; run < eights; run += SUBGROUP) {
            let eight = run + lane;
            let inside = eight < eights;
            var loss = 0.0;
            for (var begin = 0u; begin < labels; begin += LABELS) {
                loss += forward(group, begin, eight, inside);
            }
            if inside { losses[index_row * eights + eight] = loss; }
            for (var begin = 0u; begin < params.fan_in; begin += SLOTS) {
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
