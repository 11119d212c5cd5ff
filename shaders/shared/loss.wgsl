// The loss of every (sample, label) pair and its gradient with respect to the logit. Who imports this has in `params` the
// samples `batch`.
//
//   u = z for a negative label, -z for a positive one
//   BCE            loss max(u,0) + log(1 + exp(-|u|))   gradient +-sigmoid(u)
//   squared hinge  loss max(0, 1 + u)^2                 gradient +-2 max(0, 1 + u)

// 0 binary cross-entropy, 1 squared hinge, 2 none: the logits themselves
const LOSS: u32 = 0u;

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

// -1 for positives, +1 for negatives, 0 for the columns beyond the batch
fn signs(bits: u32, first_sample: u32) -> vec4<f32> {
    let place = vec4<u32>(0u, 1u, 2u, 3u);
    let positive = ((vec4<u32>(bits) >> place) & vec4<u32>(1u)) == vec4<u32>(1u);
    let inside = (vec4<u32>(first_sample) + place) < vec4<u32>(params.batch);
    return select(vec4<f32>(0.0), select(vec4<f32>(1.0), vec4<f32>(-1.0), positive), inside);
}
