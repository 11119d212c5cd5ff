//! A run of a block's labels, as the launches of a step take it.

use super::block::{Inverted, LabelBlock};
use crate::device::{Buffer, Slice};
use crate::kernels::fan_in_dlogits::Block;

/// `count` rows of `words` words from row `first` on.
pub(super) fn rows_of(buffer: &Buffer, first: usize, count: usize, words: usize) -> Slice {
    buffer.range((first * words * 4) as u64, (count * words * 4) as u64)
}

/// A run of a block's labels.
pub(super) struct Chunk<'a> {
    pub(super) block: &'a LabelBlock,
    /// Its first label in the block.
    pub(super) first: usize,
    pub(super) shape: Block,
}

impl<'a> Chunk<'a> {
    pub(super) fn new(block: &'a LabelBlock, first: usize, rows: usize, batch: usize) -> Self {
        let rows = rows.min(block.shape.rows - first);
        let shape = Block { rows, first_label: block.shape.first_label + first, batch, ..block.shape };
        Self { block, first, shape }
    }

    pub(super) fn indices(&self) -> Slice {
        let first = self.first / self.shape.group;
        rows_of(&self.block.indices, first, self.shape.index_rows(), self.shape.index_words())
    }

    /// Weights, biases and the states of both, whatever of them there is.
    pub(super) fn changed(&self) -> [Slice; 6] {
        let LabelBlock { weights, bias, first, second, bias_first, bias_second, .. } = self.block;
        let rows = |buffer: &Buffer, words: usize| {
            // What stands for a state that the rule does not have is less than a row for each label.
            let has = buffer.bytes() >= (self.block.shape.rows * words * 4) as u64;
            if has { rows_of(buffer, self.first, self.shape.rows, words) } else { buffer.whole() }
        };
        let (weight_words, moment_words) = (self.shape.weight_words(), self.shape.moment_words());
        [
            rows(weights, weight_words),
            rows(bias, 1),
            rows(first, moment_words),
            rows(second, moment_words),
            rows(bias_first, 1),
            rows(bias_second, 1),
        ]
    }

    /// The chunk's rows of offsets and its lists of connections in an index whose first label is label `begin` of the block.
    pub(super) fn lists(&self, index: &Inverted, begin: usize) -> [Slice; 2] {
        let (lists, first) = (index.windows.lists, self.first - begin);
        // Runs of labels that begin where lists do begin with whole words.
        let words = |index_rows: usize| lists.words(index_rows * self.shape.fan_in);
        let group = self.shape.group;
        [
            rows_of(&index.offsets, first / lists.rows, lists.of(self.shape.rows), lists.offset_words),
            rows_of(&index.connections, words(first / group), words(self.shape.index_rows()), 1),
        ]
    }
}
