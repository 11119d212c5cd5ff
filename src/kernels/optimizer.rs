//! One optimizer step of one parameter: the twin of `shaders/shared/optimizer.wgsl`.

/// Which update rule; the number is the shader's `OPTIMIZER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Rule {
    /// Stochastic gradient descent, no state.
    Sgd = 0,
    /// With momentum: one state per parameter.
    Momentum = 1,
    /// Adam with coupled decay: two states.
    Adam = 2,
    /// Adam with decoupled decay: two states.
    AdamW = 3,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 4] = [Self::Sgd, Self::Momentum, Self::Adam, Self::AdamW];

    /// Numbers kept for each parameter between steps.
    #[must_use]
    pub fn states(self) -> usize {
        match self {
            Self::Sgd => 0,
            Self::Momentum => 1,
            Self::Adam | Self::AdamW => 2,
        }
    }

    pub(crate) fn from_constant(constant: u32) -> Self {
        Self::ALL[constant as usize]
    }

    pub(crate) fn variants() -> Vec<crate::device::Constants> {
        Self::ALL.map(|rule| vec![("OPTIMIZER", rule as u32)]).to_vec()
    }
}

/// What a rule needs at one step; computed in f64 on the host and rounded once.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Rates {
    /// Learning rate; for Adam and AdamW divided by the first bias correction.
    pub rate: f32,
    /// Coupled weight decay, added to the gradient.
    pub decay: f32,
    /// 1 − learning rate · weight decay, decoupled: times the parameter.
    pub keep: f32,
    /// β₁, or the momentum.
    pub beta1: f32,
    /// 1 − β₁.
    pub one_minus_beta1: f32,
    /// β₂.
    pub beta2: f32,
    /// 1 − β₂.
    pub one_minus_beta2: f32,
    /// ε.
    pub epsilon: f32,
    /// 1 / √(second bias correction).
    pub root_scale: f32,
}

impl Rates {
    /// The same rates without weight decay, for biases and norms.
    #[must_use]
    pub fn without_decay(self) -> Self {
        Self { decay: 0.0, keep: 1.0, ..self }
    }
}

/// [`Rates`] as the first field of a kernel's parameters: in a uniform buffer, what follows a struct begins at a
/// multiple of 16 bytes, and Direct3D lays immediates out likewise.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct PaddedRates {
    pub(super) rates: Rates,
    unused: [u32; 3],
}

impl From<Rates> for PaddedRates {
    fn from(rates: Rates) -> Self {
        Self { rates, unused: [0; 3] }
    }
}

/// (parameter, first state, second state) after the step; `RULE` is a [`Rule`] as a constant, so that loops vectorise.
#[inline(always)]
pub(crate) fn step<const RULE: u32>(r: &Rates, p: f32, g: f32, m: f32, v: f32) -> (f32, f32, f32) {
    if RULE == Rule::Sgd as u32 {
        let g = g + r.decay * p;
        return (p - r.rate * g, m, v);
    }
    if RULE == Rule::Momentum as u32 {
        let buffer = r.beta1 * m + (g + r.decay * p);
        return (p - r.rate * buffer, buffer, v);
    }
    let kept = p * r.keep;
    let g = g + r.decay * p;
    let m = r.beta1 * m + r.one_minus_beta1 * g;
    let v = r.beta2 * v + r.one_minus_beta2 * (g * g);
    (kept - r.rate * m / (v.sqrt() * r.root_scale + r.epsilon), m, v)
}

/// Steps of whole slices; `first` and `second` are empty where the rule has no such state.
#[inline(always)]
pub(crate) fn step_slices(
    rule: Rule,
    r: &Rates,
    parameters: &mut [f32],
    gradients: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    match rule {
        Rule::Sgd => {
            for (p, g) in parameters.iter_mut().zip(gradients) {
                *p = step::<0>(r, *p, *g, 0.0, 0.0).0;
            }
        }
        Rule::Momentum => {
            for ((p, g), m) in parameters.iter_mut().zip(gradients).zip(first) {
                (*p, *m, _) = step::<1>(r, *p, *g, *m, 0.0);
            }
        }
        Rule::Adam => {
            for (((p, g), m), v) in parameters.iter_mut().zip(gradients).zip(first).zip(second) {
                (*p, *m, *v) = step::<2>(r, *p, *g, *m, *v);
            }
        }
        Rule::AdamW => {
            for (((p, g), m), v) in parameters.iter_mut().zip(gradients).zip(first).zip(second) {
                (*p, *m, *v) = step::<3>(r, *p, *g, *m, *v);
            }
        }
    }
}

/// The part of a state that belongs to rows `start..` of a tensor, empty where the rule has no such state.
pub(crate) fn state_chunks<T>(state: &mut [T], has: bool, chunk: usize, chunks: usize) -> Vec<&mut [T]> {
    if has {
        state.chunks_mut(chunk).take(chunks).collect()
    } else {
        (0..chunks).map(|_| Default::default()).collect()
    }
}
