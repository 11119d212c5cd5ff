//! Activations and their gradients: see `shaders/activation.wgsl`, `shaders/activation_again.wgsl` and
//! `shaders/shared/activation.wgsl`.

use rayon::prelude::*;

use super::vector::{exp_negative, vectorised};
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

/// What stands between two matrix products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Activation {
    /// GELU with the error function, 0.5 x (1 + erf(x / √2)).
    Gelu = 0,
    /// GELU by the hyperbolic tangent, 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))).
    GeluTanh = 1,
    /// The positive part.
    Relu = 2,
}

impl Activation {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Gelu, Self::GeluTanh, Self::Relu];

    /// From the value of a shader's constant.
    ///
    /// # Panics
    /// When no activation has the number.
    #[must_use]
    pub fn from_constant(value: u32) -> Self {
        Self::ALL[value as usize]
    }
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    count: u32,
}

/// The activation, or its gradient.
pub static KERNEL: Kernel = Kernel {
    name: "activation",
    source: include_str!("../../shaders/activation.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Write],
    twin,
    variants: || [0, 1].iter().flat_map(|b| Activation::ALL.map(|a| constants(a, *b))).collect(),
};

/// Its gradient, and the activation once more.
pub static AGAIN: Kernel = Kernel {
    name: "activation_again",
    source: include_str!("../../shaders/activation_again.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Write, Access::Write],
    twin: again_twin,
    variants: || Activation::ALL.map(again_constants).to_vec(),
};

fn constants(activation: Activation, backward: u32) -> Constants {
    vec![("ACTIVATION", activation as u32), ("BACKWARD", backward), ("WORKGROUP", WORKGROUP)]
}

fn again_constants(activation: Activation) -> Constants {
    vec![("ACTIVATION", activation as u32), ("WORKGROUP", WORKGROUP)]
}

/// `out` = act(`x`), `count` elements.
pub fn forward(activation: Activation, count: usize, x: &Slice, out: &Slice) -> Launch {
    launch(&KERNEL, constants(activation, 0), count, vec![x.clone(), x.clone(), out.clone()])
}

/// `dx` = `dout` · act′(`x`), `count` elements; `activated`, if given, becomes act(`x`) as well.
pub fn backward(
    activation: Activation,
    count: usize,
    x: &Slice,
    dout: &Slice,
    dx: &Slice,
    activated: Option<&Slice>,
) -> Launch {
    let mut bindings = [x, dout, dx].map(Clone::clone).to_vec();
    match activated {
        None => launch(&KERNEL, constants(activation, 1), count, bindings),
        Some(activated) => {
            bindings.push(activated.clone());
            launch(&AGAIN, again_constants(activation), count, bindings)
        }
    }
}

fn launch(kernel: &'static Kernel, constants: Constants, count: usize, bindings: Vec<Slice>) -> Launch {
    Launch {
        kernel,
        constants,
        bindings,
        params: words_of(&Params { count: count as u32 }),
        workgroups: workgroups(count),
        work: (count * 8) as u64,
    }
}

/// (Φ(x), Φ′(x)) of the GELU x · Φ(x), for |x| ≤ 13.
#[inline(always)]
fn gelu_factor<const TANH: bool>(x: f32) -> (f32, f32) {
    if TANH {
        // 0.5 (1 + tanh(u / 2)) is the logistic function of u = √(8/π) (x + 0.044715 x³).
        const SLOPE: f32 = 1.595_769;
        let u = SLOPE * x * (1.0 + 0.044_715 * x * x);
        let e = exp_negative::<false>(-u.abs());
        let reciprocal = 1.0 / (1.0 + e);
        let slope = SLOPE * (1.0 + 0.134_145 * x * x);
        return (if u < 0.0 { e } else { 1.0 } * reciprocal, e * reciprocal * reciprocal * slope);
    }
    // erf by Abramowitz and Stegun 7.1.26, absolute error 1.5e-7; its exponential is also the density's.
    let e = exp_negative::<false>(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.231_641_89 * x.abs());
    let p = t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    let tail = 0.5 * p * e;
    (if x < 0.0 { tail } else { 1.0 - tail }, 0.398_942_3 * e)
}

/// (act(x), act′(x)). A loop that calls it vectorises; what it does not use of the pair costs nothing.
#[inline(always)]
pub(super) fn activate_both(activation: Activation, x: f32) -> (f32, f32) {
    // Beyond 13 the exponentials are nothing; the bounds keep a huge x from meeting them as ∞ · 0, and are
    // comparisons because a NaN must stay one.
    let above = if x < -13.0 { -13.0 } else { x };
    let inside = if x > 13.0 { 13.0 } else { above };
    let (factor, slope) = match activation {
        Activation::Gelu => gelu_factor::<false>(inside),
        Activation::GeluTanh => gelu_factor::<true>(inside),
        Activation::Relu => return (if x <= 0.0 { 0.0 } else { x }, if x > 0.0 { 1.0 } else { 0.0 }),
    };
    (above * factor, factor + inside * slope)
}

/// act(x).
#[inline(always)]
pub(super) fn activate(activation: Activation, x: f32) -> f32 {
    activate_both(activation, x).0
}

/// act′(x).
#[inline(always)]
pub(super) fn activate_gradient(activation: Activation, x: f32) -> f32 {
    activate_both(activation, x).1
}

/// Calls `op` with the activation as a constant of the call, so that its loops hold one activation each.
#[inline(always)]
fn specialised(activation: Activation, mut op: impl FnMut(Activation)) {
    match activation {
        Activation::Gelu => op(Activation::Gelu),
        Activation::GeluTanh => op(Activation::GeluTanh),
        Activation::Relu => op(Activation::Relu),
    }
}

/// Elements that one task of the twins takes.
const CHUNK: usize = 4096;

fn twin(call: &mut TwinCall<'_>) {
    let count = call.params::<Params>().count as usize;
    let (x, other) = (&call.read::<f32>(0)[..count], &call.read::<f32>(1)[..count]);
    let (activation, backward) =
        (Activation::from_constant(call.constant("ACTIVATION")), call.constant("BACKWARD") == 1);
    let out = &mut call.write::<f32>(2)[..count];
    out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).zip(other.par_chunks(CHUNK)).for_each(
        |((out, x), other)| {
            vectorised(
                #[inline(always)]
                || {
                    specialised(
                        activation,
                        #[inline(always)]
                        |activation| {
                            if backward {
                                for ((out, x), other) in out.iter_mut().zip(x).zip(other) {
                                    *out = other * activate_gradient(activation, *x);
                                }
                            } else {
                                for (out, x) in out.iter_mut().zip(x) {
                                    *out = activate(activation, *x);
                                }
                            }
                        },
                    );
                },
            );
        },
    );
}

fn again_twin(call: &mut TwinCall<'_>) {
    let count = call.params::<Params>().count as usize;
    let (x, dout) = (&call.read::<f32>(0)[..count], &call.read::<f32>(1)[..count]);
    let activation = Activation::from_constant(call.constant("ACTIVATION"));
    let (dx, activated) = (&mut call.write::<f32>(2)[..count], &mut call.write::<f32>(3)[..count]);
    let written = dx.par_chunks_mut(CHUNK).zip(activated.par_chunks_mut(CHUNK));
    written.zip(x.par_chunks(CHUNK)).zip(dout.par_chunks(CHUNK)).for_each(|(((dx, activated), x), dout)| {
        vectorised(
            #[inline(always)]
            || {
                specialised(
                    activation,
                    #[inline(always)]
                    |activation| {
                        let written = dx.iter_mut().zip(activated.iter_mut());
                        for (((dx, activated), x), dout) in written.zip(x).zip(dout) {
                            let (value, slope) = activate_both(activation, *x);
                            (*dx, *activated) = (dout * slope, value);
                        }
                    },
                );
            },
        );
    });
}
