// One optimizer step of one parameter, as torch.optim defines them. `Rates` holds what the host computes in
// float64 and rounds once: 1 - beta2 and the bias corrections lose too much in float32.

// 0 SGD, 1 SGD with momentum, 2 Adam (coupled decay), 3 AdamW
const OPTIMIZER: u32 = 3u;

struct Rates {
    rate: f32,          // learning rate; for Adam and AdamW divided by the first bias correction
    decay: f32,         // weight decay, coupled: added to the gradient
    keep: f32,          // 1 - learning rate * weight decay, decoupled: times the parameter
    beta1: f32,         // or the momentum
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    epsilon: f32,
    root_scale: f32,    // 1 / sqrt(second bias correction)
}

// (parameter, first moment, second moment) after the step
fn optimizer_step(rates: Rates, parameter: f32, gradient: f32, first: f32, second: f32) -> vec3<f32> {
    if OPTIMIZER == 0u {
        let g = gradient + rates.decay * parameter;
        return vec3<f32>(parameter - rates.rate * g, first, second);
    }
    if OPTIMIZER == 1u {
        let buffer = rates.beta1 * first + (gradient + rates.decay * parameter);
        return vec3<f32>(parameter - rates.rate * buffer, buffer, second);
    }
    let p = parameter * rates.keep;
    let g = gradient + rates.decay * parameter;
    let m = rates.beta1 * first + rates.one_minus_beta1 * g;
    let v = rates.beta2 * second + rates.one_minus_beta2 * (g * g);
    return vec3<f32>(p - rates.rate * m / (sqrt(v) * rates.root_scale + rates.epsilon), m, v);
}
