//! Gradient of the features from one block of labels whose rows are stratified: see
//! `shaders/fan_in_strata_gradient.wgsl`.

use rayon::prelude::*;

use super::fan_in_dlogits::Block;
use super::storage::{IndexRows, Storage, Strata};
use super::vector::vectorised;
use super::{WORKGROUP, column_sum, columns_of, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

/// Most features whose accumulators an invocation has in workgroup memory: with four samples each, a workgroup's take
/// 16 KiB.
const PIECE: usize = 16;
/// Each piece walks all labels of a run. In more pieces than these, accumulators lie in the partial gradients instead, in
/// pieces that software Vulkan, whose loops end after 65,535 iterations, can set to zero.
const MAX_PIECES: usize = 4;
const WIDE_PIECE: usize = 4096;
/// The partial gradients of a block take at most so many bytes, unless one alone takes more.
const PARTIAL_BYTES: usize = 16 << 20;
/// Most runs that a block is cut into, and least labels in one.
const MAX_RUNS: usize = 64;
const MIN_RUN_ROWS: usize = 1024;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    features: u32,
    rows: u32,
    fan_in: u32,
    index_words: u32,
    weight_words: u32,
    group: u32,
    columns: u32,
    run: u32,
    runs: u32,
    piece: u32,
    pieces: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "fan_in_strata_gradient",
    source: include_str!("../../shaders/fan_in_strata_gradient.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
    twin,
    variants: || {
        let of = |rows| Storage::ALL.map(|weights| [0, PIECE].map(|room| constants(weights, room, rows)));
        IndexRows::variants().map(of).concat().concat()
    },
};

fn constants(weights: Storage, room: usize, rows: IndexRows) -> Constants {
    let own = vec![("WEIGHTS", weights as u32), ("ROOM", room as u32), ("WORKGROUP", WORKGROUP)];
    [own, rows.constants().to_vec()].concat()
}

/// Runs of labels that a block of `rows` is cut into, for batches of up to `columns` columns.
#[must_use]
pub fn runs(rows: usize, features: usize, columns: usize) -> usize {
    let room = PARTIAL_BYTES / (features * columns * 4);
    rows.div_ceil(MIN_RUN_ROWS).min(MAX_RUNS).min(room).max(1)
}

/// Adds to `dx` [D, columns] what `dlogits` [rows, columns] send back through `weights` [rows, weight words] at `indices`
/// [rows / group, index words]. `partial` [runs, D, columns] is scratch; the sum is that of `runs` runs of labels.
///
/// # Panics
/// When the block's rows are not stratified.
pub fn launches(
    block: Block,
    features: usize,
    runs: usize,
    [dlogits, weights, indices, partial, dx]: [&Slice; 5],
) -> [Launch; 2] {
    let strata = block.precision.indices.strata(block.fan_in).expect("the rows are stratified");
    let columns = columns_of(block.batch);
    let narrow = strata.widest() <= PIECE * MAX_PIECES;
    // Pieces of one width, as narrow as their number allows.
    let pieces = strata.widest().div_ceil(if narrow { PIECE } else { WIDE_PIECE });
    let piece = strata.widest().div_ceil(pieces);
    let run = block.rows.div_ceil(runs).next_multiple_of(block.group);
    let runs = block.rows.div_ceil(run);
    let params = Params {
        features: features as u32,
        rows: block.rows as u32,
        fan_in: block.fan_in as u32,
        index_words: block.index_words() as u32,
        weight_words: block.weight_words() as u32,
        group: block.group as u32,
        columns: columns as u32,
        run: run as u32,
        runs: runs as u32,
        piece: piece as u32,
        pieces: pieces as u32,
    };
    let gather = Launch {
        kernel: &KERNEL,
        constants: constants(block.precision.weights, if narrow { piece } else { 0 }, block.indices()),
        bindings: [dlogits, weights, indices, partial].map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(runs * pieces * block.fan_in * columns / 4),
        work: (block.rows * block.fan_in * columns) as u64,
    };
    [gather, column_sum::launch(runs, features * columns, partial, dx, true)]
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (dlogits, weights, indices) = (call.read::<f32>(0), call.read::<u32>(1), call.read::<u32>(2));
    let storage = Storage::from_constant(call.constant("WEIGHTS"));
    let (columns, fan_in, group) = (p.columns as usize, p.fan_in as usize, p.group as usize);
    let stored = IndexRows::from_constant(call.constant("STRATIFIED_FEATURES"), fan_in);
    let (features, words) = (p.features as usize, p.weight_words as usize);
    let strata = Strata::new(features, fan_in);
    let partial = &mut call.write::<f32>(3)[..p.runs as usize * features * columns];
    partial.par_chunks_mut(features * columns).enumerate().for_each(|(run, partial)| {
        partial.fill(0.0);
        let rows = run * p.run as usize..((run + 1) * p.run as usize).min(p.rows as usize);
        vectorised(
            #[inline(always)]
            || {
                for row in rows {
                    let index_row = &indices[row / group * p.index_words as usize..];
                    let g = &dlogits[row * columns..][..columns];
                    for slot in 0..fan_in {
                        let w = storage.get(&weights[row * words..], slot);
                        let index = stored.get(index_row, slot);
                        debug_assert!(strata.of(slot).contains(&index));
                        let sums = &mut partial[index * columns..][..columns];
                        sums.iter_mut().zip(g).for_each(|(sum, g)| *sum += w * g);
                    }
                }
            },
        );
    });
}
