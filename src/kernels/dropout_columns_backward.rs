//! The way back through dropout and transposition: see `shaders/dropout_columns_backward.wgsl`.

use rayon::prelude::*;

use super::dropout_columns::{Dropout, Params};
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "dropout_columns_backward",
    source: include_str!("../../shaders/dropout_columns_backward.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// `dfeatures` [B, D] from `dx` [D, columns].
pub fn launch(batch: usize, features: usize, dropout: Dropout, dx: &Slice, dfeatures: &Slice) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: vec![dx.clone(), dfeatures.clone()],
        params: words_of(&dropout.params(batch, features)),
        workgroups: workgroups(features * batch),
        work: (features * batch * 40) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (features, columns) = (p.features as usize, p.columns as usize);
    let dx = call.read::<f32>(0);
    let dfeatures = &mut call.write::<f32>(1)[..p.batch as usize * features];
    dfeatures.par_chunks_mut(1024).enumerate().for_each(|(chunk, out)| {
        for (i, out) in out.chunks_mut(4).enumerate() {
            let first = chunk * 1024 + i * 4;
            let factors = p.factors(first as u32);
            for (j, (out, factor)) in out.iter_mut().zip(factors).enumerate() {
                let (b, d) = ((first + j) / features, (first + j) % features);
                *out = if factor == 0.0 { 0.0 } else { dx[d * columns + b] * factor };
            }
        }
    });
}
