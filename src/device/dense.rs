//! Dense products on the CPU, by a well-kept crate, behind a safe door.

use rayon::prelude::*;

/// Rows of the result that one task computes; fixed, so that results do not depend on the number of threads.
const PANEL: usize = 32;

/// `c` [m, n] = a · b, where element (i, k) of a lies at `i · rows + k · columns` for `(a, [rows, columns])`, and b
/// likewise [k, n].
///
/// # Panics
/// When a slice is too short for its sizes and strides.
pub fn product([m, n, k]: [usize; 3], a: (&[f32], [usize; 2]), b: (&[f32], [usize; 2]), c: &mut [f32]) {
    let last = |rows: usize, columns: usize, strides: [usize; 2]| {
        (rows.max(1) - 1) * strides[0] + (columns.max(1) - 1) * strides[1]
    };
    if m == 0 || n == 0 {
        return;
    }
    assert!(k > 0 && last(m, k, a.1) < a.0.len() && last(k, n, b.1) < b.0.len() && c.len() >= m * n);
    let strides = |strides: [usize; 2]| strides.map(|stride| stride as isize);
    let ([ra, ca], [rb, cb]) = (strides(a.1), strides(b.1));
    c[..m * n].par_chunks_mut(PANEL * n).enumerate().for_each(|(panel, c)| {
        let first_row = panel * PANEL;
        let a = &a.0[first_row * a.1[0]..];
        #[expect(unsafe_code, reason = "the crate takes pointers; the assertion above bounds every access")]
        // SAFETY: rows first_row.. of `a`, all of `b` and this panel of `c` lie within their slices.
        unsafe {
            matrixmultiply::sgemm(
                c.len() / n,
                k,
                n,
                1.0,
                a.as_ptr(),
                ra,
                ca,
                b.0.as_ptr(),
                rb,
                cb,
                0.0,
                c.as_mut_ptr(),
                n as isize,
                1,
            );
        }
    });
}
