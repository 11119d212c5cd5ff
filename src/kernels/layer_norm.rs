//! LayerNorm over the features of each row: see `shaders/layer_norm.wgsl`.

use rayon::prelude::*;

use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

/// Lanes of a workgroup; it owns one row.
pub(super) const LANES: u32 = 64;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    hidden: u32,
    epsilon: f32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "layer_norm",
    source: include_str!("../../shaders/layer_norm.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write, Access::Write],
    twin,
    variants: || vec![vec![("LANES", LANES)]],
};

/// `y` [B, H] and `stats` [B, 2] (mean, 1/σ) from `x` [B, H], `gamma` \[H\], `beta` \[H\].
pub fn launch(rows: usize, hidden: usize, epsilon: f32, [x, gamma, beta, y, stats]: [&Slice; 5]) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("LANES", LANES)],
        bindings: [x, gamma, beta, y, stats].map(Clone::clone).to_vec(),
        params: words_of(&Params { rows: rows as u32, hidden: hidden as u32, epsilon }),
        workgroups: rows as u32,
        work: (rows * hidden * 4) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (x, gamma, beta) = (call.read::<f32>(0), call.read::<f32>(1), call.read::<f32>(2));
    let hidden = p.hidden as usize;
    let y = &mut call.write::<f32>(3)[..p.rows as usize * hidden];
    let stats = call.write::<f32>(4);
    y.par_chunks_mut(hidden).zip(x.par_chunks(hidden)).zip(stats.par_chunks_mut(2)).for_each(
        |((y, x), stats)| {
            let mean = x.iter().sum::<f32>() / hidden as f32;
            let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / hidden as f32;
            let rstd = 1.0 / (variance + p.epsilon).sqrt();
            for h in 0..hidden {
                y[h] = (x[h] - mean) * rstd * gamma[h] + beta[h];
            }
            stats.copy_from_slice(&[mean, rstd]);
        },
    );
}
