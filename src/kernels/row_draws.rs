//! The numbers that are drawn for a row of indices, in which pruned connections grow again.

use super::storage::Strata;
use super::vector::{DRAWN, philox_of};
use crate::random::{below, philox};

/// After so many draws the next free index is taken.
pub(super) const MAX_DRAWS: u32 = 32;

/// Sub-indices of the generator that belong to a slot.
pub(super) const SUBS: u32 = MAX_DRAWS / 4 + 1;

/// The numbers that are drawn for one row of indices.
#[derive(Clone, Copy)]
pub(super) struct RowDraws {
    /// Number of the row in the layer.
    pub(super) index_row: u32,
    pub(super) step: u32,
    pub(super) purpose: u32,
    pub(super) seed: [u32; 2],
}

impl RowDraws {
    fn words(self, sub: u32) -> [u32; 4] {
        philox([self.index_row, sub, self.step, self.purpose], self.seed)
    }

    /// The `i`-th index drawn for a slot.
    pub(super) fn index(self, slot: u32, i: u32, features: u32) -> u32 {
        below(self.words(slot * SUBS + i / 4)[i as usize % 4], features)
    }

    /// The words of many sub-indices at once.
    #[inline(always)]
    pub(super) fn batch(self, sub: [u32; DRAWN], words: &mut [u32; 4 * DRAWN]) {
        philox_of([self.index_row; DRAWN], sub, [self.step, self.purpose], self.seed, words);
    }
}

/// The features that a slot may take: `count` from `first` on, without the one at place `barred`.
#[derive(Clone, Copy)]
pub(super) struct Choices {
    first: u32,
    barred: u32,
    pub(super) count: u32,
}

impl Choices {
    /// Any of `features`.
    pub(super) fn all(features: u32) -> Self {
        Self { first: 0, barred: u32::MAX, count: features }
    }

    /// Those of a slot's stratum, but the slot's own if it has one.
    pub(super) fn of_stratum(strata: Strata, slot: u32, own: Option<usize>) -> Self {
        let stratum = strata.of(slot as usize);
        let (first, size) = (stratum.start as u32, stratum.len() as u32);
        match own {
            None => Self { first, barred: u32::MAX, count: size },
            Some(own) => Self { first, barred: own as u32 - first, count: size - 1 },
        }
    }

    pub(super) fn feature(self, place: u32) -> u32 {
        self.first + place + u32::from(place >= self.barred)
    }
}
