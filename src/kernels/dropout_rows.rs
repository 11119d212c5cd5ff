//! Dropout of a tensor as it lies: see `shaders/dropout_rows.wgsl`.

use rayon::prelude::*;

use super::dropout::{Dropout, PaddedMask};
use super::vector::vectorised;
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    dropout: PaddedMask,
    count: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "dropout_rows",
    source: include_str!("../../shaders/dropout_rows.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// `y` = `x` after dropout, `count` elements, numbered from 0. With the same `dropout`, it is its own way back.
pub fn launch(count: usize, dropout: Dropout, x: &Slice, y: &Slice) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: vec![x.clone(), y.clone()],
        params: words_of(&Params { dropout: dropout.params(), count: count as u32 }),
        workgroups: workgroups(count.div_ceil(4)),
        work: (count * 10) as u64,
    }
}

/// Elements that one task of the twin takes.
const CHUNK: usize = 4096;

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let count = p.count as usize;
    let x = &call.read::<f32>(0)[..count];
    let y = &mut call.write::<f32>(1)[..count];
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).enumerate().for_each(|(chunk, (y, x))| {
        vectorised(
            #[inline(always)]
            || p.dropout.mask.drop_into((chunk * CHUNK) as u32, x, y),
        );
    });
}
