// The loss of every (sample, label) pair and its gradient with respect to the logit: shaders/shared/loss.wgsl.
//
// A loss is 0 binary cross-entropy, 1 squared hinge, 2 none: the logits themselves.

// The first of the pairs (label, sample), which are sorted, with this label or a later one.
__device__ inline u32 first_positive(const uint2* positives, u32 count, u32 label) {
    u32 low = 0, high = count;
    while (low < high) {
        u32 middle = (low + high) / 2;
        if (positives[middle].x < label) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// Which of a quad's four samples are positive for the label whose pairs lie from `begin` to before `end`.
__device__ inline u32 positive_bits(const uint2* positives, u32 begin, u32 end, u32 quad) {
    u32 bits = 0;
    for (u32 i = begin; i < end; i++) {
        u32 sample = positives[i].y;
        if (sample / 4 == quad) {
            bits |= 1u << (sample & 3);
        }
    }
    return bits;
}

struct LossAndGradient { float loss, gradient; };

// `z` a logit, `sign` -1 where the label is positive, +1 where not, 0 beyond the batch
__device__ inline LossAndGradient loss_of(u32 loss, float z, float sign) {
    float u = z * sign;
    LossAndGradient out;
    if (loss == 1) {
        // By comparison, not max: a NaN must reach the loss.
        float margin = (1.0f + u <= 0.0f ? 0.0f : 1.0f + u) * fabsf(sign);
        out.loss = margin * margin;
        out.gradient = 2.0f * sign * margin;
        return out;
    }
    // Both tails exact: exp of -|u| alone, and log(1 + e) = 2 artanh(e / (2 + e)) by its series, s <= 1/3.
    float e = expf(-fabsf(u));
    float s = e / (2.0f + e);
    float t = s * s;
    float series = 1.0f + t * (1.0f / 3 + t * (0.2f + t * (1.0f / 7 + t * (1.0f / 9 + t * (1.0f / 11 + t / 13)))));
    out.loss = (fmaxf(u, 0.0f) + 2.0f * s * series) * fabsf(sign);
    out.gradient = sign * ((u >= 0.0f ? 1.0f : e) / (1.0f + e));
    return out;
}

// The sign of one of a quad's samples; bit i of `bits`: sample i is positive.
__device__ inline float sign_of(u32 bits, u32 sample, u32 batch) {
    return sample >= batch ? 0.0f : (bits >> (sample & 3) & 1) == 1 ? -1.0f : 1.0f;
}

// Turns four logits into gradients times `scale`; gives the sum of the losses.
__device__ inline float take_loss(u32 loss, float4& z, u32 bits, u32 first_sample, u32 batch, float scale) {
    LossAndGradient x = loss_of(loss, z.x, sign_of(bits, first_sample, batch));
    LossAndGradient y = loss_of(loss, z.y, sign_of(bits, first_sample + 1, batch));
    LossAndGradient zz = loss_of(loss, z.z, sign_of(bits, first_sample + 2, batch));
    LossAndGradient w = loss_of(loss, z.w, sign_of(bits, first_sample + 3, batch));
    z = make_float4(scale * x.gradient, scale * y.gradient, scale * zz.gradient, scale * w.gradient);
    return x.loss + y.loss + zz.loss + w.loss;
}
