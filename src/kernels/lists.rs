//! How the lists of a layer's connections lie by which its features' gradient is gathered: the inverted indices of runs of
//! labels, feature → connections.

/// Inverted indices of a run of labels, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lists {
    /// Labels of an index, a multiple of the group; the last index may have fewer.
    pub rows: usize,
    /// Words from the offsets of an index to those of the next, at least D + 1.
    pub offset_words: usize,
    /// Connections in 16 bits instead of 32. A connection is its row of indices, from the first of its index on, above the bits
    /// of its slot.
    pub narrow: bool,
}

impl Lists {
    /// Bits of a narrow connection.
    const NARROW_BITS: u32 = 16;

    /// Indices of `rows` labels.
    #[must_use]
    pub fn of(&self, rows: usize) -> usize {
        rows.div_ceil(self.rows)
    }

    /// The bits of a slot.
    #[must_use]
    pub fn slot_bits(&self, fan_in: usize) -> u32 {
        if self.narrow { bits_of_slots(fan_in) } else { 16 }
    }

    /// Words of the lists of so many connections.
    #[must_use]
    pub fn words(&self, connections: usize) -> usize {
        if self.narrow { connections.div_ceil(2) } else { connections }
    }

    /// Most rows of indices in an index whose connections take 16 bits, a power of two; none, if a row does not fit.
    #[must_use]
    pub fn narrow_index_rows(fan_in: usize) -> usize {
        1 << Self::NARROW_BITS >> bits_of_slots(fan_in)
    }
}

/// Bits that tell `fan_in` slots apart.
fn bits_of_slots(fan_in: usize) -> u32 {
    fan_in.next_power_of_two().trailing_zeros()
}

/// How a run of labels is cut into windows: the features' gradient of a window is a sum of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Labels of a window, a multiple of the group; the last window may have fewer.
    pub rows: usize,
    /// Their lists, of which a window has whole indices.
    pub lists: Lists,
}

impl Windows {
    /// Windows of `rows` labels, each with an inverted index of its own.
    #[must_use]
    pub fn with_an_index_each(rows: usize, offset_words: usize) -> Self {
        Self { rows, lists: Lists { rows, offset_words, narrow: false } }
    }

    /// Windows of a run of `rows` labels.
    #[must_use]
    pub fn of(&self, rows: usize) -> usize {
        rows.div_ceil(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_slots_of_a_narrow_connection_fill_16_bits() {
        for (fan_in, bits, rows) in
            [(1, 0, 65_536), (2, 1, 32_768), (32, 5, 2048), (33, 6, 1024), (128, 7, 512)]
        {
            let lists = Lists { rows, offset_words: 0, narrow: true };
            assert_eq!((lists.slot_bits(fan_in), Lists::narrow_index_rows(fan_in)), (bits, rows));
            assert!((rows - 1) << bits | (fan_in - 1) < 1 << 16);
            assert_eq!([lists.words(5), Lists { narrow: false, ..lists }.words(5)], [3, 5]);
        }
    }
}
