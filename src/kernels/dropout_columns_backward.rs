//! The way back through dropout and transposition: see `shaders/dropout_columns_backward.wgsl`.

use rayon::prelude::*;

use super::dropout::Dropout;
use super::dropout_columns::{CHUNK, Params};
use super::vector::vectorised;
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
        params: words_of(&Params::new(batch, features, dropout)),
        workgroups: workgroups(features * batch),
        work: (features * batch * 40) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (features, columns) = (p.features as usize, p.columns as usize);
    let dx = call.read::<f32>(0);
    let dfeatures = &mut call.write::<f32>(1)[..p.batch as usize * features];
    dfeatures.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, out)| {
        let first = chunk * CHUNK;
        let mut back = [0.0; CHUNK];
        for (i, back) in back[..out.len()].iter_mut().enumerate() {
            let (b, d) = ((first + i) / features, (first + i) % features);
            *back = dx[d * columns + b];
        }
        vectorised(
            #[inline(always)]
            || p.dropout.mask.drop_into(first as u32, &back[..out.len()], out),
        );
    });
}
