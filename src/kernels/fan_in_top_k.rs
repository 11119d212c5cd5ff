//! Logits of a block of labels and the K best of each segment, in one pass: see `shaders/fan_in_top_k.wgsl`.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::fan_in_dlogits::Block;
use super::group_tiles::{GroupLogits, open_group};
use super::label_walk::logits;
use super::storage::{IndexReader, IndexRows, Storage};
use super::top_k_list::{BestLists, SEGMENT, constants};
use super::{columns_of, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

pub use super::top_k_list::{LOWEST, MAX_K, NOTHING, segments};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    first_label: u32,
    fan_in: u32,
    index_words: u32,
    weight_words: u32,
    group: u32,
    batch: u32,
    columns: u32,
    segment: u32,
    segments: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "fan_in_top_k",
    source: include_str!("../../shaders/fan_in_top_k.wgsl"),
    bindings: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
    ],
    twin,
    variants: || {
        let of = |rows| {
            Storage::ALL.map(|weights| {
                let of = |k, group| constants_of(k, weights, rows, group);
                [of(1, 1), of(5, 1), of(100, 1), of(MAX_K, 1), of(5, TILE), of(MAX_K, TILE)]
            })
        };
        IndexRows::variants().map(of).concat().concat()
    },
};

/// Labels of a group that a lane takes together, where labels share rows of indices.
const TILE: usize = 8;

fn constants_of(k: usize, weights: Storage, rows: IndexRows, group: usize) -> Constants {
    let tile = if group > 1 { TILE } else { 1 };
    let own = [("TILE", tile as u32), ("WEIGHTS", weights as u32)];
    [constants(k).as_slice(), &own, &rows.constants()].concat()
}

/// `scores` and `labels` [segments, columns, K] of the samples in `x` [D, columns], best first, filtered by
/// `filter_offsets` [B + 1] and `filter_labels`.
pub fn launch(
    block: Block,
    k: usize,
    [x, weights, indices, bias, filter_offsets, filter_labels, scores, labels]: [&Slice; 8],
) -> Launch {
    let columns = columns_of(block.batch);
    let params = Params {
        rows: block.rows as u32,
        first_label: block.first_label as u32,
        fan_in: block.fan_in as u32,
        index_words: block.index_words() as u32,
        weight_words: block.weight_words() as u32,
        group: block.group as u32,
        batch: block.batch as u32,
        columns: columns as u32,
        segment: SEGMENT as u32,
        segments: segments(block.rows) as u32,
    };
    Launch {
        kernel: &KERNEL,
        constants: constants_of(k, block.precision.weights, block.indices(), block.group),
        bindings: [x, weights, indices, bias, filter_offsets, filter_labels, scores, labels]
            .map(Clone::clone)
            .to_vec(),
        params: words_of(&params),
        workgroups: workgroups(segments(block.rows) * columns),
        work: (block.rows * block.fan_in * columns) as u64,
    }
}

struct Segment<'a> {
    p: &'a Params,
    k: usize,
    storage: Storage,
    stored: IndexRows,
    segment: usize,
    x: &'a [f32],
    weights: &'a [u32],
    indices: &'a [u32],
    bias: &'a [f32],
    filter_offsets: &'a [u32],
    filter_labels: &'a [u32],
    scores: &'a mut [f32],
    labels: &'a mut [u32],
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let k = call.constant("K") as usize;
    let storage = Storage::from_constant(call.constant("WEIGHTS"));
    let (x, weights, indices, bias) =
        (call.read::<f32>(0), call.read::<u32>(1), call.read::<u32>(2), call.read::<f32>(3));
    let (filter_offsets, filter_labels) = (call.read::<u32>(4), call.read::<u32>(5));
    let stored = IndexRows::from_constant(call.constant("STRATIFIED_FEATURES"), p.fan_in as usize);
    let area = p.columns as usize * k;
    let scores = &mut call.write::<f32>(6)[..p.segments as usize * area];
    let labels = &mut call.write::<u32>(7)[..p.segments as usize * area];
    let tasks = scores.par_chunks_mut(area).zip(labels.par_chunks_mut(area)).enumerate();
    tasks.for_each(|(segment, (scores, labels))| {
        let segment = Segment {
            p: &p,
            k,
            storage,
            stored,
            segment,
            x,
            weights,
            indices,
            bias,
            filter_offsets,
            filter_labels,
            scores,
            labels,
        };
        if p.group == 1 {
            pulp::Arch::new().dispatch(segment);
        } else {
            pulp::Arch::new().dispatch(Groups(segment));
        }
    });
}

impl Segment<'_> {
    /// Its rows of the block.
    fn rows(&self) -> std::ops::Range<usize> {
        let first = self.segment * self.p.segment as usize;
        first..(first + self.p.segment as usize).min(self.p.rows as usize)
    }
}

impl WithSimd for Segment<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (p, k) = (self.p, self.k);
        let (fan_in, columns) = (p.fan_in as usize, p.columns as usize);
        let rows = self.rows();
        let (x, _) = S::as_simd_f32s(self.x);
        let filter = [self.filter_offsets, self.filter_labels];
        let mut lists = BestLists::new(k, p.batch as usize, columns, filter, self.scores, self.labels);
        let mut row_values = vec![0.0_f32; columns];
        let mut weights = vec![0.0_f32; fan_in];
        let mut indices = IndexReader::new(self.stored);
        let words = p.weight_words as usize;
        for row in rows {
            self.storage.decode_row(&self.weights[row * words..][..words], &mut weights);
            let indices = indices.row(self.indices, row / p.group as usize);
            let (z, _) = S::as_mut_simd_f32s(&mut row_values);
            logits(simd, x, columns / S::F32_LANES, &weights, indices, self.bias[row], z);
            lists.offer(p.first_label + row as u32, &row_values);
        }
    }
}

/// A segment whose labels share rows of indices: the features of a row are gathered once, see `group_tiles`.
struct Groups<'a>(Segment<'a>);

impl WithSimd for Groups<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self(segment) = self;
        let (p, k, rows) = (segment.p, segment.k, segment.rows());
        let (fan_in, columns, group) = (p.fan_in as usize, p.columns as usize, p.group as usize);
        let filter = [segment.filter_offsets, segment.filter_labels];
        let mut lists = BestLists::new(k, p.batch as usize, columns, filter, segment.scores, segment.labels);
        let mut tile = GroupLogits::new(segment.x, fan_in, columns, group, false);
        let mut opened = vec![0.0_f32; group * fan_in];
        let mut indices = IndexReader::new(segment.stored);
        let words = p.weight_words as usize;
        let mut first = rows.start;
        while first < rows.end {
            // A segment may begin or end within a group.
            let end = rows.end.min((first / group + 1) * group);
            let stored = &segment.weights[first * words..end * words];
            let weights = open_group(segment.storage, stored, words, fan_in, &mut opened);
            let indices = indices.row(segment.indices, first / group);
            tile.compute(simd, indices, weights, &segment.bias[first..end]);
            for row in first..end {
                lists.offer(p.first_label + row as u32, tile.row(row - first));
            }
            first = end;
        }
    }
}
