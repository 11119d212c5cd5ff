//! The inverted index of a window of labels, feature → its connections in ascending order, by a counting sort in four
//! launches: see `shaders/inverted_index_*.wgsl`. Rebuilt whenever indices change; only the GPU's feature gradient reads
//! it.

use super::fan_in_dlogits::Block;
use super::{WORKGROUP, index_words, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    connections: u32,
    fan_in: u32,
    index_words: u32,
    features: u32,
    chunks: u32,
    chunk: u32,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct ScanParams {
    features: u32,
    chunks: u32,
}

/// How often each feature occurs in each chunk of the connections.
pub static COUNT: Kernel = Kernel {
    name: "inverted_index_count",
    source: include_str!("../../shaders/inverted_index_count.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin: count_twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// Where each chunk's entries begin within each feature.
pub static SCAN: Kernel = Kernel {
    name: "inverted_index_scan",
    source: include_str!("../../shaders/inverted_index_scan.wgsl"),
    bindings: &[Access::Write, Access::Write],
    twin: scan_twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// Where each feature's list begins.
pub static OFFSETS: Kernel = Kernel {
    name: "inverted_index_offsets",
    source: include_str!("../../shaders/inverted_index_offsets.wgsl"),
    bindings: &[Access::Write],
    twin: offsets_twin,
    variants: || vec![vec![]],
};

/// Every connection into its feature's list.
pub static SCATTER: Kernel = Kernel {
    name: "inverted_index_scatter",
    source: include_str!("../../shaders/inverted_index_scatter.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Write, Access::Write],
    twin: scatter_twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// Most rows of indices in a window: a connection is (row << 16 | slot).
pub const MAX_INDEX_ROWS: usize = 1 << 16;

/// Most chunks that the connections are cut into.
const MAX_CHUNKS: usize = 4096;
/// Connections of a chunk, unless there are more than the chunks can hold.
const CHUNK: usize = 1024;
/// Most numbers in the table of counts.
const MAX_TABLE: usize = 4 << 20;

/// Most chunks of the connections for a layer over `features` features.
fn max_chunks(features: usize) -> usize {
    (MAX_TABLE / features.max(1)).clamp(1, MAX_CHUNKS)
}

/// Numbers in the table that [`launches`] needs as scratch.
#[must_use]
pub fn table_len(features: usize) -> usize {
    max_chunks(features) * features
}

/// Builds `offsets` [D + 1] and `connections` [rows / group · F], each (row << 16 | slot), of a window of labels from its
/// `indices`; `table` is scratch. A window has at most [`MAX_INDEX_ROWS`] rows of indices.
///
/// # Panics
/// When rows are stored as offsets, which nothing inverts.
pub fn launches(
    block: Block,
    features: usize,
    [indices, table, offsets, connections]: [&Slice; 4],
) -> [Launch; 4] {
    assert_eq!(block.index_words(), index_words(block.fan_in), "indices of 16 bits");
    let count = block.index_rows() * block.fan_in;
    let chunks = count.div_ceil(CHUNK).clamp(1, max_chunks(features));
    let params = Params {
        connections: count as u32,
        fan_in: block.fan_in as u32,
        index_words: index_words(block.fan_in) as u32,
        features: features as u32,
        chunks: chunks as u32,
        chunk: count.div_ceil(chunks) as u32,
    };
    let scan = ScanParams { features: features as u32, chunks: chunks as u32 };
    let launch = |kernel, bindings: &[&Slice], params, lanes: usize| Launch {
        kernel,
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: bindings.iter().map(|slice| (*slice).clone()).collect(),
        params,
        workgroups: workgroups(lanes),
        work: count as u64,
    };
    let mut of_offsets = launch(&OFFSETS, &[offsets], vec![features as u32], 1);
    of_offsets.constants.clear();
    [
        launch(&COUNT, &[indices, table], words_of(&params), chunks),
        launch(&SCAN, &[table, offsets], words_of(&scan), features),
        of_offsets,
        launch(&SCATTER, &[indices, offsets, table, connections], words_of(&params), chunks),
    ]
}

impl Params {
    /// How a connection is written into its list.
    fn entry(&self, connection: u32) -> u32 {
        ((connection / self.fan_in) << 16) | (connection % self.fan_in)
    }

    /// (connection, feature) of every connection in a chunk.
    fn chunk_of<'a>(&'a self, chunk: usize, indices: &'a [u16]) -> impl Iterator<Item = (u32, usize)> + 'a {
        let start = chunk as u32 * self.chunk;
        (start..(start + self.chunk).min(self.connections)).map(move |connection| {
            let (index_row, slot) = (connection / self.fan_in, connection % self.fan_in);
            (connection, usize::from(indices[(index_row * self.index_words * 2 + slot) as usize]))
        })
    }
}

fn count_twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let chunks = p.chunks as usize;
    let indices = call.read::<u16>(0);
    let table = &mut call.write::<u32>(1)[..p.features as usize * chunks];
    table.fill(0);
    for chunk in 0..chunks {
        for (_, feature) in p.chunk_of(chunk, indices) {
            table[feature * chunks + chunk] += 1;
        }
    }
}

fn scan_twin(call: &mut TwinCall<'_>) {
    let p: ScanParams = call.params();
    let (table, offsets) = (call.write::<u32>(0), call.write::<u32>(1));
    for (counts, total) in table.chunks_exact_mut(p.chunks as usize).zip(offsets).take(p.features as usize) {
        let mut sum = 0;
        for count in counts {
            sum += std::mem::replace(count, sum);
        }
        *total = sum;
    }
}

fn offsets_twin(call: &mut TwinCall<'_>) {
    let features = call.params::<u32>() as usize;
    let offsets = &mut call.write::<u32>(0)[..=features];
    offsets[features] = 0;
    let mut sum = 0;
    for offset in offsets {
        sum += std::mem::replace(offset, sum);
    }
}

fn scatter_twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let chunks = p.chunks as usize;
    let (indices, offsets) = (call.read::<u16>(0), call.read::<u32>(1));
    let (table, connections) = (call.write::<u32>(2), call.write::<u32>(3));
    for chunk in 0..chunks {
        for (connection, feature) in p.chunk_of(chunk, indices) {
            let place = &mut table[feature * chunks + chunk];
            connections[(offsets[feature] + *place) as usize] = p.entry(connection);
            *place += 1;
        }
    }
}
