//! Random bits for roundings.

use crate::kernels::vector::{DRAWN, philox};
use crate::random::Purpose;

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
    pub(super) fn blocks(self, tensor: u32, mut first: u32, bits: &mut [u16]) {
        let more: [u32; DRAWN] = std::array::from_fn(|i| i as u32);
        let rest = [tensor, self.step, Purpose::Rounding as u32];
        let mut words = [0; 4 * DRAWN];
        for bits in bits.chunks_mut(8 * DRAWN) {
            philox(first, &more, rest, self.seed, &mut words);
            let (pairs, odd) = bits.as_chunks_mut::<2>();
            pairs
                .iter_mut()
                .zip(&words)
                .for_each(|(pair, word)| *pair = [*word as u16, (*word >> 16) as u16]);
            odd.iter_mut().for_each(|last| *last = words[pairs.len()] as u16);
            first = first.wrapping_add(DRAWN as u32);
        }
    }
}
