// What a gradient is multiplied by so that its norm is at most `max_norm`, as torch.nn.utils.clip_grad_norm_ does.
//
//   norm = sqrt(sum of the partial sums of squares),   factor = min(1, max_norm / (norm + 1e-6))
//
// One workgroup.
//!import row_sum

struct Params {
    partials: u32,
    max_norm: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> partials: array<f32>;
@group(0) @binding(1) var<storage, read_write> factor: array<f32>; // [4]: factor, norm, 0, 0

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) local: u32) {
    var sum = 0.0;
    for (var i = local; i < params.partials; i += LANES) {
        sum += partials[i];
    }
    let norm = sqrt(row_sum(local, sum));
    if local == 0u {
        let wanted = params.max_norm / (norm + 1e-6);
        // By comparison, not min: a NaN must reach the gradient.
        factor[0] = select(wanted, 1.0, wanted > 1.0);
        factor[1] = norm;
        factor[2] = 0.0;
        factor[3] = 0.0;
    }
}
