//! Sums of the columns of a matrix: see `shaders/column_sum.wgsl`.

use rayon::prelude::*;

use super::WORKGROUP;
use super::vector::vectorised;
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

/// Columns of a workgroup.
pub(super) const COLUMNS: u32 = 16;
/// Lanes of a workgroup that share a column.
pub(super) const ROWS: u32 = 16;

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
    variants: || {
        [[COLUMNS, ROWS], [WORKGROUP, 1]]
            .into_iter()
            .flat_map(|shape| [false, true].map(|add| constants_of(add, shape)))
            .collect()
    },
};

/// Those of sums over many rows.
pub(super) fn constants(accumulate: bool) -> Constants {
    constants_of(accumulate, [COLUMNS, ROWS])
}

fn constants_of(accumulate: bool, [columns, rows]: [u32; 2]) -> Constants {
    vec![("ACCUMULATE", u32::from(accumulate)), ("COLUMNS", columns), ("ROWS", rows)]
}

/// `sums` \[columns\] of `matrix` [rows, columns]; `accumulate` adds to what is there.
pub fn launch(rows: usize, columns: usize, matrix: &Slice, sums: &Slice, accumulate: bool) -> Launch {
    // Of few rows a lane takes all: it waits for nobody, and the order of the sum is the same.
    let shape = if rows <= ROWS as usize { [WORKGROUP, 1] } else { [COLUMNS, ROWS] };
    Launch {
        kernel: &KERNEL,
        constants: constants_of(accumulate, shape),
        bindings: vec![matrix.clone(), sums.clone()],
        params: words_of(&Params { rows: rows as u32, columns: columns as u32 }),
        workgroups: (columns as u32).div_ceil(shape[0]),
        work: (rows * columns) as u64,
    }
}

/// Rows whose sums are one task of a twin.
pub(super) const BLOCK: usize = 64;

/// Sums over blocks of [`BLOCK`] rows, in parallel: `sum` adds the rows of a block to `width` numbers, which start at 0.
/// The blocks are then added in order to `totals`, whatever the number of threads.
pub(super) fn sum_blocks(
    rows: usize,
    totals: &mut [f32],
    sum: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync,
) {
    let width = totals.len();
    let mut partials = vec![0.0_f32; rows.div_ceil(BLOCK) * width];
    partials.par_chunks_mut(width).enumerate().for_each(|(block, partial)| {
        sum(block * BLOCK..rows.min((block + 1) * BLOCK), partial);
    });
    vectorised(
        #[inline(always)]
        || {
            for partial in partials.chunks_exact(width) {
                totals.iter_mut().zip(partial).for_each(|(total, partial)| *total += partial);
            }
        },
    );
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let columns = p.columns as usize;
    let matrix = call.read::<f32>(0);
    let sums = &mut call.write::<f32>(1)[..columns];
    if call.constant("ACCUMULATE") == 0 {
        sums.fill(0.0);
    }
    sum_blocks(p.rows as usize, sums, |rows, sums| {
        let matrix = &matrix[rows.start * columns..rows.end * columns];
        vectorised(
            #[inline(always)]
            || {
                // Four rows at a time: the sums are fetched and put back a quarter as often.
                let mut quads = matrix.chunks_exact(columns * 4);
                for quad in &mut quads {
                    let (upper, lower) = quad.split_at(columns * 2);
                    let upper = upper[..columns].iter().zip(&upper[columns..]);
                    let lower = lower[..columns].iter().zip(&lower[columns..]);
                    for ((sum, (a, b)), (c, d)) in sums.iter_mut().zip(upper).zip(lower) {
                        *sum += (a + b) + (c + d);
                    }
                }
                for row in quads.remainder().chunks_exact(columns) {
                    sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                }
            },
        );
    });
}
