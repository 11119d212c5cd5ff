//! Operands into the unit's order, from one order to the other, and turned.

use std::arch::x86_64::*;

use bytemuck::Zeroable;

use super::slab::{PARTS, Row, SIDE, Slab};
use super::unit::Unit;

impl Unit {
    /// Up to 32 numbers as a row of a left operand, zeros after them.
    pub(crate) fn read(&self, numbers: &[f32]) -> Row {
        #[expect(unsafe_code, reason = "where there is a unit, there is AVX-512")]
        unsafe {
            read(numbers)
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

    /// A right operand whose 32 rows are `rows`, an even number of them; what is missing is left as it is.
    pub(crate) fn pair_rows<'a>(&self, slab: &mut Slab, rows: impl Iterator<Item = [&'a Row; 2]>) {
        #[expect(unsafe_code, reason = "where there is a unit, there is AVX-512")]
        unsafe {
            pair_rows(slab, rows);
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

/// The three bf16 of each number, in the upper halves of words.
#[inline]
#[target_feature(enable = "avx512f")]
fn split(x: __m512) -> [__m512i; 3] {
    let (half, upper) = (_mm512_set1_epi32(0x8000), _mm512_set1_epi32(0xffff_0000_u32 as i32));
    let leading = |x| _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x), half), upper);
    let first = leading(x);
    let rest = _mm512_sub_ps(x, _mm512_castsi512_ps(first));
    let second = leading(rest);
    let rest = _mm512_sub_ps(rest, _mm512_castsi512_ps(second));
    [first, second, _mm512_castps_si512(rest)]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
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
    let (low, high) = (split(load_f32(&halves[0])), split(load_f32(&halves[1])));
    let mut row = Row::zeroed();
    // No closure: inside of the library's functions it would lose its vectors.
    for part in 0..PARTS {
        let low = _mm512_castsi256_si512(upper_halves(low[part]));
        store(&mut row.0[part], _mm512_inserti64x4::<1>(low, upper_halves(high[part])));
    }
    row
}

#[inline]
#[target_feature(enable = "avx512f")]
fn upper_halves(words: __m512i) -> __m256i {
    _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(words))
}

#[target_feature(enable = "avx512f,avx512bw")]
fn read_rows<'a>(slab: &mut Slab, row: impl Fn(usize) -> Option<&'a [f32]>) {
    for r in 0..SIDE {
        match row(r) {
            Some(numbers) => place(slab, r, &read(numbers)),
            None => place(slab, r, &Row::zeroed()),
        }
    }
}

#[target_feature(enable = "avx512f")]
fn place_rows<'a>(slab: &mut Slab, rows: impl Iterator<Item = &'a Row>) {
    for (r, row) in rows.enumerate() {
        place(slab, r, row);
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn place(slab: &mut Slab, row: usize, from: &Row) {
    for (tile, words) in slab.0[row / 16].iter_mut().zip(&from.0) {
        store(&mut tile.0[row % 16], load(words));
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn pair_rows<'a>(slab: &mut Slab, rows: impl Iterator<Item = [&'a Row; 2]>) {
    let mut order = [[0_u16; SIDE]; 2];
    for (half, order) in order.iter_mut().enumerate() {
        for (place, order) in order.iter_mut().enumerate() {
            *order = (16 * half + place / 2 + SIDE * (place % 2)) as u16;
        }
    }
    let order = [load(bytemuck::cast_ref(&order[0])), load(bytemuck::cast_ref(&order[1]))];
    for (j, [first, second]) in rows.enumerate() {
        for part in 0..PARTS {
            let (first, second) = (load(&first.0[part]), load(&second.0[part]));
            store(&mut slab.0[0][part].0[j], _mm512_permutex2var_epi16(first, order[0], second));
            store(&mut slab.0[1][part].0[j], _mm512_permutex2var_epi16(first, order[1], second));
        }
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
    let order = [load(bytemuck::cast_ref(&order[0])), load(bytemuck::cast_ref(&order[1]))];
    for (upper, from) in from.0.iter().enumerate() {
        for (part, from) in from.iter().enumerate() {
            for (j, rows) in from.0.as_chunks::<2>().0.iter().enumerate() {
                let [first, second] = [load(&rows[0]), load(&rows[1])];
                for (order, to) in order.iter().zip(&mut to.0) {
                    let words = _mm512_permutex2var_epi16(first, *order, second);
                    store(&mut to[part].0[8 * upper + j], words);
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
fn turn_slab(from: &Slab, to: &mut Slab) {
    for (from, to) in from.0.as_flattened().iter().zip(to.0.as_flattened_mut()) {
        turn(|r| &from.0[r], |c, words| store(&mut to.0[c], words));
    }
}

#[target_feature(enable = "avx512f")]
fn turn_numbers(from: &[f32; SIDE * SIDE], to: &mut [f32], stride: usize) {
    let words: &[[[u32; 16]; 2]; SIDE] = bytemuck::cast_ref(from);
    for (lower, right) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        turn(
            |r| &words[16 * lower + r][right],
            |c, words| {
                let to = &mut to[(16 * right + c) * stride + 16 * lower..];
                let to: &mut [f32; 16] = to.first_chunk_mut().expect("32 rows of 32");
                store(bytemuck::cast_mut(to), words);
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

// Loads and stores of whole arrays.

#[inline]
#[target_feature(enable = "avx512f")]
fn load(words: &[u32; 16]) -> __m512i {
    #[expect(unsafe_code, reason = "the array is as long as the vector")]
    unsafe {
        _mm512_loadu_si512(words.as_ptr().cast())
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
fn store(to: &mut [u32; 16], words: __m512i) {
    #[expect(unsafe_code, reason = "the array is as long as the vector")]
    unsafe {
        _mm512_storeu_si512(to.as_mut_ptr().cast(), words);
    }
}
