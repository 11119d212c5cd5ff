//! The inverted indices of windows of labels, feature → its connections in ascending order, by a counting sort in five
//! launches: see `shaders/inverted_index_*.wgsl`. Only the GPU's feature gradient reads them.

use super::fan_in_dlogits::Block;
use super::lists::Lists;
use super::{Fetch, WORKGROUP, index_words};
use crate::device::{Access, Kernel, Launch, Recording, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    fan_in: u32,
    index_words: u32,
    features: u32,
    windows: u32,
    window_rows: u32,
    parts: u32,
    part_rows: u32,
    table_words: u32,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct ScanParams {
    features: u32,
    windows: u32,
    parts: u32,
    table_words: u32,
    offset_words: u32,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct OffsetsParams {
    features: u32,
    windows: u32,
    offset_words: u32,
}

/// How often each feature occurs in each part of a window.
pub static COUNT: Kernel = Kernel {
    name: "inverted_index_count",
    source: include_str!("../../shaders/inverted_index_count.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin: count_twin,
    variants: || WORKGROUPS.map(|size| vec![("WORKGROUP", size)]).to_vec(),
};

/// How many entries each feature has, or where each part's entries begin.
pub static SCAN: Kernel = Kernel {
    name: "inverted_index_scan",
    source: include_str!("../../shaders/inverted_index_scan.wgsl"),
    bindings: &[Access::Write, Access::Write],
    twin: scan_twin,
    variants: || {
        let of = |starts| WORKGROUPS.map(|size| vec![("STARTS", starts), ("WORKGROUP", size)]);
        [0, 1].map(of).concat()
    },
};

/// Where each feature's list begins.
pub static OFFSETS: Kernel = Kernel {
    name: "inverted_index_offsets",
    source: include_str!("../../shaders/inverted_index_offsets.wgsl"),
    bindings: &[Access::Write],
    twin: offsets_twin,
    variants: || WORKGROUPS.map(|size| vec![("WORKGROUP", size)]).to_vec(),
};

/// Every connection into its feature's list.
pub static SCATTER: Kernel = Kernel {
    name: "inverted_index_scatter",
    source: include_str!("../../shaders/inverted_index_scatter.wgsl"),
    bindings: &[Access::Read, Access::Write, Access::Write],
    twin: scatter_twin,
    variants: || WORKGROUPS.map(|size| vec![("WORKGROUP", size)]).to_vec(),
};

/// Most rows of indices in a window: a connection is (row << 16 | slot).
pub const MAX_INDEX_ROWS: usize = 1 << 16;

/// Connections of a part: enough for a lane, or, where lanes are dear, so many for each feature that counting them is more
/// work than going through the counts. The largest, in rows of one connection, take a lane half of the rounds that software
/// Vulkan computes.
const CHEAP_PART: usize = 1024;
const DEAR_PART_OF_A_FEATURE: usize = 8;
const LARGEST_PART: usize = 16_384;
/// Most words in a window's table, of which each part takes one for each feature, unless one part takes more.
pub const MAX_TABLE: usize = 4 << 20;
/// A window's table begins at a multiple of so many words, where slices may begin.
const TABLE_UNIT: usize = 64;
/// Lanes of a workgroup. On software Vulkan one is a thread's, and parts are few.
const WORKGROUPS: [u32; 2] = [8, WORKGROUP];

/// The connections of a run of labels, to be sorted by feature; labels of an index are a window here.
#[derive(Clone, Copy, Debug)]
pub struct Sort {
    /// The labels, with indices of 16 bits.
    pub block: Block,
    /// Features, D.
    pub features: usize,
    /// How the labels are cut; an index has at most [`MAX_INDEX_ROWS`] rows.
    pub lists: Lists,
    /// Where it is dear, lanes are few.
    pub fetch: Fetch,
}

impl Sort {
    /// Rows of indices in a window.
    fn window_rows(&self) -> usize {
        self.lists.rows.div_ceil(self.block.group)
    }

    /// Rows of indices in a part of a window.
    fn part_rows(&self) -> usize {
        let connections = match self.fetch {
            Fetch::Cheap => CHEAP_PART,
            _ => (self.features * DEAR_PART_OF_A_FEATURE).clamp(CHEAP_PART, LARGEST_PART),
        };
        let most_parts = (MAX_TABLE / self.features).max(1);
        connections.div_ceil(self.block.fan_in).max(self.window_rows().div_ceil(most_parts))
    }

    fn workgroup(&self) -> u32 {
        if self.fetch == Fetch::Cheap { WORKGROUP } else { WORKGROUPS[0] }
    }

    fn parts(&self) -> usize {
        self.window_rows().div_ceil(self.part_rows())
    }

    /// Words in a window's table.
    #[must_use]
    pub fn table_words(&self) -> usize {
        (self.parts() * self.features).next_multiple_of(TABLE_UNIT)
    }

    /// Words in the table of all windows.
    #[must_use]
    pub fn table_len(&self) -> usize {
        self.lists.of(self.block.rows) * self.table_words()
    }

    /// Records [`Sort::launches`]; `table` may hold anything.
    ///
    /// # Panics
    /// As they do.
    pub fn record(&self, recording: &mut Recording, bindings: [&Slice; 4]) {
        recording.clear(bindings[1].clone());
        self.launches(bindings).into_iter().for_each(|launch| recording.launch(launch));
    }

    /// Makes `offsets` [windows, offset words], where each feature's list begins and the last one ends, and the lists, wide
    /// ones whatever they are to be, `connections` [rows / group · F], each (row << 16 | slot) within its window, from `indices`
    /// [rows / group, index words].
    /// `table` [windows, table words] is scratch that holds zeros.
    ///
    /// # Panics
    /// When rows are stored as offsets, which nothing inverts.
    #[must_use]
    pub fn launches(&self, [indices, table, offsets, connections]: [&Slice; 4]) -> [Launch; 5] {
        let windows = self.lists.of(self.block.rows);
        let scan = ScanParams {
            features: self.features as u32,
            windows: windows as u32,
            parts: self.parts() as u32,
            table_words: self.table_words() as u32,
            offset_words: self.lists.offset_words as u32,
        };
        let of_offsets =
            OffsetsParams { features: scan.features, windows: scan.windows, offset_words: scan.offset_words };
        let of_scan = |starts| {
            let starts = [("STARTS", starts)];
            self.launch(&SCAN, &starts, &[table, offsets], words_of(&scan), windows * self.features)
        };
        [
            self.by_parts(&COUNT, &[indices, table]),
            of_scan(0),
            self.launch(&OFFSETS, &[], &[offsets], words_of(&of_offsets), windows),
            of_scan(1),
            self.by_parts(&SCATTER, &[indices, table, connections]),
        ]
    }

    /// A launch with a lane for each part.
    fn by_parts(&self, kernel: &'static Kernel, bindings: &[&Slice]) -> Launch {
        let Block { fan_in, .. } = self.block;
        assert_eq!(self.block.index_words(), index_words(fan_in), "indices of 16 bits");
        let windows = self.lists.of(self.block.rows);
        let params = Params {
            rows: self.block.index_rows() as u32,
            fan_in: fan_in as u32,
            index_words: index_words(fan_in) as u32,
            features: self.features as u32,
            windows: windows as u32,
            window_rows: self.window_rows() as u32,
            parts: self.parts() as u32,
            part_rows: self.part_rows() as u32,
            table_words: self.table_words() as u32,
        };
        self.launch(kernel, &[], bindings, words_of(&params), windows * self.parts())
    }

    fn launch(
        &self,
        kernel: &'static Kernel,
        constants: &[(&'static str, u32)],
        bindings: &[&Slice],
        params: Vec<u32>,
        lanes: usize,
    ) -> Launch {
        Launch {
            kernel,
            constants: [constants, &[("WORKGROUP", self.workgroup())]].concat(),
            bindings: bindings.iter().map(|slice| (*slice).clone()).collect(),
            params,
            workgroups: lanes.div_ceil(self.workgroup() as usize) as u32,
            work: (self.block.index_rows() * self.block.fan_in) as u64,
        }
    }
}

impl Params {
    /// For each connection of each part, in order: its place in the table, its window's first connection, and how it is
    /// written into its list.
    fn each(&self, indices: &[u16], mut take: impl FnMut(usize, usize, u32)) {
        for window in 0..self.windows {
            let first_row = window * self.window_rows;
            for row in first_row..(first_row + self.window_rows).min(self.rows) {
                let part = (row - first_row) / self.part_rows;
                let counts = window * self.table_words + part * self.features;
                for slot in 0..self.fan_in {
                    let feature = indices[(row * self.index_words * 2 + slot) as usize];
                    let entry = ((row - first_row) << 16) | slot;
                    take(counts as usize + usize::from(feature), (first_row * self.fan_in) as usize, entry);
                }
            }
        }
    }
}

fn count_twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (indices, table) = (call.read::<u16>(0), call.write::<u32>(1));
    p.each(indices, |place, _, _| table[place] += 1);
}

fn scan_twin(call: &mut TwinCall<'_>) {
    let p: ScanParams = call.params();
    let starts = call.constant("STARTS") == 1;
    let (features, table_words) = (p.features as usize, p.table_words as usize);
    let (table, offsets) = (call.write::<u32>(0), call.write::<u32>(1));
    for window in 0..p.windows as usize {
        let offsets = &mut offsets[window * p.offset_words as usize..][..features];
        for (feature, offset) in offsets.iter_mut().enumerate() {
            let mut sum = if starts { *offset } else { 0 };
            for part in 0..p.parts as usize {
                let count = &mut table[window * table_words + part * features + feature];
                sum += if starts { std::mem::replace(count, sum) } else { *count };
            }
            if !starts {
                *offset = sum;
            }
        }
    }
}

fn offsets_twin(call: &mut TwinCall<'_>) {
    let p: OffsetsParams = call.params();
    let offsets = call.write::<u32>(0);
    for window in 0..p.windows as usize {
        let offsets = &mut offsets[window * p.offset_words as usize..][..=p.features as usize];
        offsets[p.features as usize] = 0;
        let mut sum = 0;
        for offset in offsets {
            sum += std::mem::replace(offset, sum);
        }
    }
}

fn scatter_twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let indices = call.read::<u16>(0);
    let (table, connections) = (call.write::<u32>(1), call.write::<u32>(2));
    p.each(indices, |place, first, entry| {
        connections[first + table[place] as usize] = entry;
        table[place] += 1;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_stay_small_and_parts_cover_their_window() {
        for fetch in [Fetch::Cheap, Fetch::Dear] {
            for (features, fan_in, rows) in
                [(3, 1, 64), (768, 128, 65_536), (65_536, 128, 65_536), (65_536, 1, 64)]
            {
                let precision = Default::default();
                let block = Block { rows, first_label: 0, fan_in, group: 1, batch: 1, precision };
                let lists = Lists { rows, offset_words: features + 1, narrow: false };
                let sort = Sort { block, features, lists, fetch };
                assert!(sort.table_len() <= MAX_TABLE.max(features.next_multiple_of(TABLE_UNIT)), "{sort:?}");
                assert!(sort.parts() * sort.part_rows() >= rows, "{sort:?}");
            }
        }
    }
}
