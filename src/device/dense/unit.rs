//! The dense product on the processor's matrix unit: blocks of 32 rows of a against panels of 32 columns of b.

use std::cell::Cell;
use std::ops::Range;

use bytemuck::Zeroable;
use rayon::prelude::*;

use super::{DEPTH, Strided, over_rows, pieces, rows_of_a_task};
use crate::device::amx::{SIDE, Slab, Unit};

/// Columns of b that are packed at a time.
const COLUMNS: usize = 512;
/// Slabs of a panel of b that stay in the nearest cache while blocks of rows go by.
const NEAR: usize = 4;

thread_local! {
    static PACKED_A: Cell<Vec<Slab>> = const { Cell::new(Vec::new()) };
    static PACKED_B: Cell<Vec<Slab>> = const { Cell::new(Vec::new()) };
}

/// [`super::product`] of the operands rounded to bf16, added up in f32 in the same order, on the matrix unit.
///
/// # Panics
/// As [`super::product`], and where neither the rows nor the columns of an operand have their numbers side by side, or this
/// processor has no matrix unit.
pub fn product_bf16(
    [m, n, k]: [usize; 3],
    a: Strided<'_>,
    b: Strided<'_>,
    c: &mut [f32],
    accumulate: bool,
    second: &mut [f32],
    finish: impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync,
) {
    if m == 0 || n == 0 {
        return;
    }
    let beside = [a, b].iter().all(|(_, strides)| strides.contains(&1));
    assert!(k > 0 && beside, "operands of {m}, {n}, {k}");
    let (c, rows) = (&mut c[..m * n], rows_of_a_task(m, SIDE));
    let mut scratch = PACKED_B.take();
    for columns in pieces(n, COLUMNS) {
        for depth in pieces(k, DEPTH) {
            let deep = depth.len().div_ceil(SIDE);
            let packed = at_least(&mut scratch, columns.len().div_ceil(SIDE) * deep);
            packed.par_chunks_mut(deep).enumerate().for_each(|(i, panel)| {
                let first = columns.start + i * SIDE;
                pack(transposed(b), first..columns.end.min(first + SIDE), &depth, panel, Operand::Right);
            });
            let packed = &*packed;
            let add = accumulate || depth.start > 0;
            let compute = |first: usize, c: &mut [f32]| {
                let rows = first..first + c.len() / n;
                let mut scratch = PACKED_A.take();
                let blocks = at_least(&mut scratch, rows.len().div_ceil(SIDE) * deep);
                for (block, rows) in blocks.chunks_exact_mut(deep).zip(pieces(rows.len(), SIDE)) {
                    pack(a, first + rows.start..first + rows.end, &depth, block, Operand::Left);
                }
                multiply(blocks, packed, deep, (c, n, columns.clone()), add);
                PACKED_A.set(scratch);
            };
            let last = depth.end == k;
            over_rows(c, second, [rows, n], compute, last.then_some((columns.clone(), &finish)));
        }
    }
    PACKED_B.set(scratch);
}

fn unit() -> Unit {
    Unit::of_this_cpu().expect("the caller knows that there is a matrix unit")
}

fn at_least(scratch: &mut Vec<Slab>, len: usize) -> &mut [Slab] {
    if scratch.len() < len {
        *scratch = vec![Slab::zeroed(); len];
    }
    &mut scratch[..len]
}

fn transposed((numbers, [down, across]): Strided<'_>) -> Strided<'_> {
    (numbers, [across, down])
}

/// On which side of a product a slab stands.
#[derive(Clone, Copy, PartialEq)]
enum Operand {
    Left,
    Right,
}

/// Up to 32 `rows` of a matrix over the depth, a slab for each 32 of it: as the left operand, or transposed as the right
/// one.
fn pack(
    (numbers, [down, across]): Strided<'_>,
    rows: Range<usize>,
    depth: &Range<usize>,
    out: &mut [Slab],
    operand: Operand,
) {
    let unit = unit();
    let (mut read, mut paired) = (Slab::zeroed(), Slab::zeroed());
    for (slab, k) in out.iter_mut().zip(pieces(depth.len(), SIDE)) {
        let k = depth.start + k.start..depth.start + k.end;
        // As they lie in memory: rows of the matrix, or its columns.
        if across == 1 {
            let row = |r: usize| (r < rows.len()).then(|| &numbers[(rows.start + r) * down..][k.clone()]);
            match operand {
                Operand::Left => unit.read_rows(slab, row),
                Operand::Right => {
                    unit.read_rows(&mut read, row);
                    unit.turn(&read, slab);
                }
            }
        } else {
            let column = |r: usize| (r < k.len()).then(|| &numbers[(k.start + r) * across..][rows.clone()]);
            unit.read_rows(&mut read, column);
            match operand {
                Operand::Right => unit.pair(&read, slab),
                Operand::Left => {
                    unit.pair(&read, &mut paired);
                    unit.turn(&paired, slab);
                }
            }
        }
    }
}

/// c = blocks · panels in its `columns`, or += with `add`; both have `deep` slabs for 32 rows or columns.
fn multiply(
    blocks: &[Slab],
    panels: &[Slab],
    deep: usize,
    (c, n, columns): (&mut [f32], usize, Range<usize>),
    add: bool,
) {
    let unit = unit();
    let rows = c.len() / n;
    for (panel, across) in panels.chunks_exact(deep).zip(pieces(columns.len(), SIDE)) {
        let across = columns.start + across.start..columns.start + across.end;
        for near in pieces(deep, NEAR) {
            let add = add || near.start > 0;
            for (block, down) in blocks.chunks_exact(deep).zip(pieces(rows, SIDE)) {
                let (a, b) = (&block[near.clone()], &panel[near.clone()]);
                if down.len() == SIDE && across.len() == SIDE {
                    unit.product(a, b, &mut c[down.start * n + across.start..], n, add);
                    continue;
                }
                // At the edges through a square of its own.
                let mut square = [0.0; SIDE * SIDE];
                let rows = |c: &mut [f32], square: &mut [f32], copy: fn(&mut [f32], &mut [f32])| {
                    for (c, square) in
                        c[down.start * n..].chunks_mut(n).zip(square.chunks_mut(SIDE)).take(down.len())
                    {
                        copy(&mut c[across.clone()], &mut square[..across.len()]);
                    }
                };
                if add {
                    rows(c, &mut square, |c, square| square.copy_from_slice(c));
                }
                unit.product(a, b, &mut square, SIDE, add);
                rows(c, &mut square, |c, square| c.copy_from_slice(square));
            }
        }
    }
}
