//! Optimizer states and rows of weights in f32 while a step works on them.

use super::{Rounding, Storage};

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
