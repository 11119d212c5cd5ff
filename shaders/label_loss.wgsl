// Loss of a block of labels from the logits that a matrix product gave, and its gradient with respect to them.
//
//   z[l,b] = logits[l,b] + bias[l];  loss and gradient as in shared/loss.wgsl
//
// An invocation owns one label and walks the samples in tiles of 16.
//!import linear
//!import first_positive
//!import loss

const WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,        // labels of this block
    first_label: u32, // number of the block's first label
    batch: u32,
    columns: u32,     // batch rounded up to 16
    positives: u32,   // (label, sample) pairs of the batch
    scale: f32,       // of the gradient: what the reduction divides by
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> logits: array<vec4<f32>>;        // [rows, columns], without bias
@group(0) @binding(1) var<storage, read> bias: array<f32>;                // [rows]
@group(0) @binding(2) var<storage, read> positives: array<vec2<u32>>;     // sorted by label, then sample
@group(0) @binding(3) var<storage, read_write> dlogits: array<vec4<f32>>; // [rows, columns]
@group(0) @binding(4) var<storage, read_write> label_loss: array<f32>;    // [rows], summed over the samples

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
    let shift = vec4<f32>(bias[row]);
    let quads = params.columns / 4u;
    var cursor = first_positive(label);
    var total = 0.0;
    for (var tile = 0u; tile < quads; tile += 4u) {
        let at = row * quads + tile;
        if LOSS == 2u {
            dlogits[at] = logits[at] + shift;
            dlogits[at + 1u] = logits[at + 1u] + shift;
            dlogits[at + 2u] = logits[at + 2u] + shift;
            dlogits[at + 3u] = logits[at + 3u] + shift;
            continue;
        }
        let first_sample = tile * 4u;
        var positive_bits = 0u;
        while cursor < params.positives && positives[cursor].x == label
            && positives[cursor].y < first_sample + 16u {
            positive_bits |= 1u << (positives[cursor].y - first_sample);
            cursor++;
        }
        let r0 = loss_of(logits[at] + shift, signs(positive_bits, first_sample));
        let r1 = loss_of(logits[at + 1u] + shift, signs(positive_bits >> 4u, first_sample + 4u));
        let r2 = loss_of(logits[at + 2u] + shift, signs(positive_bits >> 8u, first_sample + 8u));
        let r3 = loss_of(logits[at + 3u] + shift, signs(positive_bits >> 12u, first_sample + 12u));
        dlogits[at] = params.scale * r0.gradient;
        dlogits[at + 1u] = params.scale * r1.gradient;
        dlogits[at + 2u] = params.scale * r2.gradient;
        dlogits[at + 3u] = params.scale * r3.gradient;
        total += dot(r0.loss + r1.loss + r2.loss + r3.loss, vec4<f32>(1.0));
    }
    label_loss[row] = total;
}
