// One optimizer step of one parameter: shaders/shared/optimizer.wgsl.
//
// An optimizer is 0 SGD, 1 SGD with momentum, 2 Adam (coupled decay), 3 AdamW.

struct Rates {
    float rate, decay, keep, beta1, one_minus_beta1, beta2, one_minus_beta2, epsilon, root_scale;
    u32 unused[3];
};

struct Stepped { float parameter, first, second; };

__device__ inline Stepped step_parameter(
    u32 optimizer, const Rates& rates, float parameter, float gradient, float first, float second
) {
    Stepped after = {parameter, first, second};
    float g = gradient + rates.decay * parameter;
    if (optimizer == 0) {
        after.parameter = parameter - rates.rate * g;
    } else if (optimizer == 1) {
        after.first = rates.beta1 * first + g;
        after.parameter = parameter - rates.rate * after.first;
    } else {
        after.first = rates.beta1 * first + rates.one_minus_beta1 * g;
        after.second = rates.beta2 * second + rates.one_minus_beta2 * (g * g);
        float divisor = sqrtf(after.second) * rates.root_scale + rates.epsilon;
        after.parameter = parameter * rates.keep - rates.rate * after.first / divisor;
    }
    return after;
}

// One step of a bias; the states that the optimizer does not have are left alone.
__device__ inline void step_bias(
    u32 optimizer, const Rates& rates, u32 row, float gradient, float* bias, float* first, float* second
) {
    float m = optimizer >= 1 ? first[row] : 0.0f;
    float v = optimizer >= 2 ? second[row] : 0.0f;
    Stepped after = step_parameter(optimizer, rates, bias[row], gradient, m, v);
    bias[row] = after.parameter;
    if (optimizer >= 1) { first[row] = after.first; }
    if (optimizer >= 2) { second[row] = after.second; }
}
