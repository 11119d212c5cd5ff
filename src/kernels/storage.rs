//! Narrow storage: numbers in 32, 16 or 8 bits, packed into words, and how a number becomes one of them. The twin of
//! `shaders/shared/narrow.wgsl`.
//!
//! Arithmetic is in f32; what is written back is rounded stochastically, so that updates smaller than half a step are
//! not lost but happen as often as they should: a number between two neighbours becomes the upper one with the
//! probability that its place says, in 2⁻¹⁶ths. Numbers beyond the largest become the largest; what is not finite
//! becomes NaN, so that a loss shows it.

use super::vector::{DRAWN, philox};
use crate::random::Purpose;

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

/// Where a format differs from f32.
struct Format {
    /// Bits of the fraction.
    fraction: u32,
    /// Exponents of f32 below the first one of the format.
    offset: u32,
    /// Code of the largest number.
    largest: u32,
    /// Code of NaN.
    nan: u32,
}

const F16: Format = Format { fraction: 10, offset: 112, largest: 0x7bff, nan: 0x7e00 };
const BF16: Format = Format { fraction: 7, offset: 0, largest: 0x7f7f, nan: 0x7fc0 };
const FP8: Format = Format { fraction: 3, offset: 120, largest: 0x7e, nan: 0x7f };

impl Format {
    /// Bits of an f32 that the format drops.
    const fn dropped(&self) -> u32 {
        23 - self.fraction
    }

    /// Steps between 0 and 1, which make integers of the numbers below the first exponent. Means nothing for bf16, whose
    /// exponents are those of f32.
    const fn steps(&self) -> f32 {
        f32::from_bits((127 + 126 - self.offset + self.fraction) << 23)
    }

    #[inline(always)]
    fn decode(&self, magnitude: u32) -> f32 {
        if magnitude > self.largest {
            return f32::NAN;
        }
        let normal = f32::from_bits((magnitude << self.dropped()) + (self.offset << 23));
        if self.offset > 0 && magnitude < 1 << self.fraction {
            magnitude as f32 / self.steps()
        } else {
            normal
        }
    }

    /// The code of a magnitude, given as the bits of an f32, by sixteen random bits.
    #[inline(always)]
    fn encode(&self, magnitude: u32, random: u32) -> u32 {
        let added = if self.dropped() > 16 {
            // In the middle of what sixteen bits cannot tell apart.
            (random << (self.dropped() - 16)) + (1 << (self.dropped() - 17))
        } else {
            random >> (16 - self.dropped())
        };
        let normal = ((magnitude + added) >> self.dropped()).wrapping_sub(self.offset << self.fraction);
        let code = if self.offset > 0 && magnitude < (self.offset + 1) << 23 {
            ((f32::from_bits(magnitude) * self.steps() * 65536.0) as u32 + random) >> 16
        } else {
            normal
        };
        self.finish(code, magnitude)
    }

    /// The nearest code, the even one of two.
    #[inline(always)]
    fn nearest(&self, magnitude: u32) -> u32 {
        let code = if self.offset > 0 && magnitude < (self.offset + 1) << 23 {
            (f32::from_bits(magnitude) * self.steps()).round_ties_even() as u32
        } else {
            let half = (1 << (self.dropped() - 1)) - 1 + (magnitude >> self.dropped() & 1);
            ((magnitude + half) >> self.dropped()) - (self.offset << self.fraction)
        };
        self.finish(code, magnitude)
    }

    #[inline(always)]
    fn finish(&self, code: u32, magnitude: u32) -> u32 {
        let code = if code > self.largest { self.largest } else { code };
        if magnitude >= f32::INFINITY.to_bits() { self.nan } else { code }
    }
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
        match self {
            Self::F32 => f32::from_bits(words[place]),
            Self::F16 | Self::Bf16 => self.decode(words[place / 2] >> (place % 2 * 16) & 0xffff),
            Self::Fp8 => self.decode(words[place / 4] >> (place % 4 * 8) & 0xff),
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

/// How the numbers of a layer that are kept between steps are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Precision {
    /// The weights.
    pub weights: Storage,
    /// The optimizer's states of the weights: f32 or bf16.
    pub moments: Storage,
}

impl Precision {
    /// Every precision that there are shaders for.
    pub(crate) fn all() -> Vec<Self> {
        let with = |moments| Storage::ALL.map(|weights| Self { weights, moments });
        [Storage::F32, Storage::Bf16].map(with).concat()
    }

    /// Numbers that an invocation owns, so that no word is shared: rows are padded to a multiple of it.
    #[must_use]
    pub fn span(self) -> usize {
        self.weights.per_word().max(self.moments.per_word())
    }

    /// Words in a row of `width` weights.
    #[must_use]
    pub fn weight_words(self, width: usize) -> usize {
        width.next_multiple_of(self.span()) / self.weights.per_word()
    }

    /// Words in a row of the states of `width` weights.
    #[must_use]
    pub fn moment_words(self, width: usize) -> usize {
        width.next_multiple_of(self.span()) / self.moments.per_word()
    }

    /// Whether nothing is rounded.
    #[must_use]
    pub fn is_exact(self) -> bool {
        self == Self::default()
    }

    /// The shader's constants.
    pub(crate) fn constants(self) -> [(&'static str, u32); 2] {
        [("WEIGHTS", self.weights as u32), ("MOMENTS", self.moments as u32)]
    }
}

/// Where the random bits of a rounding come from.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Rounding {
    /// Seed of the run, lower and upper half.
    pub seed: [u32; 2],
    /// Optimizer step.
    pub step: u32,
}

impl Rounding {
    /// For a step of a run.
    #[must_use]
    pub fn new(seed: u64, step: u64) -> Self {
        Self { seed: [seed as u32, (seed >> 32) as u32], step: step as u32 }
    }

    /// Sixteen bits for each number of a row: number i takes those of block ⌊i / 8⌋ of the row's blocks, which are
    /// counted over all rows. `tensor` is 0 for the weights, 1 and 2 for their states.
    #[inline(always)]
    pub(crate) fn row(self, tensor: u32, row: u32, bits: &mut [u16]) {
        self.blocks(tensor, row.wrapping_mul(bits.len().div_ceil(8) as u32), bits);
    }

    /// Sixteen bits for each of consecutive numbers, eight of them a block, from the block `first` on.
    #[inline(always)]
    fn blocks(self, tensor: u32, mut first: u32, bits: &mut [u16]) {
        let more: [u32; DRAWN] = std::array::from_fn(|i| i as u32);
        let rest = [tensor, self.step, Purpose::Rounding as u32];
        let mut words = [0; 4 * DRAWN];
        for bits in bits.chunks_mut(8 * DRAWN) {
            philox(first, &more, rest, self.seed, &mut words);
            bits.iter_mut().enumerate().for_each(|(i, bits)| *bits = (words[i / 2] >> (i % 2 * 16)) as u16);
            first = first.wrapping_add(DRAWN as u32);
        }
    }
}

/// How the optimizer's states of a tensor are stored, and which random bits round them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateStorage {
    /// f32 or bf16.
    pub moments: Storage,
    /// Where random bits come from.
    pub rounding: Rounding,
    /// Number of the tensor among those that are rounded with the same seed.
    pub tensor: u32,
}

impl StateStorage {
    /// The generator's stream of the first states, behind those of the classifier's rows; that of the second follows.
    pub(crate) fn stream(self) -> u32 {
        16 + 2 * self.tensor
    }

    /// Runs `step` in f32 on the states of `count` consecutive numbers of the tensor, of which the first is a multiple of
    /// eight; states that the rule does not have are empty.
    #[inline(always)]
    pub(crate) fn open(
        self,
        first_number: usize,
        count: usize,
        states: [&mut [u32]; 2],
        step: impl FnOnce([&mut [f32]; 2]),
    ) {
        if self.moments == Storage::F32 {
            return step(states.map(bytemuck::cast_slice_mut));
        }
        let mut values = [0, 1].map(|i| vec![0.0; if states[i].is_empty() { 0 } else { count }]);
        values.iter_mut().zip(&states).for_each(|(values, words)| self.moments.decode_row(words, values));
        step(values.each_mut().map(Vec::as_mut_slice));
        let mut bits = vec![0; count];
        for ((values, words), stream) in values.iter().zip(states).zip(self.stream()..) {
            if !values.is_empty() {
                self.rounding.blocks(stream, (first_number / 8) as u32, &mut bits);
                self.moments.encode_row(values, &bits, words);
            }
        }
    }
}

/// A row of stored numbers, opened for arithmetic in f32.
pub(crate) struct OpenRow<'a> {
    /// The numbers.
    pub(crate) values: &'a mut [f32],
    /// Where they are stored, when that is not where they are.
    stored: Option<&'a mut [u32]>,
    storage: Storage,
}

impl<'a> OpenRow<'a> {
    /// The first `scratch.len()` numbers of `words`; `scratch` holds them where they cannot be used in place.
    #[inline(always)]
    pub(crate) fn new(storage: Storage, words: &'a mut [u32], scratch: &'a mut [f32]) -> Self {
        if storage == Storage::F32 {
            let width = scratch.len().min(words.len());
            return Self { values: bytemuck::cast_slice_mut(&mut words[..width]), stored: None, storage };
        }
        if !words.is_empty() {
            storage.decode_row(words, scratch);
        }
        Self { values: scratch, stored: Some(words), storage }
    }

    /// Stores the numbers, rounded by the bits that `draw` gives.
    #[inline(always)]
    pub(crate) fn close(self, bits: &mut [u16], draw: impl FnOnce(&mut [u16])) {
        let Some(words) = self.stored else { return };
        if !words.is_empty() {
            draw(bits);
            self.storage.encode_row(self.values, bits, words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Precision, Rounding, Storage};
    use crate::random::{Purpose, words};

    /// Every code of a 16-bit storage against an independent implementation.
    #[test]
    fn sixteen_bits_are_those_of_half() {
        for code in 0..=u16::MAX {
            let cases = [
                (Storage::F16, half::f16::from_bits(code).to_f32()),
                (Storage::Bf16, half::bf16::from_bits(code).to_f32()),
            ];
            for (storage, truth) in cases {
                let got = storage.decode(u32::from(code));
                if truth.is_finite() {
                    assert_eq!(got.to_bits(), truth.to_bits(), "{storage:?} {code:#x}");
                    assert_eq!(storage.nearest(truth), u32::from(code), "{storage:?} {code:#x}");
                    assert_eq!(storage.encode(truth, u16::MAX), u32::from(code), "exact numbers stay");
                } else {
                    assert!(got.is_nan(), "{storage:?} {code:#x}");
                }
            }
        }
    }

    #[test]
    fn nearest_is_that_of_half() {
        let mut bits = 1_u32;
        for _ in 0..200_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = f32::from_bits(bits);
            if value.abs() < 65504.0 {
                assert_eq!(
                    Storage::F16.nearest(value),
                    u32::from(half::f16::from_f32(value).to_bits()),
                    "{value:e}"
                );
            }
            if value.is_finite() && value.abs() < 3.38e38 {
                assert_eq!(
                    Storage::Bf16.nearest(value),
                    u32::from(half::bf16::from_f32(value).to_bits()),
                    "{value:e}"
                );
            }
        }
    }

    /// E4M3 by its definition: (−1)^s · 2^(e − 7) · (1 + m / 8), or m · 2⁻⁹ where e is 0.
    #[test]
    fn fp8_is_e4m3() {
        for code in 0..256_u32 {
            let (exponent, fraction) = ((code >> 3 & 15) as i32, (code & 7) as f32);
            let magnitude = if exponent == 0 {
                fraction / 512.0
            } else {
                2_f32.powi(exponent - 7) * (1.0 + fraction / 8.0)
            };
            let truth = if code & 128 == 0 { magnitude } else { -magnitude };
            let got = Storage::Fp8.decode(code);
            if code & 0x7f == 0x7f {
                assert!(got.is_nan());
            } else {
                assert_eq!(got.to_bits(), truth.to_bits(), "{code:#x}");
                assert_eq!(Storage::Fp8.nearest(truth), code);
                assert_eq!(Storage::Fp8.encode(truth, u16::MAX), code);
            }
        }
        assert_eq!(Storage::Fp8.nearest(1.0 / 1024.0), 0, "half a step goes to the even neighbour");
        assert_eq!(Storage::Fp8.nearest(3.0 / 1024.0), 2);
    }

    /// Over all random bits the mean of the rounded numbers is the number: to half of 2⁻¹⁶ of a step.
    #[test]
    fn rounding_is_unbiased() {
        let values = [1.000_3, -0.037_2, 3.3e-6, 2.9e-8, -6.5e-5, 0.001_9, 0.014_9, 0.015_7, -300.1, 7.7e-3];
        for storage in [Storage::F16, Storage::Bf16, Storage::Fp8] {
            for value in values {
                let down = storage.encode(value, 0);
                let up = storage.encode(value, u16::MAX);
                let neighbours = [storage.decode(down), storage.decode(up)].map(f64::from);
                let step = (neighbours[1] - neighbours[0]).abs().max(f64::from(storage.decode(1)));
                assert!(up == down || up == down + 1, "{storage:?} {value:e}: neighbours");
                let sum: f64 = (0..=u16::MAX)
                    .map(|random| f64::from(storage.decode(storage.encode(value, random))))
                    .sum();
                let bias = (sum / 65536.0 - f64::from(value)).abs();
                // What lies below 2⁻¹⁶ of a step cannot be told apart.
                assert!(bias <= step / 65536.0, "{storage:?} {value:e}: bias {bias:e} of a step {step:e}");
                assert!(
                    storage.decode(storage.encode(value, 0)).abs() <= value.abs(),
                    "{storage:?} {value:e}"
                );
            }
        }
    }

    #[test]
    fn beyond_the_largest_is_the_largest() {
        for (storage, largest) in
            [(Storage::F16, 65504.0), (Storage::Bf16, 3.389_531_4e38), (Storage::Fp8, 448.0)]
        {
            for value in [largest, largest * 1.003_8, f32::MAX] {
                for random in [0, u16::MAX] {
                    assert_eq!(
                        storage.decode(storage.encode(value, random)),
                        largest,
                        "{storage:?} {value:e}"
                    );
                    assert_eq!(storage.decode(storage.encode(-value, random)), -largest);
                }
                assert_eq!(storage.decode(storage.nearest(value)), largest);
            }
            for value in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
                assert!(storage.decode(storage.encode(value, 77)).is_nan());
                assert!(storage.decode(storage.nearest(value)).is_nan());
            }
        }
    }

    #[test]
    fn rows_and_single_numbers_agree() {
        let values: Vec<f32> = (0..37).map(|i| (i as f32 - 17.0) * 0.37).collect();
        for storage in Storage::ALL {
            let precision = Precision { weights: storage, moments: Storage::F32 };
            let words_in_row = precision.weight_words(37);
            let random: Vec<u16> = (0..37).map(|i| i * 1771).collect();
            let mut row = vec![0; words_in_row];
            storage.encode_row(&values, &random, &mut row);
            let mut again = vec![0.0; 37];
            storage.decode_row(&row, &mut again);
            let mut put = vec![0; words_in_row];
            for place in 0..37 {
                assert_eq!(storage.get(&row, place), again[place]);
                storage.put(&mut put, place, storage.encode(values[place], random[place]));
            }
            assert_eq!(put, row);
            assert_eq!(storage.unpack(&storage.pack(&values, 37, words_in_row), 37, words_in_row).len(), 37);
        }
    }

    #[test]
    fn random_bits_are_those_of_the_generator() {
        let mut bits = vec![0; 300];
        Rounding::new(0x0123_4567_89ab_cdef, 9).row(2, 5, &mut bits);
        for (slot, bits) in bits.iter().enumerate() {
            let block = 5 * 38 + slot as u32 / 8;
            let words = words(0x0123_4567_89ab_cdef, Purpose::Rounding, 9, block, 2);
            assert_eq!(u32::from(*bits), words[slot % 8 / 2] >> (slot % 2 * 16) & 0xffff);
        }
    }
}
