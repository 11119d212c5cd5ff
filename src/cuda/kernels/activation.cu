// An activation, or the way back through it: shaders/activation.wgsl. An activation is 0 GELU with the error function, 1
// GELU with tanh, 2 ReLU. A thread owns one element.

struct ActivationParams {
    u32 count;
};

// (Phi(x), Phi'(x)) of the GELU x * Phi(x)
__device__ inline float2 gelu_factor(u32 activation, float x) {
    if (activation == 0) {
        // erf by Abramowitz and Stegun 7.1.26, absolute error 1.5e-7; its exponential is also the density's.
        float e = expf(-0.5f * x * x);
        float t = 1.0f / (1.0f + 0.23164189f * fabsf(x));
        float p = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
        float tail = 0.5f * p * e;
        return make_float2(x < 0.0f ? tail : 1.0f - tail, 0.39894228f * e);
    }
    // 0.5 (1 + tanh(u / 2)) is the logistic function of u = sqrt(8 / pi) (x + 0.044715 x^3)
    float u = 1.5957691f * x * (1.0f + 0.044715f * x * x);
    float e = expf(-fabsf(u));
    float reciprocal = 1.0f / (1.0f + e);
    float slope = 1.5957691f * (1.0f + 0.134145f * x * x);
    return make_float2((u < 0.0f ? e : 1.0f) * reciprocal, e * reciprocal * reciprocal * slope);
}

// (activation of x, its derivative). Beyond 13 the exponentials are nothing; the bounds keep a huge input from meeting
// them as infinity times zero, and are comparisons because a NaN must stay one.
__device__ inline float2 activate_both(u32 activation, float x) {
    if (activation == 2) {
        return make_float2(x <= 0.0f ? 0.0f : x, x > 0.0f ? 1.0f : 0.0f);
    }
    float above = x < -13.0f ? -13.0f : x;
    float inside = above > 13.0f ? 13.0f : above;
    float2 factor = gelu_factor(activation, inside);
    return make_float2(above * factor.x, factor.x + inside * factor.y);
}

KERNEL activation(
    ActivationParams p, u32 activation, u32 backward, const float* __restrict__ x, const float* __restrict__ other,
    float* __restrict__ out
) {
    u32 lane = lane_of();
    if (lane < p.count) {
        float2 both = activate_both(activation, x[lane]);
        out[lane] = backward == 1 ? other[lane] * both.y : both.x;
    }
}
