//! Gradient of LayerNorm with respect to its input: see `shaders/layer_norm_backward.wgsl`.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::layer_norm::{LANES, sum_of};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    hidden: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "layer_norm_backward",
    source: include_str!("../../shaders/layer_norm_backward.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("LANES", LANES)]],
};

/// `dx` [B, H] from `x` [B, H], `stats` [B, 2], `gamma` \[H\] and `dy` [B, H].
pub fn launch(rows: usize, hidden: usize, [x, stats, gamma, dy, dx]: [&Slice; 5]) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("LANES", LANES)],
        bindings: [x, stats, gamma, dy, dx].map(Clone::clone).to_vec(),
        params: words_of(&Params { rows: rows as u32, hidden: hidden as u32 }),
        workgroups: rows as u32,
        work: (rows * hidden * 4) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (x, stats) = (call.read::<f32>(0), call.read::<f32>(1));
    let hidden = p.hidden as usize;
    let (gamma, dy) = (&call.read::<f32>(2)[..hidden], call.read::<f32>(3));
    let dx = &mut call.write::<f32>(4)[..p.rows as usize * hidden];
    let rows = dx.par_chunks_mut(hidden).zip(x.par_chunks(hidden)).zip(dy.par_chunks(hidden));
    rows.enumerate().with_min_len(8).for_each(|(row, ((dx, x), dy))| {
        let (mean, rstd) = (stats[row * 2], stats[row * 2 + 1]);
        pulp::Arch::new().dispatch(Row { x, mean, rstd, gamma, dy, dx });
    });
}

/// One row of the gradient.
struct Row<'a> {
    x: &'a [f32],
    mean: f32,
    rstd: f32,
    gamma: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl WithSimd for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, mean, rstd, gamma, dy, dx } = self;
        // dy · γ lies in dx for a while.
        for ((dx, dy), gamma) in dx.iter_mut().zip(dy).zip(gamma) {
            *dx = dy * gamma;
        }
        let (count, means, rstds) = (x.len() as f32, simd.splat_f32s(mean), simd.splat_f32s(rstd));
        let mean_g = sum_of(simd, (dx, x), |g, _| g, |g, _| g) / count;
        let vector = |g, x| simd.mul_f32s(simd.mul_f32s(g, simd.sub_f32s(x, means)), rstds);
        let mean_g_xhat = sum_of(simd, (dx, x), vector, |g, x| g * (x - mean) * rstd) / count;
        for (dx, x) in dx.iter_mut().zip(x) {
            let xhat = (x - mean) * rstd;
            *dx = rstd * (*dx - mean_g - xhat * mean_g_xhat);
        }
    }
}
