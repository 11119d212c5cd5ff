//! Which connections of a block are pruned: see `shaders/rewire_mask.wgsl`.

use rayon::prelude::*;

use super::fan_in_dlogits::Block;
use super::storage::Storage;
use super::vector::vectorised;
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    index_rows: u32,
    fan_in: u32,
    weight_words: u32,
    mask_words: u32,
    group: u32,
    threshold: f32,
    key: u32,
    position_end: u32,
    per_row: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "rewire_mask",
    source: include_str!("../../shaders/rewire_mask.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || Storage::ALL.map(|weights| [0, 1, 2].map(|mode| constants(mode, weights))).concat(),
};

fn constants(mode: u32, weights: Storage) -> Constants {
    vec![("MODE", mode), ("WEIGHTS", weights as u32), ("WORKGROUP", WORKGROUP)]
}

/// The rule by which slots are pruned. The score of a slot is |w|, in a group the mean of |w|.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Score below the threshold, strictly.
    Threshold(f32),
    /// Score bits below `key`, or equal to it at a position `row · F + f` before `position_end`.
    Selected {
        /// Bits of the largest score that is pruned.
        key: u32,
        /// Among equals, where to stop.
        position_end: u32,
    },
    /// So many of each row, the smallest.
    PerRow(u32),
}

/// 32-bit words in a row of the mask.
#[must_use]
pub fn mask_words(fan_in: usize) -> usize {
    fan_in.div_ceil(32)
}

/// `mask` [rows / group, mask words], a bit for each slot of `weights` [rows, weight words]: 1 where it is pruned.
pub fn launch(block: Block, rule: Rule, weights: &Slice, mask: &Slice) -> Launch {
    let mut params = Params {
        rows: block.rows as u32,
        index_rows: block.index_rows() as u32,
        fan_in: block.fan_in as u32,
        weight_words: block.weight_words() as u32,
        mask_words: mask_words(block.fan_in) as u32,
        group: block.group as u32,
        threshold: 0.0,
        key: 0,
        position_end: 0,
        per_row: 0,
    };
    let mode = match rule {
        Rule::Threshold(threshold) => {
            params.threshold = threshold;
            0
        }
        Rule::Selected { key, position_end } => {
            (params.key, params.position_end) = (key, position_end);
            1
        }
        Rule::PerRow(count) => {
            params.per_row = count;
            2
        }
    };
    Launch {
        kernel: &KERNEL,
        constants: constants(mode, block.precision.weights),
        bindings: vec![weights.clone(), mask.clone()],
        params: words_of(&params),
        workgroups: workgroups(block.index_rows() * mask_words(block.fan_in)),
        work: (block.rows * block.fan_in) as u64,
    }
}

/// The weights of a block, as its kernels see them.
pub(super) struct Weights<'a> {
    pub(super) storage: Storage,
    /// [rows, words].
    pub(super) numbers: &'a [u32],
    pub(super) words: usize,
    pub(super) rows: usize,
    pub(super) group: usize,
}

impl Weights<'_> {
    /// For each slot of a row of indices |w|, or the mean of |w| over the labels of its group, into `scores` \[F\];
    /// `opened` \[F\] is room for the weights of a label.
    #[inline(always)]
    pub(super) fn scores(&self, index_row: usize, opened: &mut [f32], scores: &mut [f32]) {
        let labels = index_row * self.group..((index_row + 1) * self.group).min(self.rows);
        let count = labels.len() as f32;
        scores.fill(0.0);
        for label in labels {
            let stored = &self.numbers[label * self.words..][..self.words];
            let weights: &[f32] = if self.storage == Storage::F32 {
                bytemuck::cast_slice(stored)
            } else {
                self.storage.decode_row(stored, opened);
                opened
            };
            scores.iter_mut().zip(weights).for_each(|(score, weight)| *score += weight.abs());
        }
        if self.group > 1 {
            scores.iter_mut().for_each(|score| *score /= count);
        }
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let mode = call.constant("MODE");
    let weights = Weights {
        storage: Storage::from_constant(call.constant("WEIGHTS")),
        numbers: call.read(0),
        words: p.weight_words as usize,
        rows: p.rows as usize,
        group: p.group as usize,
    };
    let (words, fan_in) = (p.mask_words as usize, p.fan_in as usize);
    let mask = &mut call.write::<u32>(1)[..p.index_rows as usize * words];
    let rows = mask.par_chunks_mut(words).enumerate();
    let room = || (vec![0.0_f32; fan_in], vec![0.0_f32; fan_in], vec![0_u64; fan_in]);
    rows.for_each_init(room, |(opened, scores, order), (index_row, mask)| {
        vectorised(
            #[inline(always)]
            || {
                weights.scores(index_row, opened, scores);
                mask.fill(0);
                let mut prune = |slot: usize| mask[slot / 32] |= 1 << (slot % 32);
                match mode {
                    0 => (0..fan_in).filter(|slot| scores[*slot] < p.threshold).for_each(&mut prune),
                    1 => {
                        let first_position = index_row as u32 * p.fan_in;
                        let is_pruned = |slot: &usize| {
                            let (bits, position) = (scores[*slot].to_bits(), first_position + *slot as u32);
                            bits < p.key || (bits == p.key && position < p.position_end)
                        };
                        (0..fan_in).filter(is_pruned).for_each(&mut prune);
                    }
                    _ => smallest(scores, p.per_row as usize, order).for_each(&mut prune),
                }
            },
        );
    });
}

/// The `count` slots of least score, of equal ones the first. Scores are not negative: their bits order them.
fn smallest<'a>(scores: &[f32], count: usize, order: &'a mut [u64]) -> impl Iterator<Item = usize> + 'a {
    for (slot, (key, score)) in order.iter_mut().zip(scores).enumerate() {
        *key = u64::from(score.to_bits()) << 32 | slot as u64;
    }
    if count > 0 && count < order.len() {
        order.select_nth_unstable(count - 1);
    }
    order.iter().take(count).map(|key| *key as u32 as usize)
}
