//! GELU with the error function, and its gradient: see `shaders/gelu.wgsl`.

use rayon::prelude::*;

use super::vector::{exp_negative, vectorised};
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    count: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "gelu",
    source: include_str!("../../shaders/gelu.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Write],
    twin,
    variants: || [0, 1].map(|backward| vec![("BACKWARD", backward), ("WORKGROUP", WORKGROUP)]).to_vec(),
};

/// `out` = gelu(`x`), `count` elements.
pub fn forward(count: usize, x: &Slice, out: &Slice) -> Launch {
    launch(count, 0, [x, x, out])
}

/// `dx` = `dout` · gelu′(`x`), `count` elements.
pub fn backward(count: usize, x: &Slice, dout: &Slice, dx: &Slice) -> Launch {
    launch(count, 1, [x, dout, dx])
}

fn launch(count: usize, backward: u32, bindings: [&Slice; 3]) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("BACKWARD", backward), ("WORKGROUP", WORKGROUP)],
        bindings: bindings.map(Clone::clone).to_vec(),
        params: words_of(&Params { count: count as u32 }),
        workgroups: workgroups(count),
        work: (count * 8) as u64,
    }
}

/// Abramowitz and Stegun 7.1.26, absolute error 1.5e-7.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let p = t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    let y = 1.0 - p * exp_negative(-a * a);
    if x < 0.0 { -y } else { y }
}

/// Elements that one task of the twin takes.
const CHUNK: usize = 4096;

fn twin(call: &mut TwinCall<'_>) {
    let count = call.params::<Params>().count as usize;
    let (x, other) = (&call.read::<f32>(0)[..count], &call.read::<f32>(1)[..count]);
    let backward = call.constant("BACKWARD") == 1;
    let out = &mut call.write::<f32>(2)[..count];
    out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).zip(other.par_chunks(CHUNK)).for_each(
        |((out, x), other)| {
            vectorised(
                #[inline(always)]
                || {
                    for ((out, x), other) in out.iter_mut().zip(x).zip(other) {
                        let phi = 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
                        let density = 0.398_942_3 * exp_negative(-0.5 * x * x);
                        *out = if backward { other * (phi + x * density) } else { x * phi };
                    }
                },
            );
        },
    );
}
