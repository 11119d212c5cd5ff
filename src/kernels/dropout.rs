//! Dropout as the kernels share it: which elements go, and the factor of those that stay. The shaders' side is
//! `shaders/shared/dropout.wgsl`.

use crate::random::Purpose;

/// Which elements a dropout keeps: a function of the seed, the step, the stream and the element's number.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Share of the elements that become zero, in [0, 1).
    pub probability: f32,
    /// Seed of the run.
    pub seed: u64,
    /// Optimizer step, from 0.
    pub step: u32,
    /// Sub-index of the generator: a number of its own for every place of a model that drops. 0 is the features'.
    pub stream: u32,
}

impl Dropout {
    /// No dropout, as in evaluation.
    pub const OFF: Self = Self { probability: 0.0, seed: 0, step: 0, stream: 0 };

    /// What the kernels get of it.
    pub(super) fn params(self) -> PaddedMask {
        PaddedMask { mask: self.mask(), unused: [0; 2] }
    }

    pub(super) fn mask(self) -> Mask {
        Mask {
            drop_below: (f64::from(self.probability) * 4_294_967_296.0) as u32,
            scale: (1.0 / (1.0 - f64::from(self.probability))) as f32,
            step: self.step,
            stream: self.stream,
            seed_low: self.seed as u32,
            seed_high: (self.seed >> 32) as u32,
        }
    }
}

/// `struct Dropout` of the shaders.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Mask {
    /// A word below this drops; 0: no dropout.
    pub(super) drop_below: u32,
    /// 1 / (1 − p).
    pub(super) scale: f32,
    pub(super) step: u32,
    pub(super) stream: u32,
    pub(super) seed_low: u32,
    pub(super) seed_high: u32,
}

/// [`Mask`] as the first field of a kernel's parameters: in a uniform buffer, what follows a struct begins at a
/// multiple of 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct PaddedMask {
    pub(super) mask: Mask,
    unused: [u32; 2],
}

/// Counters of the generator that are advanced together.
const COUNTERS: usize = 16;

/// Words that come of [`COUNTERS`] counters.
pub(super) const RUN: usize = COUNTERS * 4;

impl Mask {
    /// What the element is multiplied by that `word` was drawn for.
    #[inline(always)]
    pub(super) fn factor(&self, word: u32) -> f32 {
        if word < self.drop_below { 0.0 } else { self.scale }
    }

    /// The words of [`COUNTERS`] consecutive indices, in order: [`crate::random::words`] of `index`, of `index` + 1, …
    ///
    /// A word lives in 64 bits whose upper half is rubbish: the vector instruction that multiplies two words looks at
    /// the lower halves alone, so that nothing need be shuffled between the rounds.
    #[inline(always)]
    pub(super) fn run_of_words(&self, index: u32) -> [u32; RUN] {
        const LOW: u64 = 0xffff_ffff;
        let [mut c0, mut c1, mut c2, mut c3] = [
            [0; COUNTERS],
            [u64::from(self.stream); COUNTERS],
            [u64::from(self.step); COUNTERS],
            [u64::from(Purpose::Dropout as u32); COUNTERS],
        ];
        for (i, c0) in c0.iter_mut().enumerate() {
            *c0 = u64::from(index) + i as u64;
        }
        let (mut k0, mut k1) = (self.seed_low, self.seed_high);
        for _ in 0..10 {
            for i in 0..COUNTERS {
                let p0 = (c0[i] & LOW) * 0xD251_1F53;
                let p1 = (c2[i] & LOW) * 0xCD9E_8D57;
                (c0[i], c1[i]) = ((p1 >> 32) ^ c1[i] ^ u64::from(k0), p1);
                (c2[i], c3[i]) = ((p0 >> 32) ^ c3[i] ^ u64::from(k1), p0);
            }
            k0 = k0.wrapping_add(0x9E37_79B9);
            k1 = k1.wrapping_add(0xBB67_AE85);
        }
        let mut words = [0; RUN];
        for i in 0..COUNTERS {
            words[4 * i] = c0[i] as u32;
            words[4 * i + 1] = c1[i] as u32;
            words[4 * i + 2] = c2[i] as u32;
            words[4 * i + 3] = c3[i] as u32;
        }
        words
    }

    /// `out` = `x` after dropout; `first` is the number of the first element. Slices of equal length.
    #[inline(always)]
    pub(super) fn drop_into(&self, first: u32, x: &[f32], out: &mut [f32]) {
        if self.drop_below == 0 {
            out.copy_from_slice(x);
            return;
        }
        let Self { drop_below, scale, .. } = *self;
        let mut place = 0;
        while place < out.len() {
            let number = first.wrapping_add(place as u32);
            // The very first element may be in the middle of a counter's four.
            let skip = (number % 4) as usize;
            let words = self.run_of_words(number / 4);
            let count = (RUN - skip).min(out.len() - place);
            let (x, out) = (&x[place..place + count], &mut out[place..place + count]);
            let words = &words[skip..skip + count];
            for i in 0..count {
                out[i] = if words[i] < drop_below { 0.0 } else { x[i] * scale };
            }
            place += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{COUNTERS, Dropout};
    use crate::random::{Purpose, words};

    #[test]
    fn runs_of_words_are_the_generators() {
        let dropout = Dropout { probability: 0.1, seed: 0x1234_5678_9abc_def0, step: 5, stream: 9 };
        // The last: the index goes round.
        for index in [0, 7, 1 << 30, u32::MAX - 3] {
            let run = dropout.mask().run_of_words(index);
            for (i, got) in run.chunks(4).enumerate() {
                let index = index.wrapping_add(i as u32);
                assert_eq!(got, words(dropout.seed, Purpose::Dropout, 5, index, 9), "{i} of {COUNTERS}");
            }
        }
    }
}
