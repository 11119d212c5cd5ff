//! A tensor times a number that a kernel computed: see `shaders/scale_by.wgsl`.

use rayon::prelude::*;

use super::vector::vectorised;
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    count: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "scale_by",
    source: include_str!("../../shaders/scale_by.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// `x` · `factor[0]` in place, `count` elements.
pub fn launch(count: usize, factor: &Slice, x: &Slice) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: vec![factor.clone(), x.clone()],
        params: words_of(&Params { count: count as u32 }),
        workgroups: workgroups(count),
        work: count as u64,
    }
}

/// Elements that one task of the twin takes.
const CHUNK: usize = 16 << 10;

fn twin(call: &mut TwinCall<'_>) {
    let count = call.params::<Params>().count as usize;
    let factor = call.read::<f32>(0)[0];
    let x = &mut call.write::<f32>(1)[..count];
    if factor != 1.0 {
        x.par_chunks_mut(CHUNK).for_each(|x| {
            vectorised(
                #[inline(always)]
                || x.iter_mut().for_each(|x| *x *= factor),
            );
        });
    }
}
