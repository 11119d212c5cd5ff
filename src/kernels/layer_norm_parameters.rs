//! Gradient of LayerNorm's γ and β: see `shaders/layer_norm_parameters.wgsl`.

use super::{WORKGROUP, workgroups};
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
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// `dgamma` \[H\] and `dbeta` \[H\] from `x` [B, H], `stats` [B, 2] and `dy` [B, H].
pub fn launch(rows: usize, hidden: usize, [x, stats, dy, dgamma, dbeta]: [&Slice; 5]) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: [x, stats, dy, dgamma, dbeta].map(Clone::clone).to_vec(),
        params: words_of(&Params { rows: rows as u32, hidden: hidden as u32 }),
        workgroups: workgroups(hidden),
        work: (rows * hidden * 2) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (x, stats, dy) = (call.read::<f32>(0), call.read::<f32>(1), call.read::<f32>(2));
    let hidden = p.hidden as usize;
    let (dgamma, dbeta) = (&mut call.write::<f32>(3)[..hidden], &mut call.write::<f32>(4)[..hidden]);
    dgamma.fill(0.0);
    dbeta.fill(0.0);
    for row in 0..p.rows as usize {
        let (mean, rstd) = (stats[row * 2], stats[row * 2 + 1]);
        for h in 0..hidden {
            let g = dy[row * hidden + h];
            dgamma[h] += g * (x[row * hidden + h] - mean) * rstd;
            dbeta[h] += g;
        }
    }
}
