//! Adds a bias to each row of a matrix whose columns are the samples: see `shaders/row_bias.wgsl`.

use rayon::prelude::*;

use super::{WORKGROUP, columns_of, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    batch: u32,
    columns: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "row_bias",
    source: include_str!("../../shaders/row_bias.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// Adds `bias` \[rows\] to `z` [rows, columns] in place; columns beyond the batch become zero.
pub fn launch(rows: usize, batch: usize, bias: &Slice, z: &Slice) -> Launch {
    let columns = columns_of(batch);
    Launch {
        kernel: &KERNEL,
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: vec![bias.clone(), z.clone()],
        params: words_of(&Params { rows: rows as u32, batch: batch as u32, columns: columns as u32 }),
        workgroups: workgroups(rows * columns),
        work: (rows * columns) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let bias = call.read::<f32>(0);
    let z = &mut call.write::<f32>(1)[..(p.rows * p.columns) as usize];
    z.par_chunks_mut(p.columns as usize).zip(bias).for_each(|(z, bias)| {
        let (inside, beyond) = z.split_at_mut(p.batch as usize);
        inside.iter_mut().for_each(|z| *z += bias);
        beyond.fill(0.0);
    });
}
