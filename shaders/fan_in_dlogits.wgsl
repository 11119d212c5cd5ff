// Logits of a block of labels, their loss, and its gradient with respect to the logits.
//
//   z[b,l] = bias[l] + sum_f weights[l,f] * x[b, indices[l / group, f]]
//
// An invocation owns one label and walks the samples in tiles of 16.
//!import linear
//!import fan_in
//!import narrow
//!import first_positive
//!import loss

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
            let at = index_in(indices[index_base + index_word(f)], f) * quads + tile;
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
