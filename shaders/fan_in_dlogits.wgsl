// Logits of a block of labels, their loss, and its gradient with respect to the logits.
//
//   z[b,l] = bias[l] + sum_f weights[l,f] * x[b, indices[l / group, f]]
//   u = z for a negative label, -z for a positive one
//   BCE            loss max(u,0) + log(1 + exp(-|u|))   gradient +-sigmoid(u)
//   squared hinge  loss max(0, 1 + u)^2                 gradient +-2 max(0, 1 + u)
//
// An invocation owns one label and walks the samples in tiles of 16.
//!import linear
//!import fan_in
//!import narrow

// 0 binary cross-entropy, 1 squared hinge, 2 none: the logits themselves
const LOSS: u32 = 0u;
const WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,          // labels of this block
    first_label: u32,   // number of the block's first label
    fan_in: u32,
    index_words: u32,   // words in a row of indices
    weight_words: u32,  // words in a row of weights
    group: u32,         // labels that share a row of indices
    batch: u32,
    columns: u32,       // batch rounded up to 16
    positives: u32,     // (label, sample) pairs of the batch
    scale: f32,         // of the gradient: what the reduction divides by
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;             // [D, columns]
@group(0) @binding(1) var<storage, read> weights: array<u32>;             // [rows, weight_words]
@group(0) @binding(2) var<storage, read> indices: array<u32>;             // [rows / group, index_words]
@group(0) @binding(3) var<storage, read> bias: array<f32>;                // [rows]
@group(0) @binding(4) var<storage, read> positives: array<vec2<u32>>;     // sorted by label, then sample
@group(0) @binding(5) var<storage, read_write> dlogits: array<vec4<f32>>; // [rows, columns]
@group(0) @binding(6) var<storage, read_write> label_loss: array<f32>;    // [rows], summed over the samples

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

struct LossAndGradient { loss: vec4<f32>, gradient: vec4<f32> }

// `z` four logits, `sign` -1 where the label is positive, +1 where not, 0 beyond the batch
fn loss_of(z: vec4<f32>, sign: vec4<f32>) -> LossAndGradient {
    let u = z * sign;
    if LOSS == 1u {
        // By comparison, not max: a NaN must reach the loss.
        let margin = select(vec4<f32>(1.0) + u, vec4<f32>(0.0), vec4<f32>(1.0) + u <= vec4<f32>(0.0)) * abs(sign);
        return LossAndGradient(margin * margin, 2.0 * sign * margin);
    }
    // Both tails exact: exp of -|u| alone, and log(1 + e) = 2 artanh(e / (2 + e)) by its series, s <= 1/3.
    let e = exp(-abs(u));
    let s = e / (vec4<f32>(2.0) + e);
    let t = s * s;
    let series = 1.0 + t * (1.0 / 3.0 + t * (0.2 + t * (1.0 / 7.0 + t * (1.0 / 9.0 + t * (1.0 / 11.0 + t / 13.0)))));
    let loss = max(u, vec4<f32>(0.0)) + 2.0 * s * series;
    let sigmoid = select(e, vec4<f32>(1.0), u >= vec4<f32>(0.0)) / (vec4<f32>(1.0) + e);
    return LossAndGradient(loss * abs(sign), sign * sigmoid);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let row = lane_of(workgroup, grid, WORKGROUP, local);
    if row >= params.rows {
        return;
    }
    let label = params.first_label + row;
    let weight_base = row * params.weight_words;
    let index_base = (row / params.group) * params.index_words;
    let quads = params.columns / 4u;
    var cursor = first_positive(label);
    var total = 0.0;
    for (var tile = 0u; tile < quads; tile += 4u) {
        var z0 = vec4<f32>(bias[row]);
        var z1 = z0;
        var z2 = z0;
        var z3 = z0;
        for (var f = 0u; f < params.fan_in; f++) {
            let w = stored(WEIGHTS, weights[weight_base + f / per_word(WEIGHTS)], f);
            let at = index_in(indices[index_base + f / 2u], f) * quads + tile;
            z0 += w * x[at];
            z1 += w * x[at + 1u];
            z2 += w * x[at + 2u];
            z3 += w * x[at + 3u];
        }
        let out = row * quads + tile;
        if LOSS == 2u {
            dlogits[out] = z0;
            dlogits[out + 1u] = z1;
            dlogits[out + 2u] = z2;
            dlogits[out + 3u] = z3;
            continue;
        }
        let first_sample = tile * 4u;
        var positive_bits = 0u;
        while cursor < params.positives && positives[cursor].x == label
            && positives[cursor].y < first_sample + 16u {
            positive_bits |= 1u << (positives[cursor].y - first_sample);
            cursor++;
        }
        let r0 = loss_of(z0, signs(positive_bits, first_sample));
        let r1 = loss_of(z1, signs(positive_bits >> 4u, first_sample + 4u));
        let r2 = loss_of(z2, signs(positive_bits >> 8u, first_sample + 8u));
        let r3 = loss_of(z3, signs(positive_bits >> 12u, first_sample + 12u));
        dlogits[out] = params.scale * r0.gradient;
        dlogits[out + 1u] = params.scale * r1.gradient;
        dlogits[out + 2u] = params.scale * r2.gradient;
        dlogits[out + 3u] = params.scale * r3.gradient;
        total += dot(r0.loss + r1.loss + r2.loss + r3.loss, vec4<f32>(1.0));
    }
    label_loss[row] = total;
}

// -1 for positives, +1 for negatives, 0 for the columns beyond the batch
fn signs(bits: u32, first_sample: u32) -> vec4<f32> {
    let place = vec4<u32>(0u, 1u, 2u, 3u);
    let positive = ((vec4<u32>(bits) >> place) & vec4<u32>(1u)) == vec4<u32>(1u);
    let inside = (vec4<u32>(first_sample) + place) < vec4<u32>(params.batch);
    return select(vec4<f32>(0.0), select(vec4<f32>(1.0), vec4<f32>(-1.0), positive), inside);
}
