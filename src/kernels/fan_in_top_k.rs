//! Logits of a block of labels and the K best of each segment, in one pass: see `shaders/fan_in_top_k.wgsl`.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::fan_in_dlogits::Block;
use super::fan_in_sweep::logits;
use super::storage::Storage;
use super::{WORKGROUP, columns_of, index_words, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

/// No label: what is left of a list with fewer than K entries.
pub const NOTHING: u32 = u32::MAX;
/// Score of what is left.
pub const LOWEST: f32 = f32::MIN;

/// Most labels that a list holds.
pub const MAX_K: usize = 256;

/// Labels in a segment; times half the fan-in, the iterations of an invocation.
const SEGMENT: usize = 512;

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
        let all = Storage::ALL.map(|weights| [1, 5, 100, MAX_K].map(|k| constants_of(k, weights)));
        all.concat()
    },
};

/// The constants of a list length, the same here and in `top_k_merge`.
pub(super) fn constants(k: usize) -> Constants {
    vec![("K", k as u32), ("WORKGROUP", WORKGROUP)]
}

fn constants_of(k: usize, weights: Storage) -> Constants {
    [constants(k), vec![("WEIGHTS", weights as u32)]].concat()
}

/// Segments of a block.
#[must_use]
pub fn segments(rows: usize) -> usize {
    rows.div_ceil(SEGMENT)
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
        index_words: index_words(block.fan_in) as u32,
        weight_words: block.weight_words() as u32,
        group: block.group as u32,
        batch: block.batch as u32,
        columns: columns as u32,
        segment: SEGMENT as u32,
        segments: segments(block.rows) as u32,
    };
    Launch {
        kernel: &KERNEL,
        constants: constants_of(k, block.precision.weights),
        bindings: [x, weights, indices, bias, filter_offsets, filter_labels, scores, labels]
            .map(Clone::clone)
            .to_vec(),
        params: words_of(&params),
        workgroups: workgroups(segments(block.rows) * columns),
        work: (block.rows * block.fan_in * columns) as u64,
    }
}

/// Puts (score, label) into a list sorted by falling score; an equal score stays behind those before it.
#[inline]
pub(super) fn insert(scores: &mut [f32], labels: &mut [u32], score: f32, label: u32) {
    let mut place = scores.len() - 1;
    while place > 0 && scores[place - 1] < score {
        scores[place] = scores[place - 1];
        labels[place] = labels[place - 1];
        place -= 1;
    }
    scores[place] = score;
    labels[place] = label;
}

struct Segment<'a> {
    p: &'a Params,
    k: usize,
    storage: Storage,
    segment: usize,
    x: &'a [f32],
    weights: &'a [u32],
    indices: &'a [u16],
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
        (call.read::<f32>(0), call.read::<u32>(1), call.read::<u16>(2), call.read::<f32>(3));
    let (filter_offsets, filter_labels) = (call.read::<u32>(4), call.read::<u32>(5));
    let area = p.columns as usize * k;
    let scores = &mut call.write::<f32>(6)[..p.segments as usize * area];
    let labels = &mut call.write::<u32>(7)[..p.segments as usize * area];
    let tasks = scores.par_chunks_mut(area).zip(labels.par_chunks_mut(area)).enumerate();
    tasks.for_each(|(segment, (scores, labels))| {
        pulp::Arch::new().dispatch(Segment {
            p: &p,
            k,
            storage,
            segment,
            x,
            weights,
            indices,
            bias,
            filter_offsets,
            filter_labels,
            scores,
            labels,
        });
    });
}

impl WithSimd for Segment<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (p, k) = (self.p, self.k);
        let (fan_in, columns) = (p.fan_in as usize, p.columns as usize);
        let (x, _) = S::as_simd_f32s(self.x);
        self.scores.fill(LOWEST);
        self.labels.fill(NOTHING);
        // What a logit must exceed to enter, side by side for the comparison of a whole row.
        let mut bars = vec![LOWEST; columns];
        bars[p.batch as usize..].fill(f32::INFINITY);
        let mut row_values = vec![0.0_f32; columns];
        let mut weights = vec![0.0_f32; fan_in];
        let words = p.weight_words as usize;
        let first = self.segment * p.segment as usize;
        for row in first..(first + p.segment as usize).min(p.rows as usize) {
            self.storage.decode_row(&self.weights[row * words..][..words], &mut weights);
            let indices = &self.indices[row / p.group as usize * p.index_words as usize * 2..][..fan_in];
            let (z, _) = S::as_mut_simd_f32s(&mut row_values);
            logits(simd, x, columns / S::F32_LANES, &weights, indices, self.bias[row], z);
            let entering = row_values.iter().zip(&bars).fold(0_u32, |any, (z, bar)| any | u32::from(z > bar));
            if entering == 0 {
                continue;
            }
            let label = p.first_label + row as u32;
            for sample in 0..p.batch as usize {
                let z = row_values[sample];
                let filter = self.filter_offsets[sample] as usize..self.filter_offsets[sample + 1] as usize;
                if z > bars[sample] && !self.filter_labels[filter].contains(&label) {
                    let list = sample * k..(sample + 1) * k;
                    insert(&mut self.scores[list.clone()], &mut self.labels[list], z, label);
                    bars[sample] = self.scores[(sample + 1) * k - 1];
                }
            }
        }
    }
}
