//! Sums of squares, the first step to the norm of a whole gradient: see `shaders/square_sum.wgsl`. Then comes
//! [`super::clip_factor`], and [`super::scale_by`] where the factor goes.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::layer_norm::squares;
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

/// Partial sums of a tensor, whatever its size.
pub const PARTS: usize = 64;

/// Lanes of a workgroup; it owns one part.
const LANES: u32 = 256;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    count: u32,
    part: u32,
    first: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "square_sum",
    source: include_str!("../../shaders/square_sum.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("LANES", LANES)]],
};

/// The squares of `count` elements of `x` in [`PARTS`] sums, `partials[place · PARTS ..]`: `place` is the tensor's number
/// among those whose common norm is wanted.
pub fn launch(count: usize, x: &Slice, partials: &Slice, place: usize) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("LANES", LANES)],
        bindings: vec![x.clone(), partials.clone()],
        params: words_of(&Params {
            count: count as u32,
            part: count.div_ceil(PARTS) as u32,
            first: (place * PARTS) as u32,
        }),
        workgroups: PARTS as u32,
        work: count as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let x = &call.read::<f32>(0)[..p.count as usize];
    let partials = &mut call.write::<f32>(1)[p.first as usize..][..PARTS];
    partials.par_iter_mut().enumerate().for_each(|(i, partial)| {
        let begin = (i * p.part as usize).min(x.len());
        let part = &x[begin..(begin + p.part as usize).min(x.len())];
        *partial = pulp::Arch::new().dispatch(Part(part));
    });
}

/// The sum of the squares of a part.
struct Part<'a>(&'a [f32]);

impl WithSimd for Part<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        // In pieces: a single sum of millions of terms loses what the small ones add to it.
        self.0.chunks(PIECE).map(|piece| squares(simd, piece, 0.0)).sum()
    }
}

/// Elements of a piece.
const PIECE: usize = 4096;
