//! The inverted index of a layer that is launched part by part: kept, or rebuilt in every step.

use super::block::{Inverted, LabelBlock};
use super::chunk::{Chunk, rows_of};
use super::cut::Cut;
use super::options::FanInOptions;
use crate::device::{Buffer, Device, Recording};
use crate::error::Result;
use crate::kernels::Fetch;
use crate::kernels::fan_in_dlogits::Block;
use crate::kernels::inverted_index::{MAX_TABLE, Sort};

/// An index that is rebuilt in every step, for a run of labels at a time.
pub(super) struct Rebuilt {
    /// That of the run.
    pub(super) index: Inverted,
    /// Counts, [windows, table words].
    table: Buffer,
    /// Labels of a run, whole chunks.
    rows: usize,
    fetch: Fetch,
}

impl Rebuilt {
    /// For blocks of up to `largest.rows` labels; none where the index is kept, or rows need none.
    pub(super) fn allocate(
        device: &Device,
        cut: Cut,
        largest: Block,
        options: &FanInOptions,
    ) -> Result<Option<Self>> {
        let Some(rows) = cut.rebuilt_rows else { return Ok(None) };
        let (block, fetch) = (Block { rows: rows.min(largest.rows), ..largest }, options.fetch(device));
        let sort = Sort { block, features: options.features, windows: cut.windows, fetch };
        Ok(Some(Self {
            index: Inverted::allocate(device, "rebuilt inverted index", block, cut.windows)?,
            table: device.allocate("rebuilt inverted index counts", (sort.table_len() * 4) as u64)?,
            rows,
            fetch,
        }))
    }

    /// The first label of the run whose index is here when a chunk takes its step.
    pub(super) fn begin_of(&self, chunk: &Chunk<'_>) -> usize {
        chunk.first / self.rows * self.rows
    }

    /// Records, before the first chunk of a run, the index of the run.
    pub(super) fn record_before(&self, recording: &mut Recording, chunk: &Chunk<'_>, features: usize) {
        if chunk.first == self.begin_of(chunk) {
            let run = Chunk::new(chunk.block, chunk.first, self.rows, 0);
            record(recording, &run, (&self.index, chunk.first), &self.table, (features, self.fetch));
        }
    }
}

/// Builds the inverted indices that blocks keep.
pub(super) fn build(device: &Device, blocks: &[LabelBlock], features: usize, fetch: Fetch) -> Result<()> {
    let mut recording = Recording::new();
    // For the first block, which is the largest.
    let mut scratch = None;
    for block in blocks {
        let Some(index) = &block.inverted else { continue };
        let sort = Sort { block: block.shape, features, windows: index.windows, fetch };
        let at_once = (MAX_TABLE / sort.table_words()).clamp(1, index.windows.of(block.shape.rows));
        let table = match &scratch {
            Some(table) => table,
            None => {
                let bytes = at_once * sort.table_words() * 4;
                scratch.insert(device.allocate("inverted index counts", bytes as u64)?)
            }
        };
        let rows = at_once * index.windows.rows;
        for first in (0..block.shape.rows).step_by(rows) {
            record(&mut recording, &Chunk::new(block, first, rows, 0), (index, 0), table, (features, fetch));
        }
    }
    device.submit(recording)
}

/// Records the index of a run of labels, in `index`, whose first label is label `begin` of the block.
fn record(
    recording: &mut Recording,
    run: &Chunk<'_>,
    (index, begin): (&Inverted, usize),
    table: &Buffer,
    (features, fetch): (usize, Fetch),
) {
    let sort = Sort { block: run.shape, features, windows: index.windows, fetch };
    let table = rows_of(table, 0, 1, sort.table_len());
    let [offsets, connections] = run.lists(index, begin);
    sort.record(recording, [&run.indices(), &table, &offsets, &connections]);
}
