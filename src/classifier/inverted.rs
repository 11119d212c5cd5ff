//! The inverted index of a layer that is launched part by part: kept, or rebuilt in every step.

use super::block::{Inverted, LabelBlock};
use super::chunk::{Chunk, rows_of};
use super::cut::Cut;
use super::options::FanInOptions;
use crate::device::{Buffer, Device, Recording, Slice};
use crate::error::Result;
use crate::kernels::Fetch;
use crate::kernels::fan_in_dlogits::Block;
use crate::kernels::inverted_index::{MAX_TABLE, Sort};
use crate::kernels::inverted_index_pack;
use crate::kernels::lists::Lists;

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
        let sort = Sort { block, features: options.features, lists: cut.windows.lists, fetch };
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
            let of_run = run.lists(&self.index, chunk.first);
            record(recording, &run, self.index.windows.lists, of_run, &self.table, (features, self.fetch));
        }
    }
}

/// Most connections whose lists are made in 32 bits at once before they are packed: on a real GPU enough for its lanes.
const PACKED_AT_ONCE: usize = 4 << 20;
const PACKED_AT_ONCE_IN_SOFTWARE: usize = 1 << 20;

/// Scratch of building what blocks keep, for the first block, which is the largest.
struct Scratch {
    /// Labels of a run, whole indices.
    rows: usize,
    /// Counts, [indices, table words].
    table: Buffer,
    /// Lists of a run in 32 bits, where blocks keep narrow ones.
    wide: Option<Buffer>,
}

impl Scratch {
    fn allocate(device: &Device, sort: &Sort) -> Result<Self> {
        let Sort { block, lists, .. } = *sort;
        let of_rows = |rows: usize| rows.div_ceil(block.group) * block.fan_in;
        let mut at_once = MAX_TABLE / sort.table_words();
        if lists.narrow {
            let software = sort.fetch != Fetch::Cheap;
            let most = if software { PACKED_AT_ONCE_IN_SOFTWARE } else { PACKED_AT_ONCE };
            at_once = at_once.min(most / of_rows(lists.rows));
        }
        let at_once = at_once.clamp(1, lists.of(block.rows));
        let rows = at_once * lists.rows;
        let table = device.allocate("inverted index counts", (at_once * sort.table_words() * 4) as u64)?;
        let wide = (of_rows(rows.min(block.rows)) * 4) as u64;
        let wide = lists.narrow.then(|| device.allocate("inverted index in 32 bits", wide)).transpose()?;
        Ok(Self { rows, table, wide })
    }
}

/// Builds the inverted indices that blocks keep.
pub(super) fn build(device: &Device, blocks: &[LabelBlock], features: usize, fetch: Fetch) -> Result<()> {
    let mut recording = Recording::new();
    let mut scratch = None;
    for block in blocks {
        let Some(index) = &block.inverted else { continue };
        let lists = index.windows.lists;
        let scratch = match &mut scratch {
            Some(scratch) => scratch,
            None => {
                let sort = Sort { block: block.shape, features, lists, fetch };
                scratch.insert(Scratch::allocate(device, &sort)?)
            }
        };
        for first in (0..block.shape.rows).step_by(scratch.rows) {
            let run = Chunk::new(block, first, scratch.rows, 0);
            let [offsets, connections] = run.lists(index, 0);
            let count = run.shape.index_rows() * run.shape.fan_in;
            let wide = scratch.wide.as_ref().map(|wide| wide.whole().front((count * 4) as u64));
            let made = wide.as_ref().unwrap_or(&connections).clone();
            record(&mut recording, &run, lists, [offsets, made], &scratch.table, (features, fetch));
            if let Some(wide) = wide {
                let fan_in = run.shape.fan_in;
                recording.launch(inverted_index_pack::launch(lists, fan_in, count, &wide, &connections));
            }
        }
    }
    device.submit(recording)
}

/// Records the indices of a run of labels, whose lists are made in 32 bits.
fn record(
    recording: &mut Recording,
    run: &Chunk<'_>,
    lists: Lists,
    [offsets, connections]: [Slice; 2],
    table: &Buffer,
    (features, fetch): (usize, Fetch),
) {
    let sort = Sort { block: run.shape, features, lists, fetch };
    let table = rows_of(table, 0, 1, sort.table_len());
    sort.record(recording, [&run.indices(), &table, &offsets, &connections]);
}
