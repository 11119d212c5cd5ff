//! Narrow storage: numbers in 32, 16 or 8 bits, packed into words, and how a number becomes one of them. The twin of
//! `shaders/shared/narrow.wgsl`.
//!
//! Arithmetic is in f32; what is written back is rounded stochastically, so that updates smaller than half a step are
//! not lost but happen as often as they should: a number between two neighbours becomes the upper one with the
//! probability that its place says, in 2⁻¹⁶ths. Numbers beyond the largest become the largest; what is not finite
//! becomes NaN, so that a loss shows it.

mod format;
mod indices;
mod precision;
mod rounding;
mod states;
#[cfg(test)]
mod tests;

pub(crate) use indices::IndexReader;
pub use indices::{IndexRows, Indices, Strata};
pub use precision::Precision;
pub use rounding::Rounding;
pub(crate) use states::OpenRow;
pub use states::StateStorage;

use format::{BF16, F16, FP8};

/// How a number is stored; the number is the shader's constant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Storage {
    /// As it is.
    #[default]
    F32 = 0,
    /// IEEE 754 half precision.
    F16 = 1,
    /// The upper half of an f32.
    Bf16 = 2,
    /// E4M3 of Micikevicius et al. (2022): largest 448, no infinities, NaN 0x7f.
    Fp8 = 3,
}

const SIGN: u32 = 1 << 31;

impl Storage {
    /// Every storage.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Bf16, Self::Fp8];

    /// Bytes of a number.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Fp8 => 1,
        }
    }

    /// Numbers in a word of 32 bits.
    #[must_use]
    pub fn per_word(self) -> usize {
        4 / self.bytes()
    }

    pub(crate) fn from_constant(constant: u32) -> Self {
        Self::ALL[constant as usize]
    }

    /// The number that a code means; codes beyond the largest number are NaN.
    #[inline(always)]
    #[must_use]
    pub fn decode(self, code: u32) -> f32 {
        let sign = |bit: u32| (code >> bit & 1) << 31;
        let (magnitude, sign) = match self {
            Self::F32 => return f32::from_bits(code),
            Self::F16 => (F16.decode(code & 0x7fff), sign(15)),
            Self::Bf16 => (BF16.decode(code & 0x7fff), sign(15)),
            Self::Fp8 => (FP8.decode(code & 0x7f), sign(7)),
        };
        f32::from_bits(magnitude.to_bits() | sign)
    }

    /// The code of a number, rounded up or down by sixteen random bits; not for f32, which needs none.
    #[inline(always)]
    #[must_use]
    pub fn encode(self, value: f32, random: u16) -> u32 {
        let (magnitude, negative) = (value.to_bits() & !SIGN, value.to_bits() >> 31);
        match self {
            Self::F32 => value.to_bits(),
            Self::F16 => F16.encode(magnitude, u32::from(random)) | negative << 15,
            Self::Bf16 => BF16.encode(magnitude, u32::from(random)) | negative << 15,
            Self::Fp8 => FP8.encode(magnitude, u32::from(random)) | negative << 7,
        }
    }

    /// The code of the nearest number; of two, the even one.
    #[must_use]
    pub fn nearest(self, value: f32) -> u32 {
        let (magnitude, negative) = (value.to_bits() & !SIGN, value.to_bits() >> 31);
        match self {
            Self::F32 => value.to_bits(),
            Self::F16 => F16.nearest(magnitude) | negative << 15,
            Self::Bf16 => BF16.nearest(magnitude) | negative << 15,
            Self::Fp8 => FP8.nearest(magnitude) | negative << 7,
        }
    }

    /// The numbers in a run of little-endian bytes.
    pub fn numbers(self, bytes: &[u8]) -> impl Iterator<Item = f32> {
        let code = |bytes: &[u8]| bytes.iter().rev().fold(0, |code, byte| code << 8 | u32::from(*byte));
        bytes.chunks_exact(self.bytes()).map(move |bytes| self.decode(code(bytes)))
    }

    /// The number at `place` of a row of words.
    #[inline(always)]
    pub(crate) fn get(self, words: &[u32], place: usize) -> f32 {
        self.decode(self.code(words, place))
    }

    /// The code at `place` of a row of words.
    #[inline(always)]
    pub(crate) fn code(self, words: &[u32], place: usize) -> u32 {
        match self {
            Self::F32 => words[place],
            Self::F16 | Self::Bf16 => words[place / 2] >> (place % 2 * 16) & 0xffff,
            Self::Fp8 => words[place / 4] >> (place % 4 * 8) & 0xff,
        }
    }

    /// Puts a code at `place` of a row of words.
    #[inline(always)]
    pub(crate) fn put(self, words: &mut [u32], place: usize, code: u32) {
        let (per_word, bits) = (self.per_word(), 8 * self.bytes() as u32);
        let shift = (place % per_word) as u32 * bits;
        let word = &mut words[place / per_word];
        *word = *word & !((u32::MAX >> (32 - bits)) << shift) | code << shift;
    }

    /// The first `out.len()` numbers of a row of words.
    #[inline(always)]
    pub(crate) fn decode_row(self, words: &[u32], out: &mut [f32]) {
        match self {
            Self::F32 => out.copy_from_slice(bytemuck::cast_slice(&words[..out.len()])),
            Self::F16 => decode_codes::<1>(bytemuck::cast_slice::<_, u16>(words), out),
            Self::Bf16 => decode_codes::<2>(bytemuck::cast_slice::<_, u16>(words), out),
            Self::Fp8 => decode_codes::<3>(bytemuck::cast_slice::<_, u8>(words), out),
        }
    }

    /// Writes numbers into a row of words, with sixteen random bits for each.
    #[inline(always)]
    pub(crate) fn encode_row(self, values: &[f32], random: &[u16], words: &mut [u32]) {
        match self {
            Self::F32 => words[..values.len()].copy_from_slice(bytemuck::cast_slice(values)),
            Self::F16 => {
                encode_codes::<1, u16>(values, random, bytemuck::cast_slice_mut(words), |c| c as u16)
            }
            Self::Bf16 => {
                encode_codes::<2, u16>(values, random, bytemuck::cast_slice_mut(words), |c| c as u16)
            }
            Self::Fp8 => encode_codes::<3, u8>(values, random, bytemuck::cast_slice_mut(words), |c| c as u8),
        }
    }

    /// The nearest codes of rows of `width` numbers, each row padded with zeros to `words` words.
    #[must_use]
    pub fn pack(self, values: &[f32], width: usize, words: usize) -> Vec<u32> {
        let mut out = vec![0; values.len() / width * words];
        for (values, words) in values.chunks_exact(width).zip(out.chunks_exact_mut(words)) {
            for (place, value) in values.iter().enumerate() {
                self.put(words, place, self.nearest(*value));
            }
        }
        out
    }

    /// The numbers of rows of `words` words, the first `width` of each.
    #[must_use]
    pub fn unpack(self, packed: &[u32], width: usize, words: usize) -> Vec<f32> {
        let rows = packed.chunks_exact(words);
        rows.flat_map(|row| (0..width).map(|place| self.get(row, place))).collect()
    }
}

#[inline(always)]
fn decode_codes<const STORAGE: u32>(codes: &[impl Copy + Into<u32>], out: &mut [f32]) {
    let storage = Storage::ALL[STORAGE as usize];
    out.iter_mut().zip(codes).for_each(|(out, code)| *out = storage.decode((*code).into()));
}

#[inline(always)]
fn encode_codes<const STORAGE: u32, T>(
    values: &[f32],
    random: &[u16],
    codes: &mut [T],
    narrow: fn(u32) -> T,
) {
    let storage = Storage::ALL[STORAGE as usize];
    for ((value, random), code) in values.iter().zip(random).zip(codes) {
        *code = narrow(storage.encode(*value, *random));
    }
}
