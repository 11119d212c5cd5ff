//! Dropout, residual connection and LayerNorm in one: see `shaders/add_norm.wgsl`. The way back is
//! [`super::layer_norm_backward`] and [`super::layer_norm_parameters`] on `sum`, and [`super::dropout_rows`] of the
//! result for the gradient of `x`; that of the residual is the result itself.

use rayon::prelude::*;

use super::dropout::{Dropout, PaddedMask};
use super::layer_norm::{LANES, NormRow};
use super::vector::vectorised;
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    dropout: PaddedMask,
    rows: u32,
    hidden: u32,
    epsilon: f32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "add_norm",
    source: include_str!("../../shaders/add_norm.wgsl"),
    bindings: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
        Access::Write,
    ],
    twin,
    variants: || vec![vec![("LANES", LANES)]],
};

/// `sum` [rows, H] = `residual` [rows, H] + dropout of `x` [rows, H]; `y` [rows, H] and `stats` [rows, 2] (mean, 1/σ)
/// from `sum`, `gamma` \[H\] and `beta` \[H\].
pub fn launch(
    rows: usize,
    hidden: usize,
    epsilon: f32,
    dropout: Dropout,
    [x, residual, gamma, beta, sum, y, stats]: [&Slice; 7],
) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("LANES", LANES)],
        bindings: [x, residual, gamma, beta, sum, y, stats].map(Clone::clone).to_vec(),
        params: words_of(&Params {
            dropout: dropout.params(),
            rows: rows as u32,
            hidden: hidden as u32,
            epsilon,
        }),
        workgroups: rows as u32,
        work: (rows * hidden * 16) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (x, residual) = (call.read::<f32>(0), call.read::<f32>(1));
    let hidden = p.hidden as usize;
    let (gamma, beta) = (&call.read::<f32>(2)[..hidden], &call.read::<f32>(3)[..hidden]);
    let count = p.rows as usize * hidden;
    let (sum, y) = (&mut call.write::<f32>(4)[..count], &mut call.write::<f32>(5)[..count]);
    let stats = call.write::<f32>(6);
    let written = sum.par_chunks_mut(hidden).zip(y.par_chunks_mut(hidden)).zip(stats.par_chunks_mut(2));
    let from = x.par_chunks(hidden).zip(residual.par_chunks(hidden));
    written.zip(from).enumerate().with_min_len(8).for_each(|(row, (((sum, y), stats), (x, residual)))| {
        vectorised(
            #[inline(always)]
            || {
                p.dropout.mask.drop_into((row * hidden) as u32, x, sum);
                for (sum, residual) in sum.iter_mut().zip(residual) {
                    *sum += residual;
                }
            },
        );
        let row = NormRow { x: sum, gamma, beta, epsilon: p.epsilon, y };
        stats.copy_from_slice(&pulp::Arch::new().dispatch(row));
    });
}
