//! Dense products on the CPU: tiles of registers over packed panels of b, in plain vector code; in bf16 on the processor's
//! matrix unit (`unit`).
//!
//! Every element of a product is a sum over k in ascending order, cut at multiples of `DEPTH`: one chain of
//! multiply-adds within a cut, and the cuts added in order. Nothing else decides its bits: neither into which tasks the
//! result is cut, nor the number of threads, nor where in a tile the element lies, nor how the operands are stored.

mod tile;
mod unit;

use std::cell::Cell;
use std::ops::Range;
use std::thread::LocalKey;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use tile::{Target, Task};
pub use unit::product_bf16;

/// Terms that are added in one go: a panel of b so deep lies well in the second-level cache.
const DEPTH: usize = 512;
/// Columns of b that are packed at a time: the copy stays in the last-level cache.
const COLUMNS: usize = 768;
/// Most rows that a task computes against a panel of b before it takes the next.
const ROWS: usize = 256;
/// A tile's rows, and its vectors across, where there are 32 vector registers.
const WIDE: [usize; 2] = [8, 3];
/// The same where there are 16.
const NARROW: [usize; 2] = [6, 2];
/// Rows and columns that are transposed at a time.
const SQUARE: usize = 8;

/// A matrix as it lies in a slice: element (i, j) at `i · down + j · across` for `(slice, [down, across])`.
pub type Strided<'a> = (&'a [f32], [usize; 2]);

/// `c` [m, n] = a · b, or += if `accumulate`, on the threads of the current pool; a is [m, k] and b [k, n].
///
/// While a piece of a finished row is still in cache, `finish` gets its columns, the piece, and the same piece of
/// `second` [m, n], or nothing if `second` is empty.
///
/// # Panics
/// When a slice is too short for its sizes and strides.
pub fn product(
    sizes: [usize; 3],
    a: Strided<'_>,
    b: Strided<'_>,
    c: &mut [f32],
    accumulate: bool,
    second: &mut [f32],
    finish: impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync,
) {
    let [m, n, k] = sizes;
    let c = &mut c[..m * n];
    let rows = rows_of_a_task(m, Shape::of_this_cpu().rows);
    let pack = |packed: &mut [f32], panel: usize, pack: &(dyn Fn(usize, &mut [f32]) + Sync)| {
        packed.par_chunks_mut(panel).enumerate().for_each(|(i, panel)| pack(i, panel));
    };
    over_cuts(sizes, a, b, pack, |columns, depth, packed| {
        let beta = if accumulate || depth.start > 0 { 1.0 } else { 0.0 };
        let last = depth.end == k;
        let compute = |first: usize, c: &mut [f32]| {
            let (rows, a) = (c.len() / n, (&a.0[first * a.1[0]..], a.1));
            let (columns, depth) = (columns.clone(), depth.clone());
            let target = Target { c, stride: n, rows, columns };
            Arch::new().dispatch(Task { a, depth, packed, target, alpha: 1.0, beta });
        };
        over_rows(c, second, [rows, n], compute, last.then_some((columns.clone(), &finish)));
    });
}

/// Rows of each task's result, a multiple of `tile`: as many tasks on every thread.
fn rows_of_a_task(m: usize, tile: usize) -> usize {
    let threads = rayon::current_num_threads();
    let rounds = m.div_ceil(threads * ROWS).max(1);
    m.div_ceil(threads * rounds).next_multiple_of(tile)
}

/// Calls `compute` with the first row and the rows of each task, on the threads of the current pool; then `finish`, if
/// the columns that come with it are done.
fn over_rows(
    c: &mut [f32],
    second: &mut [f32],
    [rows, n]: [usize; 2],
    compute: impl Fn(usize, &mut [f32]) + Sync,
    finish: Option<(Range<usize>, &(impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync))>,
) {
    let task = |(i, (c, second)): (usize, (&mut [f32], &mut [f32]))| {
        compute(i * rows, &mut *c);
        let Some((columns, finish)) = &finish else { return };
        for (row, c) in c.chunks_exact_mut(n).enumerate() {
            let second = second.get_mut(row * n..).map_or(&mut [][..], |s| match s {
                [] => s,
                _ => &mut s[columns.clone()],
            });
            finish(columns.clone(), &mut c[columns.clone()], second);
        }
    };
    let whole = c.len();
    let c = c.par_chunks_mut(rows * n);
    if second.is_empty() {
        c.map(|c| (c, &mut [][..])).enumerate().for_each(task);
    } else {
        c.zip(second[..whole].par_chunks_mut(rows * n)).enumerate().for_each(task);
    }
}

/// `c` [m, n] = alpha · a · b + beta · c on the calling thread alone, for callers that cut their own tasks; the rows of
/// `c` begin `c.1` elements apart, and with a beta of 0 they are not read.
///
/// # Panics
/// When a slice is too short for its sizes and strides.
pub fn small_product(
    sizes: [usize; 3],
    a: Strided<'_>,
    b: Strided<'_>,
    (c, stride): (&mut [f32], usize),
    [alpha, beta]: [f32; 2],
) {
    let [m, n, _] = sizes;
    assert!(n <= stride || m <= 1, "rows of {n} elements, {stride} apart");
    let pack = |packed: &mut [f32], panel: usize, pack: &(dyn Fn(usize, &mut [f32]) + Sync)| {
        packed.chunks_mut(panel).enumerate().for_each(|(i, panel)| pack(i, panel));
    };
    over_cuts(sizes, a, b, pack, |columns, depth, packed| {
        let beta = if depth.start > 0 { 1.0 } else { beta };
        for rows in pieces(m, ROWS) {
            let (a, c) = ((&a.0[rows.start * a.1[0]..], a.1), &mut c[rows.start * stride..]);
            let target = Target { c, stride, rows: rows.len(), columns: columns.clone() };
            Arch::new().dispatch(Task { a, depth: depth.clone(), packed, target, alpha, beta });
        }
    });
}

/// Packs b piece by piece and calls `compute` for each: first over the depth, then over the columns. `pack` gets the
/// room for a piece, the length of a panel, and what fills the panels.
fn over_cuts(
    [m, n, k]: [usize; 3],
    a: Strided<'_>,
    b: Strided<'_>,
    pack: impl Fn(&mut [f32], usize, &(dyn Fn(usize, &mut [f32]) + Sync)),
    mut compute: impl FnMut(Range<usize>, Range<usize>, &[f32]),
) {
    if m == 0 || n == 0 {
        return;
    }
    let last =
        |rows: usize, columns: usize, [down, across]: [usize; 2]| (rows - 1) * down + (columns - 1) * across;
    assert!(k > 0 && last(m, k, a.1) < a.0.len() && last(k, n, b.1) < b.0.len(), "operands of {m}, {n}, {k}");
    let Shape { lanes, across, .. } = Shape::of_this_cpu();
    let width = lanes * across;
    let mut scratch = take(&PACKED_B, COLUMNS.min(n).next_multiple_of(lanes) * DEPTH.min(k));
    let packed = aligned(&mut scratch);
    for columns in pieces(n, COLUMNS) {
        for depth in pieces(k, DEPTH) {
            let packed = &mut packed[..columns.len().next_multiple_of(lanes) * depth.len()];
            pack(packed, width * depth.len(), &|i, out| {
                let first = columns.start + i * width;
                let columns = first..columns.end.min(first + width);
                Arch::new().dispatch(Panel { b, depth: depth.clone(), columns, out });
            });
            compute(columns.clone(), depth, packed);
        }
    }
    PACKED_B.set(scratch);
}

fn pieces(len: usize, piece: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(piece).map(move |start| start..len.min(start + piece))
}

thread_local! {
    static PACKED_A: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    static PACKED_B: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// The thread's scratch of at least `len` after alignment. It is taken out while it is used: a thread that waits for
/// others may be given another product.
fn take(scratch: &'static LocalKey<Cell<Vec<f32>>>, len: usize) -> Vec<f32> {
    let mut scratch = scratch.take();
    if scratch.len() < len + 16 {
        scratch = vec![0.0; len + 16];
    }
    scratch
}

/// From a cache line on: vectors that straddle two lines are slower.
fn aligned(scratch: &mut [f32]) -> &mut [f32] {
    let start = scratch.as_ptr().align_offset(64).min(16);
    &mut scratch[start..]
}

/// What a tile is on this processor.
struct Shape {
    rows: usize,
    across: usize,
    lanes: usize,
}

impl Shape {
    fn of_this_cpu() -> Self {
        struct Ask;
        impl WithSimd for Ask {
            type Output = Shape;
            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> Shape {
                let [rows, across] = if S::REGISTER_COUNT >= 32 { WIDE } else { NARROW };
                Shape { rows, across, lanes: S::F32_LANES }
            }
        }
        Arch::new().dispatch(Ask)
    }
}

/// Columns of b on their way into `out` [depth, columns rounded up to whole vectors].
struct Panel<'a> {
    b: Strided<'a>,
    depth: Range<usize>,
    columns: Range<usize>,
    out: &'a mut [f32],
}

impl WithSimd for Panel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        if S::REGISTER_COUNT >= 32 {
            self.pack::<S, { WIDE[1] }>();
        } else {
            self.pack::<S, { NARROW[1] }>();
        }
    }
}

impl Panel<'_> {
    #[inline(always)]
    fn pack<S: Simd, const V: usize>(self) {
        let width = self.out.len() / self.depth.len();
        let (b, [down, across]) = self.b;
        if across == 1 && self.columns.len() == V * S::F32_LANES {
            let (out, _) = S::as_mut_simd_f32s(self.out);
            for (out, k) in out.as_chunks_mut::<V>().0.iter_mut().zip(self.depth) {
                let (row, _) = S::as_simd_f32s(&b[k * down + self.columns.start..][..width]);
                *out = *row.first_chunk().expect("a full panel has V vectors");
            }
        } else {
            let b = &b[self.depth.start * down + self.columns.start * across..];
            copy(b, [down, across], self.columns.len(), width, self.out);
        }
    }
}

/// `out` [·, width] = the first `count` columns of `from`, zero beyond them.
#[inline(always)]
fn copy(from: &[f32], [down, across]: [usize; 2], count: usize, width: usize, out: &mut [f32]) {
    let depth = out.len() / width;
    // Stored the other way round: squares are transposed, so that both sides go through the cache line by line.
    let square = if down == 1 { [depth, count].map(|side| side / SQUARE * SQUARE) } else { [0, 0] };
    for first in (0..square[1]).step_by(SQUARE) {
        for k in (0..square[0]).step_by(SQUARE) {
            let columns: [&[f32; SQUARE]; SQUARE] = std::array::from_fn(|j| {
                from[(first + j) * across + k..].first_chunk().expect("the square lies inside")
            });
            for t in 0..SQUARE {
                let row = out[(k + t) * width + first..].first_chunk_mut::<SQUARE>();
                let row = row.expect("the square lies inside");
                for j in 0..SQUARE {
                    row[j] = columns[j][t];
                }
            }
        }
    }
    for (k, out) in out.chunks_exact_mut(width).enumerate() {
        let done = if k < square[0] { square[1] } else { 0 };
        for (j, out) in out.iter_mut().enumerate().skip(done) {
            *out = if j < count { from[k * down + j * across] } else { 0.0 };
        }
    }
}
