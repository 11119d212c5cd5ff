//! Operands into the unit's order, from one order to the other, and turned.

use std::arch::x86_64::*;

use bytemuck::Zeroable;

use super::slab::{Row, SIDE, Slab};
use super::unit::Unit;

impl Unit {
    /// Rows of `columns` numbers as rows of left operands, each 32 numbers one, zeros after a row's last.
    pub(crate) fn read_all(&self, numbers: &[f32], columns: usize) -> Vec<Row> {
        #[expect(unsafe_code, reason = "where there is a unit, there is AVX-512")]
        unsafe {
            read_all(numbers, columns)
        }
    }

    /// A left operand from rows of up to 32 numbers; what is missing counts as zeros.
    pub(crate) fn read_rows<'a>(&self, slab: &mut Slab, row: impl Fn(usize) -> Option<&'a [f32]>) {
        #[expect(unsafe_code, reason = "where there is a unit, there is AVX-512")]
        unsafe {
            read_rows(slab, row);
        }
    }

    /// A left operand from rows that were read before; what is missing is left as it is.
    pub(crate) fn place_rows<'a>(&self, slab: &mut Slab, rows: impl Iterator<Item = &'a Row>) {
        #[expect(unsafe_code, reason = "where there is a unit, there is AVX-512")]
        unsafe {
            place_rows(slab, rows);
        }
    }

    /// The left operand `from` as the right operand, not transposed.
    pub(crate) fn pair(&self, from: &Slab, to: &mut Slab) {
        #[expect(unsafe_code, reason = "where there is a unit, there is AVX-512")]
        unsafe {
            pair(from, to);
        }
    }

    /// Either operand as the other one, transposed.
    pub(crate) fn turn(&self, from: &Slab, to: &mut Slab) {
        #[expect(unsafe_code, reason = "where there is a unit, there is AVX-512")]
        unsafe {
            turn_slab(from, to);
        }
    }

    /// Adds rows of 32 numbers to the `width` ones that begin at `starts` in `to`, one after the other.
    ///
    /// # Panics
    /// When a row does not lie in `to`, or is longer than 32.
    pub(crate) fn add_rows(
        &self,
        rows: &[f32; SIDE * SIDE],
        to: &mut [f32],
        starts: impl Iterator<Item = usize>,
        width: usize,
    ) {
        #[expect(unsafe_code, reason = "where there is a unit, there is AVX-512")]
        unsafe {
            add_rows(rows, to, starts, width);
        }
    }

    /// to[c][r] = from[r][c] of 32 × 32 numbers whose rows begin `stride` numbers apart in `to`.
    ///
    /// # Panics
    /// When `to` is too short.
    pub(crate) fn turn_numbers(&self, from: &[f32; SIDE * SIDE], to: &mut [f32], stride: usize) {
        #[expect(unsafe_code, reason = "where there is a unit, there is AVX-512")]
        unsafe {
            turn_numbers(from, to, stride);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn read(numbers: &[f32]) -> Row {
    let mut room = [0.0; SIDE];
    let numbers = match numbers.first_chunk::<SIDE>() {
        Some(numbers) => numbers,
        None => {
            room[..numbers.len()].copy_from_slice(numbers);
            &room
        }
    };
    let (halves, _) = numbers.as_chunks::<16>();
    let mut row = Row::zeroed();
    store(&mut row, as_words(_mm512_cvtne2ps_pbh(load_f32(&halves[1]), load_f32(&halves[0]))));
    row
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn read_all(numbers: &[f32], columns: usize) -> Vec<Row> {
    let mut rows = Vec::with_capacity(numbers.len() / columns * columns.div_ceil(SIDE));
    for row in numbers.chunks_exact(columns) {
        for numbers in row.chunks(SIDE) {
            rows.push(read(numbers));
        }
    }
    rows
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn read_rows<'a>(slab: &mut Slab, row: impl Fn(usize) -> Option<&'a [f32]>) {
    for (r, to) in slab.0.as_flattened_mut().iter_mut().enumerate() {
        *to = match row(r) {
            Some(numbers) => read(numbers),
            None => Row::zeroed(),
        };
    }
}

#[target_feature(enable = "avx512f")]
fn place_rows<'a>(slab: &mut Slab, rows: impl Iterator<Item = &'a Row>) {
    for (to, row) in slab.0.as_flattened_mut().iter_mut().zip(rows) {
        store(to, load(row));
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn pair(from: &Slab, to: &mut Slab) {
    // Words of two rows in turn: 0 to 15 of the first and the second row, and 16 to 31.
    let mut order = [[0_u16; SIDE]; 2];
    for (half, order) in order.iter_mut().enumerate() {
        for (place, order) in order.iter_mut().enumerate() {
            *order = (16 * half + place / 2 + SIDE * (place % 2)) as u16;
        }
    }
    let (low, high) = (load(&Row(bytemuck::cast(order[0]))), load(&Row(bytemuck::cast(order[1]))));
    let [left, right] = &mut to.0;
    let rows = from.0.as_flattened().as_chunks::<2>().0;
    for ((rows, left), right) in rows.iter().zip(left).zip(right) {
        let (first, second) = (load(&rows[0]), load(&rows[1]));
        store(left, _mm512_permutex2var_epi16(first, low, second));
        store(right, _mm512_permutex2var_epi16(first, high, second));
    }
}

#[target_feature(enable = "avx512f")]
fn turn_slab(from: &Slab, to: &mut Slab) {
    for (from, to) in from.0.iter().zip(&mut to.0) {
        turn(|r| &from[r].0, |c, words| store(&mut to[c], words));
    }
}

#[target_feature(enable = "avx512f")]
fn turn_numbers(from: &[f32; SIDE * SIDE], to: &mut [f32], stride: usize) {
    let (rows, _) = from.as_chunks::<16>();
    for (lower, right) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        turn(
            |r| bytemuck::cast_ref(&rows[2 * (16 * lower + r) + right]),
            |c, words| {
                let to = &mut to[(16 * right + c) * stride + 16 * lower..];
                let to: &mut [f32; 16] = to.first_chunk_mut().expect("32 rows of 32");
                store_f32(to, _mm512_castsi512_ps(words));
            },
        );
    }
}

#[target_feature(enable = "avx512f")]
fn add_rows(rows: &[f32; SIDE * SIDE], to: &mut [f32], starts: impl Iterator<Item = usize>, width: usize) {
    for (row, start) in rows.as_chunks::<SIDE>().0.iter().zip(starts) {
        let to = &mut to[start..start + width];
        // Whole rows without a loop.
        if let Some(to) = to.first_chunk_mut::<SIDE>() {
            for (to, number) in to.iter_mut().zip(row) {
                *to += number;
            }
        } else {
            for (to, number) in to.iter_mut().zip(&row[..width]) {
                *to += number;
            }
        }
    }
}

/// Calls `put` with every column of 16 rows of 16 words.
#[inline]
#[target_feature(enable = "avx512f")]
fn turn<'a>(row: impl Fn(usize) -> &'a [u32; 16], mut put: impl FnMut(usize, __m512i)) {
    for q in 0..4 {
        // Four columns of every fourth row side by side: what is left is to turn squares of four in place.
        let quarter = |r: usize| load_quarter(&row(r).as_chunks::<4>().0[q]);
        let every_fourth = |r: usize| {
            let words = _mm512_castsi128_si512(quarter(r));
            let words = _mm512_inserti32x4::<1>(words, quarter(r + 4));
            let words = _mm512_inserti32x4::<2>(words, quarter(r + 8));
            _mm512_inserti32x4::<3>(words, quarter(r + 12))
        };
        let (a, b, c, d) = (every_fourth(0), every_fourth(1), every_fourth(2), every_fourth(3));
        let (low, high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (low2, high2) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        put(4 * q, _mm512_unpacklo_epi64(low, low2));
        put(4 * q + 1, _mm512_unpackhi_epi64(low, low2));
        put(4 * q + 2, _mm512_unpacklo_epi64(high, high2));
        put(4 * q + 3, _mm512_unpackhi_epi64(high, high2));
    }
}

// Vectors and the arrays that hold them.

#[inline]
#[target_feature(enable = "avx512f")]
fn load(row: &Row) -> __m512i {
    #[expect(unsafe_code, reason = "the array is as long as the vector")]
    unsafe {
        _mm512_loadu_si512(row.0.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_f32(numbers: &[f32; 16]) -> __m512 {
    #[expect(unsafe_code, reason = "the array is as long as the vector")]
    unsafe {
        _mm512_loadu_ps(numbers.as_ptr())
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_quarter(words: &[u32; 4]) -> __m128i {
    #[expect(unsafe_code, reason = "the array is as long as the vector")]
    unsafe {
        _mm_loadu_si128(words.as_ptr().cast())
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(to: &mut Row, words: __m512i) {
    #[expect(unsafe_code, reason = "the array is as long as the vector")]
    unsafe {
        _mm512_storeu_si512(to.0.as_mut_ptr().cast(), words);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store_f32(to: &mut [f32; 16], numbers: __m512) {
    #[expect(unsafe_code, reason = "the array is as long as the vector")]
    unsafe {
        _mm512_storeu_ps(to.as_mut_ptr(), numbers);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn as_words(numbers: __m512bh) -> __m512i {
    #[expect(unsafe_code, reason = "both are 64 bytes of any bits")]
    unsafe {
        std::mem::transmute(numbers)
    }
}
