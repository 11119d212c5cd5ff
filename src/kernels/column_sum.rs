//! Sums of the columns of a matrix: see `shaders/column_sum.wgsl`.

use super::{WORKGROUP, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    columns: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "column_sum",
    source: include_str!("../../shaders/column_sum.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// `sums` \[columns\] of `matrix` [rows, columns].
pub fn launch(rows: usize, columns: usize, matrix: &Slice, sums: &Slice) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: vec![matrix.clone(), sums.clone()],
        params: words_of(&Params { rows: rows as u32, columns: columns as u32 }),
        workgroups: workgroups(columns),
        work: (rows * columns) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let columns = p.columns as usize;
    let matrix = call.read::<f32>(0);
    let sums = &mut call.write::<f32>(1)[..columns];
    sums.fill(0.0);
    for row in matrix.chunks_exact(columns).take(p.rows as usize) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
}
