//! Where the slots of a row of indices may point, and how such a row is stored. The twin of `shaders/shared/fan_in.wgsl`.

use std::ops::Range;

/// Features that an offset of 8 bits tells apart.
const OFFSETS: usize = 256;

/// To which features the slots of a row may point; it decides how the row is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Indices {
    /// To any, no two slots of a row to the same: features in 16 bits.
    #[default]
    Free,
    /// Slot f of F to those of the f-th of F [`Strata`]: offsets within the stratum in 8 bits where none has more than 256
    /// features, else features in 16 bits.
    Stratified {
        /// Features that are cut into strata, D.
        features: usize,
    },
}

impl Indices {
    /// The strata of rows of `fan_in` slots.
    #[must_use]
    pub fn strata(self, fan_in: usize) -> Option<Strata> {
        match self {
            Self::Free => None,
            Self::Stratified { features } => Some(Strata::new(features, fan_in)),
        }
    }

    /// How rows of `fan_in` indices are stored.
    #[must_use]
    pub fn rows(self, fan_in: usize) -> IndexRows {
        IndexRows { fan_in, offsets: self.strata(fan_in).filter(|strata| strata.widest() <= OFFSETS) }
    }

    /// What is wrong with rows of `fan_in` indices, of which the first is row `first_row`, if a slot points to where it may
    /// not. Free rows may hold anything.
    #[must_use]
    pub fn misplaced(self, fan_in: usize, first_row: usize, indices: &[u16]) -> Option<String> {
        let strata = self.strata(fan_in)?;
        let (row, slot, index) = indices.chunks_exact(fan_in).enumerate().find_map(|(row, indices)| {
            let outside = |(slot, index): &(usize, &u16)| !strata.of(*slot).contains(&usize::from(**index));
            indices.iter().enumerate().find(outside).map(|(slot, index)| (row, slot, *index))
        })?;
        let Range { start, end } = strata.of(slot);
        let row = first_row + row;
        Some(format!("row {row}, slot {slot} holds {index}, outside the slot's stratum {start}..{end}"))
    }
}

/// F strata of D features, as equal as integers allow: stratum f begins at ⌊f · D / F⌋ and ends before the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strata {
    features: usize,
    slots: usize,
}

impl Strata {
    /// One for each of `slots` slots, at most as many as there are features.
    #[must_use]
    pub fn new(features: usize, slots: usize) -> Self {
        Self { features, slots }
    }

    /// The first feature of a slot's stratum.
    #[inline(always)]
    #[must_use]
    pub fn start(self, slot: usize) -> usize {
        (slot as u64 * self.features as u64 / self.slots as u64) as usize
    }

    /// The features of a slot's stratum.
    #[must_use]
    pub fn of(self, slot: usize) -> Range<usize> {
        self.start(slot)..self.start(slot + 1)
    }

    /// Features of the widest stratum.
    #[must_use]
    pub fn widest(self) -> usize {
        self.features.div_ceil(self.slots)
    }
}

/// How a layer's rows of indices lie in words, each row from a word on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexRows {
    fan_in: usize,
    /// Where codes are offsets of 8 bits: the strata within which; else they are features in 16 bits.
    offsets: Option<Strata>,
}

impl IndexRows {
    /// Indices in a word of 32 bits.
    #[must_use]
    pub fn per_word(self) -> usize {
        if self.offsets.is_some() { 4 } else { 2 }
    }

    /// Words in a row.
    #[must_use]
    pub fn words(self) -> usize {
        self.fan_in.div_ceil(self.per_word())
    }

    /// The shader's constants.
    pub(crate) fn constants(self) -> [(&'static str, u32); 2] {
        let features = self.offsets.map_or(0, |strata| strata.features as u32);
        let strata = self.offsets.map_or(1, |strata| strata.slots as u32);
        [("STRATIFIED_FEATURES", features), ("STRATA", strata)]
    }

    /// The rows that a launch with the constant `STRATIFIED_FEATURES` is about.
    pub(crate) fn from_constant(features: u32, fan_in: usize) -> Self {
        Self { fan_in, offsets: (features > 0).then(|| Strata::new(features as usize, fan_in)) }
    }

    /// Constants of the variants that there are shaders for, whatever the sizes.
    pub(crate) fn variants() -> [Self; 2] {
        [0, 768].map(|features| Self::from_constant(features, 32))
    }

    /// The index in a slot of a row of words.
    #[inline(always)]
    pub(crate) fn get(self, row: &[u32], slot: usize) -> usize {
        match self.offsets {
            None => (row[slot / 2] >> (slot % 2 * 16) & 0xffff) as usize,
            Some(strata) => strata.start(slot) + (row[slot / 4] >> (slot % 4 * 8) & 0xff) as usize,
        }
    }

    /// Puts an index into a slot of a row of words.
    #[inline(always)]
    pub(crate) fn put(self, row: &mut [u32], slot: usize, index: usize) {
        match self.offsets {
            None => bytemuck::cast_slice_mut::<u32, u16>(row)[slot] = index as u16,
            Some(strata) => {
                bytemuck::cast_slice_mut::<u32, u8>(row)[slot] = (index - strata.start(slot)) as u8;
            }
        }
    }

    /// Rows of indices in words, the end of each row zero. Every index lies in its slot's stratum.
    #[must_use]
    pub fn pack(self, indices: &[u16]) -> Vec<u32> {
        let mut out = vec![0; indices.len() / self.fan_in * self.words()];
        for (indices, row) in indices.chunks_exact(self.fan_in).zip(out.chunks_exact_mut(self.words())) {
            indices.iter().enumerate().for_each(|(slot, index)| self.put(row, slot, usize::from(*index)));
        }
        out
    }

    /// The indices of rows of words, without what fills the words up.
    #[must_use]
    pub fn unpack(self, words: &[u32]) -> Vec<u16> {
        let slots = |row| (0..self.fan_in).map(move |slot| self.get(row, slot) as u16);
        words.chunks_exact(self.words()).flat_map(slots).collect()
    }
}

/// Reads row after row as features.
pub(crate) struct IndexReader {
    rows: IndexRows,
    /// Where each slot's stratum begins; empty where rows are features already.
    starts: Vec<u16>,
    opened: Vec<u16>,
}

impl IndexReader {
    pub(crate) fn new(rows: IndexRows) -> Self {
        let starts: Vec<u16> = rows
            .offsets
            .map_or_else(Vec::new, |strata| (0..rows.fan_in).map(|slot| strata.start(slot) as u16).collect());
        Self { rows, opened: starts.clone(), starts }
    }

    /// The features of a row of `stored`, \[F\].
    #[inline(always)]
    pub(crate) fn row<'a>(&'a mut self, stored: &'a [u32], row: usize) -> &'a [u16] {
        let words = self.rows.words();
        let words = &stored[row * words..][..words];
        if self.starts.is_empty() {
            return &bytemuck::cast_slice(words)[..self.rows.fan_in];
        }
        let offsets: &[u8] = bytemuck::cast_slice(words);
        for ((index, start), offset) in self.opened.iter_mut().zip(&self.starts).zip(offsets) {
            *index = start + u16::from(*offset);
        }
        &self.opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: 10 features in 4 strata begin at 0, 2.5, 5, 7.5.
    #[test]
    fn strata_are_as_equal_as_integers_allow() {
        let strata = Strata { features: 10, slots: 4 };
        assert_eq!([0, 1, 2, 3].map(|slot| strata.of(slot)), [0..2, 2..5, 5..7, 7..10]);
        assert_eq!(strata.widest(), 3);
        for (features, slots) in [(1, 1), (7, 7), (768, 32), (65_536, 65_536), (65_536, 3), (1000, 999)] {
            let strata = Strata { features, slots };
            let sizes: Vec<usize> = (0..slots).map(|slot| strata.of(slot).len()).collect();
            assert_eq!(sizes.iter().sum::<usize>(), features);
            assert_eq!(strata.of(slots - 1).end, features);
            assert!(sizes.iter().all(|size| *size >= features / slots));
            assert_eq!(sizes.iter().max(), Some(&strata.widest()), "{features} in {slots}");
        }
    }

    #[test]
    fn offsets_of_narrow_strata_take_a_byte() {
        let of = |features, fan_in| Indices::Stratified { features }.rows(fan_in);
        assert_eq!([of(768, 3).per_word(), of(769, 3).per_word()], [4, 2]);
        assert_eq!(
            [of(768, 33).words(), of(65_536, 33).words(), Indices::Free.rows(33).words()],
            [9, 17, 17]
        );
    }

    #[test]
    fn rows_are_read_as_they_were_packed() {
        for (features, fan_in) in [(3, 3), (10, 4), (600, 5), (65_536, 256), (65_536, 7)] {
            let stratified = Indices::Stratified { features };
            let strata = stratified.strata(fan_in).unwrap();
            // The first, the last, and one between, of each stratum.
            let of_slot = |slot: usize| {
                let Range { start, end } = strata.of(slot);
                [start, (start + end) / 2, end - 1].map(|index| index as u16)
            };
            let indices: Vec<u16> =
                (0..3).flat_map(|row| (0..fan_in).map(move |slot| of_slot(slot)[row])).collect();
            assert_eq!(stratified.misplaced(fan_in, 0, &indices), None);
            for rows in [stratified.rows(fan_in), Indices::Free.rows(fan_in)] {
                let packed = rows.pack(&indices);
                assert_eq!(packed.len(), 3 * rows.words());
                assert_eq!(rows.unpack(&packed), indices, "{rows:?}");
                let mut reader = IndexReader::new(rows);
                for (row, indices) in indices.chunks(fan_in).enumerate() {
                    assert_eq!(reader.row(&packed, row), indices, "{rows:?}");
                }
            }
        }
    }

    /// Little-endian by hand: strata of 10 in 4 begin at 0, 2, 5, 7.
    #[test]
    fn offsets_lie_in_bytes() {
        let rows = Indices::Stratified { features: 10 }.rows(4);
        assert_eq!(rows.pack(&[1, 4, 5, 9]), [0x0200_0201]);
        assert_eq!(Indices::Free.rows(3).pack(&[1, 4, 5]), [0x0004_0001, 5]);
    }

    #[test]
    fn what_lies_outside_its_stratum_is_told() {
        let stratified = Indices::Stratified { features: 10 };
        assert_eq!(
            stratified.misplaced(4, 7, &[0, 2, 5, 7, 0, 5, 5, 7]).unwrap(),
            "row 8, slot 1 holds 5, outside the slot's stratum 2..5"
        );
        assert_eq!(Indices::Free.misplaced(4, 0, &[9, 9, 9, 9]), None);
    }
}
