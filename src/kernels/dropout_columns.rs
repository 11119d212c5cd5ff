//! Dropout of the features, transposed on the way: see `shaders/dropout_columns.wgsl`.

use rayon::prelude::*;

use super::dropout::{Dropout, PaddedMask};
use super::vector::vectorised;
use super::{WORKGROUP, columns_of, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Params {
    pub(super) dropout: PaddedMask,
    pub(super) batch: u32,
    pub(super) features: u32,
    pub(super) columns: u32,
}

impl Params {
    pub(super) fn new(batch: usize, features: usize, dropout: Dropout) -> Self {
        Self {
            dropout: dropout.params(),
            batch: batch as u32,
            features: features as u32,
            columns: columns_of(batch) as u32,
        }
    }
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "dropout_columns",
    source: include_str!("../../shaders/dropout_columns.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// `x` [D, columns] from `features` [B, D].
pub fn launch(batch: usize, features: usize, dropout: Dropout, from: &Slice, x: &Slice) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: vec![from.clone(), x.clone()],
        params: words_of(&Params::new(batch, features, dropout)),
        workgroups: workgroups(features * columns_of(batch)),
        work: (features * batch * 40) as u64,
    }
}

/// Elements that one task of the twins takes.
pub(super) const CHUNK: usize = 1024;

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (batch, features, columns) = (p.batch as usize, p.features as usize, p.columns as usize);
    let from = call.read::<f32>(0);
    let x = &mut call.write::<f32>(1)[..features * columns];
    // Masked in the order of the features, as the generator gives its words, then transposed.
    let mut kept = vec![0.0_f32; batch * features];
    kept.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK)).enumerate().for_each(|(chunk, (kept, from))| {
        let first = (chunk * CHUNK) as u32;
        let from = &from[..kept.len()];
        vectorised(
            #[inline(always)]
            || p.dropout.mask.drop_into(first, from, kept),
        );
    });
    x.par_chunks_mut(columns).enumerate().for_each(|(d, x)| {
        x[batch..].fill(0.0);
        x[..batch].iter_mut().enumerate().for_each(|(b, x)| *x = kept[b * features + d]);
    });
}
