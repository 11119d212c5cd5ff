//! Gradient of LayerNorm with respect to its input: see `shaders/layer_norm_backward.wgsl`.

use rayon::prelude::*;

use super::layer_norm::LANES;
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
    let (gamma, dy) = (call.read::<f32>(2), call.read::<f32>(3));
    let hidden = p.hidden as usize;
    let dx = &mut call.write::<f32>(4)[..p.rows as usize * hidden];
    dx.par_chunks_mut(hidden).enumerate().for_each(|(row, dx)| {
        let (x, dy) = (&x[row * hidden..][..hidden], &dy[row * hidden..][..hidden]);
        let (mean, rstd) = (stats[row * 2], stats[row * 2 + 1]);
        let (mut sum, mut sum_xhat) = (0.0, 0.0);
        for h in 0..hidden {
            let g = dy[h] * gamma[h];
            sum += g;
            sum_xhat += g * (x[h] - mean) * rstd;
        }
        let (mean_g, mean_g_xhat) = (sum / hidden as f32, sum_xhat / hidden as f32);
        for h in 0..hidden {
            let xhat = (x[h] - mean) * rstd;
            dx[h] = rstd * (dy[h] * gamma[h] - mean_g - xhat * mean_g_xhat);
        }
    });
}
