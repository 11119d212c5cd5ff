//! Inner loops compiled for the vector instructions of this very processor, chosen at run time.

use pulp::Simd;

/// Runs `op` compiled for the best instruction set there is. What it calls must be `#[inline(always)]`.
#[inline]
pub(crate) fn vectorised<R>(op: impl FnOnce() -> R) -> R {
    struct Once<F>(F);
    impl<R, F: FnOnce() -> R> pulp::NullaryFnOnce for Once<F> {
        type Output = R;
        #[inline(always)]
        fn call(self) -> R {
            (self.0)()
        }
    }
    pulp::Arch::new().dispatch(Once(op))
}

/// Whether code compiled for `S` multiplies and adds in one instruction.
pub(crate) const fn fuses<S: Simd>() -> bool {
    // Eight lanes and more are AVX2 and AVX-512, which `pulp` takes together with FMA only.
    S::F32_LANES >= 8 || cfg!(target_arch = "aarch64")
}

/// a · b + c; rounded once with `FUSED`, which is fast only where [`fuses`] says so.
#[inline(always)]
pub(crate) fn mul_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// exp(x) for x ≤ 0, relative error below 2e-7, and 1.6e-38 below -87; NaN stays NaN. Plain arithmetic, so that a
/// loop over it vectorises; `FUSED` as in [`mul_add`].
#[inline(always)]
pub(crate) fn exp_negative<const FUSED: bool>(x: f32) -> f32 {
    // Adding 1.5 · 2²³ leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let rounded = mul_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    // ln 2 in two parts: the first is exact in few bits, so that n times it is exact.
    let r = mul_add::<FUSED>(n, 2.121_944_4e-4, mul_add::<FUSED>(n, -0.693_359_4, x));
    // For |r| ≤ ln 2 / 2 the best polynomial of sixth degree that is 1 at 0 is off by 3e-9, and with 1.0 instead of its
    // 1.000_000_05 by 2e-8.
    let mut p = 1.406_124e-3;
    for term in [8.379_011e-3, 4.166_478e-2, 0.166_663_66, 0.500_000_06, 1.0, 1.0] {
        p = mul_add::<FUSED>(p, r, term);
    }
    // The other bits of ROUND are shifted out.
    p * f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0_f32.to_bits()))
}

/// The first `N` elements of each of `count` rows that begin `stride` elements apart: of all but the last, and of the last, which
/// may end there. Known lengths, so that sums over them stay in registers and a loop over rows makes no comparisons.
#[inline(always)]
fn rows_of<T, const N: usize>(
    x: &[T],
    stride: usize,
    count: usize,
) -> (impl Iterator<Item = &[T; N]>, &[T; N]) {
    const SHORT: &str = "the operands of a product hold all its elements";
    let (rows, last) = x.split_at((count - 1) * stride);
    let rows = rows.chunks_exact(stride).map(
        #[inline(always)]
        |row| row.first_chunk().expect(SHORT),
    );
    (rows, last.first_chunk().expect(SHORT))
}

/// A matrix of which single numbers are read: element (i, k) lies at `i · stride + k`, or, transposed, at
/// `k · stride + i`.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) numbers: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) transposed: bool,
}

/// c [m, width] = a [m, k] · b [k, width], or c += with `add`. Rows of b begin every `b_stride` vectors, those of c
/// one after the other `c_stride` vectors apart; `width` counts vectors.
#[inline(always)]
pub(crate) fn product<S: Simd>(
    simd: S,
    sizes: [usize; 3],
    a: Left<'_>,
    b: (&[S::f32s], usize),
    (c, c_stride): (&mut [S::f32s], usize),
    add: bool,
) {
    product_into(
        simd,
        sizes,
        a,
        b,
        (
            c,
            #[inline(always)]
            |row| row * c_stride,
        ),
        add,
    );
}

/// [`product`] whose row r of c begins at vector `row_of(r)`; with `add`, rows of c may coincide.
#[inline(always)]
pub(crate) fn product_into<S: Simd>(
    simd: S,
    [m, width, k]: [usize; 3],
    a: Left<'_>,
    (b, b_stride): (&[S::f32s], usize),
    (c, row_of): (&mut [S::f32s], impl Fn(usize) -> usize + Copy),
    add: bool,
) {
    let mut x = 0;
    // Sixteen sums fill half of the 32 registers of AVX-512, eight half of the 16 of AVX2.
    if S::F32_LANES >= 16 {
        while x + 4 <= width {
            columns::<S, 4>(simd, m, x, k, a, (b, b_stride), (c, row_of), add);
            x += 4;
        }
    }
    while x + 2 <= width {
        columns::<S, 2>(simd, m, x, k, a, (b, b_stride), (c, row_of), add);
        x += 2;
    }
    if x < width {
        columns::<S, 1>(simd, m, x, k, a, (b, b_stride), (c, row_of), add);
    }
}

#[inline(always)]
fn columns<S: Simd, const C: usize>(
    simd: S,
    m: usize,
    x: usize,
    k: usize,
    a: Left<'_>,
    b: (&[S::f32s], usize),
    (c, row_of): (&mut [S::f32s], impl Fn(usize) -> usize + Copy),
    add: bool,
) {
    let mut row = 0;
    if S::F32_LANES >= 16 && C <= 2 {
        while row + 8 <= m {
            tile::<S, 8, C>(simd, [row, x, k], a, b, (c, row_of), add);
            row += 8;
        }
    }
    while row + 4 <= m {
        tile::<S, 4, C>(simd, [row, x, k], a, b, (c, row_of), add);
        row += 4;
    }
    while row < m {
        tile::<S, 1, C>(simd, [row, x, k], a, b, (c, row_of), add);
        row += 1;
    }
}

/// `R` rows and `C` vectors of a product, in registers.
#[inline(always)]
fn tile<S: Simd, const R: usize, const C: usize>(
    simd: S,
    [row, x, k]: [usize; 3],
    a: Left<'_>,
    (b, b_stride): (&[S::f32s], usize),
    (c, row_of): (&mut [S::f32s], impl Fn(usize) -> usize),
    add: bool,
) {
    let mut sums = [[simd.splat_f32s(0.0); C]; R];
    if let Some(last) = k.checked_sub(1) {
        let (b_rows, b_last) = rows_of::<_, C>(&b[x..], b_stride, k);
        if a.transposed {
            let (a_rows, a_last) = rows_of::<_, R>(&a.numbers[row..], a.stride, k);
            for (a, b) in a_rows.zip(b_rows) {
                add_row(simd, a, b, &mut sums);
            }
            add_row(simd, a_last, b_last, &mut sums);
        } else {
            let mut rows = [a.numbers; R];
            for (r, numbers) in rows.iter_mut().enumerate() {
                *numbers = &a.numbers[(row + r) * a.stride..][..k];
            }
            for (k, b) in (0..last).zip(b_rows) {
                add_row(simd, &column_of(&rows, k), b, &mut sums);
            }
            add_row(simd, &column_of(&rows, last), b_last, &mut sums);
        }
    }
    // Row after row, so that rows that coincide get both sums.
    for (r, sums) in sums.iter().enumerate() {
        let (c, _) = c[row_of(row + r) + x..].split_first_chunk_mut::<C>().expect("c holds all its elements");
        for n in 0..C {
            c[n] = if add { simd.add_f32s(c[n], sums[n]) } else { sums[n] };
        }
    }
}

/// sums += a · b, for each number of `a` and vector of `b`.
#[inline(always)]
fn add_row<S: Simd, const R: usize, const C: usize>(
    simd: S,
    a: &[f32; R],
    b: &[S::f32s; C],
    sums: &mut [[S::f32s; C]; R],
) {
    for (sums, a) in sums.iter_mut().zip(a) {
        let a = simd.splat_f32s(*a);
        for n in 0..C {
            sums[n] = simd.mul_add_e_f32s(a, b[n], sums[n]);
        }
    }
}

/// The number at `k` of each row.
#[inline(always)]
fn column_of<const R: usize>(rows: &[&[f32]; R], k: usize) -> [f32; R] {
    // A loop: `array::from_fn` would be called, and hide that all rows are equally long.
    let mut column = [0.0; R];
    for r in 0..R {
        column[r] = rows[r][k];
    }
    column
}

/// Inner product of two slices of the same length.
#[inline(always)]
pub(crate) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let mut sum = simd.splat_f32s(0.0);
    for (a, b) in a.iter().zip(b) {
        sum = simd.mul_add_e_f32s(*a, *b, sum);
    }
    a_rest.iter().zip(b_rest).fold(simd.reduce_sum_f32s(sum), |sum, (a, b)| sum + a * b)
}

/// Counters that [`philox`] takes at once.
pub(crate) const DRAWN: usize = 16;

/// The four words of Philox4x32-10 for each of the counters (`first` + `more[i]`, `rest`): as [`crate::random::philox`],
/// in a form that vectorises.
#[inline(always)]
pub(crate) fn philox(
    first: u32,
    more: &[u32; DRAWN],
    [second, rest @ ..]: [u32; 3],
    key: [u32; 2],
    words: &mut [u32; 4 * DRAWN],
) {
    philox_of(more.map(|more| first.wrapping_add(more)), [second; DRAWN], rest, key, words);
}

/// [`philox`] for the counters (`first[i]`, `second[i]`, `rest`).
#[inline(always)]
pub(crate) fn philox_of(
    first: [u32; DRAWN],
    second: [u32; DRAWN],
    rest: [u32; 2],
    [mut k0, mut k1]: [u32; 2],
    words: &mut [u32; 4 * DRAWN],
) {
    // Words in 64 bits each, whose upper halves hold anything: a product of two words is one instruction then.
    const LOW: u64 = 0xffff_ffff;
    let [mut c0, mut c1] = [first, second].map(|words| words.map(u64::from));
    let [mut c2, mut c3] = rest.map(|word| [u64::from(word); DRAWN]);
    for _ in 0..10 {
        for i in 0..DRAWN {
            let p0 = (c0[i] & LOW) * 0xD251_1F53;
            let p1 = (c2[i] & LOW) * 0xCD9E_8D57;
            c0[i] = (p1 >> 32) ^ c1[i] ^ u64::from(k0);
            c2[i] = (p0 >> 32) ^ c3[i] ^ u64::from(k1);
            c1[i] = p1;
            c3[i] = p0;
        }
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    for i in 0..DRAWN {
        words[4 * i] = c0[i] as u32;
        words[4 * i + 1] = c1[i] as u32;
        words[4 * i + 2] = c2[i] as u32;
        words[4 * i + 3] = c3[i] as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::{DRAWN, exp_negative, philox, philox_of};

    #[test]
    fn exp_negative_is_exp() {
        for exp_negative in [exp_negative::<false>, exp_negative::<true>] {
            for i in 0..200_000 {
                let x = -(i as f32) * 4.3e-4;
                let (got, truth) = (f64::from(exp_negative(x)), f64::from(x).exp());
                assert!((got - truth).abs() <= 2e-7 * truth, "exp({x}) = {truth}, got {got}");
            }
            assert!(exp_negative(f32::NAN).is_nan());
            assert!(exp_negative(f32::NEG_INFINITY) < 1e-37);
        }
    }

    #[test]
    fn philox_is_philox() {
        let more = std::array::from_fn(|i| (i * i) as u32);
        let (first, rest, key) = (u32::MAX - 20, [5, 77, 4], [0x9abc_def0, 0x1234_5678]);
        let mut words = [0; 4 * DRAWN];
        philox(first, &more, rest, key, &mut words);
        for (words, more) in words.chunks(4).zip(more) {
            let counter = [first.wrapping_add(more), rest[0], rest[1], rest[2]];
            assert_eq!(words, crate::random::philox(counter, key));
        }
        philox_of([first; DRAWN], more, [rest[1], rest[2]], key, &mut words);
        for (words, more) in words.chunks(4).zip(more) {
            assert_eq!(words, crate::random::philox([first, more, rest[1], rest[2]], key));
        }
    }
}
