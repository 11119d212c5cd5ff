// One training step of a block of labels but for the features' gradient: logits, loss, gradients and the optimizer's
// step of weights and biases. Weights are read once and written once.
//
//   z[b,l] = bias[l] + sum_f weights[l,f] * x[b, indices[l / group, f]]
//   dlogits = scale * dloss/dz
//   g[l,f] = sum_b dlogits[l,b] * x[b, indices[l / group, f]], then one optimizer step of weights[l,f]
//   g[l]   = sum_b dlogits[l,b], then one of bias[l], without weight decay
//
// An invocation owns one label. Logit gradients and the weights as they were go to memory for the features' gradient. Who
// imports this has the features, indices, weights and what goes with them, binding 9 and `keep_gradient`, which puts four logit
// gradients of a label there, and `step_label`, which takes it through its samples.
//!import linear
//!import fan_in
//!import first_positive
//!import loss
//!import optimizer
//!import fan_in_bias

const WORKGROUP: u32 = 64u;

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
    positives: u32,    // (label, sample) pairs of the batch
    scale: f32,        // of the gradient: what the reduction divides by
    train_bias: u32,
    seed_low: u32,     // of the roundings
    seed_high: u32,
    step: u32,
}
var<immediate> params: Params;

@group(0) @binding(2) var<storage, read> positives: array<vec2<u32>>;      // sorted by label, then sample
@group(0) @binding(4) var<storage, read_write> bias: array<f32>;           // [rows]
@group(0) @binding(7) var<storage, read_write> bias_first: array<f32>;     // [rows], if the optimizer has it
@group(0) @binding(8) var<storage, read_write> bias_second: array<f32>;    // [rows], if the optimizer has it
@group(0) @binding(11) var<storage, read_write> label_loss: array<f32>;    // [rows], summed over the samples

// What a label gathers on its way through the samples.
struct Label {
    row: u32,
    number: u32,      // of the label
    cursor: u32,      // the next of the positives
    loss: f32,
    gradient: vec4<f32>, // of the bias
}

// The label's positives among the sixteen samples from `first_sample` on, a bit each.
fn positive_bits(label: ptr<function, Label>, first_sample: u32) -> u32 {
    var bits = 0u;
    while (*label).cursor < params.positives {
        let pair = positives[(*label).cursor];
        if pair.x != (*label).number || pair.y >= first_sample + 16u {
            break;
        }
        bits |= 1u << (pair.y - first_sample);
        (*label).cursor++;
    }
    return bits;
}

// Four logits become their gradients, which are kept.
fn finish(label: ptr<function, Label>, quad: u32, z: vec4<f32>, bits: u32) -> vec4<f32> {
    let result = loss_of(z, signs(bits, quad * 4u));
    let gradient = params.scale * result.gradient;
    keep_gradient((*label).row, quad, gradient);
    (*label).loss += dot(result.loss, vec4<f32>(1.0));
    (*label).gradient += gradient;
    return gradient;
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
    let number = params.first_label + row;
    var label = Label(row, number, first_positive(number), 0.0, vec4<f32>(0.0));
    step_label(&label);
    label_loss[row] = label.loss;
    if params.train_bias == 1u { step_bias(row, dot(label.gradient, vec4<f32>(1.0))); }
}
