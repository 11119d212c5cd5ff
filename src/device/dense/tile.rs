//! The inner loops of a dense product: tiles of the result whose sums stay in registers.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::{NARROW, PACKED_A, Strided, WIDE, aligned, copy, pieces, take};

/// Rows of c and the columns of them that are computed.
pub(super) struct Target<'a> {
    pub(super) c: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) columns: Range<usize>,
}

/// Rows of a times packed columns of b, over one cut of the depth.
pub(super) struct Task<'a> {
    /// From the first row of the target on.
    pub(super) a: Strided<'a>,
    pub(super) depth: Range<usize>,
    pub(super) packed: &'a [f32],
    pub(super) target: Target<'a>,
    pub(super) alpha: f32,
    pub(super) beta: f32,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            self.run::<S, { WIDE[0] }, { WIDE[1] }>(simd);
        } else {
            self.run::<S, { NARROW[0] }, { NARROW[1] }>(simd);
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize, const V: usize>(mut self, simd: S) {
        let (a, [down, across]) = self.a;
        if across == 1 {
            let (start, depth) = (self.depth.start, self.depth.len());
            self.panels::<S, R, V, _>(
                simd,
                depth,
                #[inline(always)]
                |rows: Range<usize>| {
                    // Rows beyond the last repeat it; what they give is not stored.
                    let row = |r: usize| (rows.start + r).min(rows.end - 1);
                    let a: [&[f32]; R] = std::array::from_fn(|r| &a[row(r) * down + start..][..depth]);
                    #[inline(always)]
                    move |k: usize, r: usize| a[r][k]
                },
            );
        } else {
            // Rows of a tile side by side: each step of the depth then reads one run.
            let depth = self.depth.len();
            let mut scratch = take(&PACKED_A, self.target.rows.next_multiple_of(R) * depth);
            let packed = &mut aligned(&mut scratch).as_chunks_mut::<R>().0;
            for (rows, out) in pieces(self.target.rows, R).zip(packed.chunks_exact_mut(depth)) {
                let a = &a[rows.start * down + self.depth.start * across..];
                if down == 1 && rows.len() == R {
                    for (k, out) in out.iter_mut().enumerate() {
                        *out = *a[k * across..].first_chunk().expect("a full tile has R rows");
                    }
                } else {
                    copy(a, [across, down], rows.len(), R, out.as_flattened_mut());
                }
            }
            let packed = &*packed;
            self.panels::<S, R, V, _>(
                simd,
                depth,
                #[inline(always)]
                |rows: Range<usize>| {
                    let a = &packed[rows.start / R * depth..][..depth];
                    #[inline(always)]
                    move |k: usize, r: usize| a[k][r]
                },
            );
            PACKED_A.set(scratch);
        }
    }

    /// All tiles; `a_of` gives element (k, row) of a tile's rows.
    #[inline(always)]
    fn panels<S: Simd, const R: usize, const V: usize, A: Fn(usize, usize) -> f32>(
        &mut self,
        simd: S,
        depth: usize,
        a_of: impl Fn(Range<usize>) -> A,
    ) {
        let mut packed = self.packed;
        for columns in pieces(self.target.columns.len(), V * S::F32_LANES) {
            let vectors = columns.len().div_ceil(S::F32_LANES);
            let (b, rest) = packed.split_at(vectors * S::F32_LANES * depth);
            packed = rest;
            let first = self.target.columns.start;
            let columns = first + columns.start..first + columns.end;
            for rows in pieces(self.target.rows, R) {
                let a = a_of(rows.clone());
                match vectors {
                    1 => self.tile::<S, R, 1>(simd, depth, a, b, rows, columns.clone()),
                    2 => self.tile::<S, R, 2>(simd, depth, a, b, rows, columns.clone()),
                    _ => self.tile::<S, R, V>(simd, depth, a, b, rows, columns.clone()),
                }
            }
        }
    }

    /// R rows times V vectors of columns; all sums stay in registers.
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize>(
        &mut self,
        simd: S,
        depth: usize,
        a: impl Fn(usize, usize) -> f32,
        b: &[f32],
        rows: Range<usize>,
        columns: Range<usize>,
    ) {
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        let (b, _) = S::as_simd_f32s(b);
        let b = &b.as_chunks::<V>().0[..depth];
        #[expect(
            clippy::needless_range_loop,
            reason = "over the slice, a check of a's bounds stays and costs registers"
        )]
        for k in 0..depth {
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = simd.splat_f32s(a(k, r));
                for v in 0..V {
                    sums[v] = simd.mul_add_e_f32s(a, b[k][v], sums[v]);
                }
            }
        }
        let plain = self.alpha == 1.0 && (self.beta == 0.0 || self.beta == 1.0);
        let (alpha, beta) = (simd.splat_f32s(self.alpha), simd.splat_f32s(self.beta));
        for (row, sums) in rows.zip(&sums) {
            let c = &mut self.target.c[row * self.target.stride..][columns.clone()];
            if plain && c.len() == V * S::F32_LANES {
                let (c, _) = S::as_mut_simd_f32s(c);
                for (c, sum) in c.iter_mut().zip(sums) {
                    *c = if self.beta == 0.0 { *sum } else { simd.add_f32s(*c, *sum) };
                }
                continue;
            }
            for (c, sum) in c.chunks_mut(S::F32_LANES).zip(sums) {
                let mut value = simd.mul_f32s(alpha, *sum);
                if self.beta != 0.0 {
                    value = simd.add_f32s(simd.mul_f32s(beta, simd.partial_load_f32s(c)), value);
                }
                simd.partial_store_f32s(c, value);
            }
        }
    }
}
