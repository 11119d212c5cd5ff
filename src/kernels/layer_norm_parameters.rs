//! Gradient of LayerNorm's γ and β: see `shaders/layer_norm_parameters.wgsl`.

use super::column_sum::{COLUMNS, constants, sum_blocks};
use super::vector::vectorised;
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    hidden: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "layer_norm_parameters",
    source: include_str!("../../shaders/layer_norm_parameters.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write, Access::Write],
    twin,
    variants: || [false, true].map(constants).to_vec(),
};

/// `dgamma` \[H\] and `dbeta` \[H\] from `x` [B, H], `stats` [B, 2] and `dy` [B, H]; `accumulate` adds to what is
/// there.
pub fn launch(
    rows: usize,
    hidden: usize,
    [x, stats, dy, dgamma, dbeta]: [&Slice; 5],
    accumulate: bool,
) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: constants(accumulate),
        bindings: [x, stats, dy, dgamma, dbeta].map(Clone::clone).to_vec(),
        params: words_of(&Params { rows: rows as u32, hidden: hidden as u32 }),
        workgroups: (hidden as u32).div_ceil(COLUMNS),
        work: (rows * hidden * 2) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (x, stats, dy) = (call.read::<f32>(0), call.read::<f32>(1), call.read::<f32>(2));
    let hidden = p.hidden as usize;
    let (dgamma, dbeta) = (&mut call.write::<f32>(3)[..hidden], &mut call.write::<f32>(4)[..hidden]);
    let mut totals = vec![0.0_f32; hidden * 2];
    sum_blocks(p.rows as usize, &mut totals, |rows, sums| {
        let (dgamma, dbeta) = sums.split_at_mut(hidden);
        vectorised(
            #[inline(always)]
            || {
                for row in rows {
                    let (mean, rstd) = (stats[row * 2], stats[row * 2 + 1]);
                    let from = x[row * hidden..][..hidden].iter().zip(&dy[row * hidden..][..hidden]);
                    for ((dgamma, dbeta), (x, g)) in dgamma.iter_mut().zip(dbeta.iter_mut()).zip(from) {
                        *dgamma += g * (x - mean) * rstd;
                        *dbeta += g;
                    }
                }
            },
        );
    });
    let accumulate = call.constant("ACCUMULATE") == 1;
    for (out, totals) in [dgamma, dbeta].into_iter().zip(totals.chunks_exact(hidden)) {
        for (out, total) in out.iter_mut().zip(totals) {
            *out = if accumulate { *out + total } else { *total };
        }
    }
}
