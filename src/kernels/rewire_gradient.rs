//! New indices of pruned slots by the gradient of candidates: see `shaders/rewire_gradient.wgsl`.

use rayon::prelude::*;

use super::fan_in_dlogits::Block;
use super::rewire_mask::mask_words;
use super::rewire_regrow::{self, Growth, index_constants};
use super::row_draws::{Choices, MAX_DRAWS, RowDraws};
use super::storage::{IndexRows, Indices, Precision, Strata};
use super::{WORKGROUP, columns_of, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};
use crate::random::Purpose;

/// Most candidates of a slot; the shader's `MAX_CANDIDATES`.
pub const MAX_CANDIDATES: usize = 32;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    index_rows: u32,
    first_index_row: u32,
    fan_in: u32,
    index_words: u32,
    mask_words: u32,
    group: u32,
    features: u32,
    columns: u32,
    candidates: u32,
    first_slot: u32,
    end_slot: u32,
    step: u32,
    purpose: u32,
    seed_low: u32,
    seed_high: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "rewire_gradient",
    source: include_str!("../../shaders/rewire_gradient.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
    twin,
    variants: || {
        // Free, stratified in 8 bits, stratified in 16 bits.
        let stratified = Precision { indices: Indices::Stratified { features: 768 }, ..Precision::default() };
        [(Precision::default(), 32), (stratified, 32), (stratified, 2)].map(constants).to_vec()
    },
};

fn constants((precision, fan_in): (Precision, usize)) -> Constants {
    [vec![("WORKGROUP", WORKGROUP)], index_constants(precision, fan_in)].concat()
}

/// Gives the slots of `mask` [index rows, mask words] new indices in `indices` [index rows, index words]: of
/// `candidates` different features that the row does not have, drawn as [`super::rewire_regrow`] draws them, the one
/// with the largest gradient of `dlogits` [rows, columns] and `x` [D, columns] (RigL, Evci et al. 2020, on a sample of
/// the features). With one candidate these are the indices of random growth. In stratified rows the candidates are of the
/// slot's own stratum.
///
/// A launch takes `slots` slots of each row: see [`slots_at_once`].
///
/// # Panics
/// When there are no candidates or more than [`MAX_CANDIDATES`].
pub fn launches(
    block: Block,
    growth: Growth,
    candidates: usize,
    slots: usize,
    [mask, x, dlogits, indices]: [&Slice; 4],
) -> Vec<Launch> {
    assert!((1..=MAX_CANDIDATES).contains(&candidates), "{candidates} candidates");
    let columns = columns_of(block.batch);
    let of_slots = |first_slot: usize| {
        let end_slot = (first_slot + slots).min(block.fan_in);
        let params = Params {
            rows: block.rows as u32,
            index_rows: block.index_rows() as u32,
            first_index_row: (block.first_label / block.group) as u32,
            fan_in: block.fan_in as u32,
            index_words: block.index_words() as u32,
            mask_words: mask_words(block.fan_in) as u32,
            group: block.group as u32,
            features: growth.features as u32,
            columns: columns as u32,
            candidates: candidates as u32,
            first_slot: first_slot as u32,
            end_slot: end_slot as u32,
            step: growth.step,
            purpose: Purpose::Regrow as u32,
            seed_low: growth.seed as u32,
            seed_high: (growth.seed >> 32) as u32,
        };
        Launch {
            kernel: &KERNEL,
            constants: constants((block.precision, block.fan_in)),
            bindings: [mask, x, dlogits, indices].map(Clone::clone).to_vec(),
            params: words_of(&params),
            workgroups: workgroups(block.index_rows()),
            work: (block.rows * (end_slot - first_slot) * candidates * (columns + block.fan_in)) as u64,
        }
    };
    (0..block.fan_in).step_by(slots.max(1)).map(of_slots).collect()
}

/// Slots of a row that a launch may take: [`rewire_regrow::slots_at_once`], with the products of the candidates.
#[must_use]
pub fn slots_at_once(block: Block, features: usize, candidates: usize, software: bool) -> usize {
    let products = candidates * block.group * (columns_of(block.batch) / 4 + 2);
    rewire_regrow::slots_at_once(block, features, candidates, products, software)
}

impl Params {
    /// Different features that the row does not have, in the order in which they are drawn.
    fn candidates(&self, index_row: u32, slot: u32, row: &[u16]) -> Vec<u32> {
        let free = if self.features > self.fan_in { self.features - self.fan_in } else { 1 };
        self.choose(index_row, slot, free, Choices::all(self.features), |index| {
            !row.contains(&(index as u16))
        })
    }

    /// Different features of the slot's stratum, but its own, in the order in which they are drawn.
    fn candidates_in_stratum(&self, index_row: u32, slot: u32, own: usize) -> Vec<u32> {
        let strata = Strata::new(self.features as usize, self.fan_in as usize);
        let choices = Choices::of_stratum(strata, slot, Some(own));
        self.choose(index_row, slot, choices.count, choices, |_| true)
    }

    /// So many candidates as are wanted and `free`, of those choices that may be taken.
    fn choose(
        &self,
        index_row: u32,
        slot: u32,
        free: u32,
        choices: Choices,
        may_be: impl Fn(u32) -> bool,
    ) -> Vec<u32> {
        let wanted = self.candidates.min(free) as usize;
        let draws = RowDraws {
            index_row: self.first_index_row + index_row,
            step: self.step,
            purpose: self.purpose,
            seed: [self.seed_low, self.seed_high],
        };
        let mut found: Vec<u32> = Vec::with_capacity(wanted);
        let mut last = 0;
        let mut offer = |place: u32| {
            let index = choices.feature(place);
            if found.len() < wanted && may_be(index) && !found.contains(&index) {
                found.push(index);
            }
            found.len() >= wanted
        };
        for i in 0..MAX_DRAWS {
            last = draws.index(slot, i, choices.count);
            if offer(last) {
                return found;
            }
        }
        for _ in 0..choices.count {
            last = if last + 1 >= choices.count { 0 } else { last + 1 };
            if offer(last) {
                break;
            }
        }
        found
    }
}

/// |Σ_b g\[b\] · x\[b\]|, in four sums as the shader has them.
fn magnitude(g: &[f32], x: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 4];
    for (g, x) in g.chunks_exact(4).zip(x.chunks_exact(4)) {
        for (sum, (g, x)) in sums.iter_mut().zip(g.iter().zip(x)) {
            *sum += g * x;
        }
    }
    sums.iter().sum::<f32>().abs()
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (mask_words, fan_in, columns) = (p.mask_words as usize, p.fan_in as usize, p.columns as usize);
    let (mask, x, dlogits) = (call.read::<u32>(0), call.read::<f32>(1), call.read::<f32>(2));
    let stored = IndexRows::from_constant(call.constant("STRATIFIED_FEATURES"), fan_in);
    let stratified = call.constant("STRATIFIED") == 1;
    let indices = call.write::<u32>(3);
    let rows = indices.par_chunks_mut(p.index_words as usize).take(p.index_rows as usize).enumerate();
    rows.for_each(|(index_row, row)| {
        let mask = &mask[index_row * mask_words..][..mask_words];
        let labels = index_row * p.group as usize..((index_row + 1) * p.group as usize).min(p.rows as usize);
        let strength_of = |index: u32| -> f32 {
            let x = &x[index as usize * columns..][..columns];
            labels.clone().map(|label| magnitude(&dlogits[label * columns..][..columns], x)).sum()
        };
        let slots = p.first_slot as usize..p.end_slot as usize;
        for slot in slots.filter(|slot| mask[slot / 32] >> (slot % 32) & 1 == 1) {
            let candidates = if stratified {
                p.candidates_in_stratum(index_row as u32, slot as u32, stored.get(row, slot))
            } else {
                p.candidates(index_row as u32, slot as u32, &bytemuck::cast_slice(row)[..fan_in])
            };
            let Some((&first, others)) = candidates.split_first() else { continue };
            let mut strongest = (first, strength_of(first));
            for &index in others {
                let strength = strength_of(index);
                if strength > strongest.1 {
                    strongest = (index, strength);
                }
            }
            stored.put(row, slot, strongest.0 as usize);
        }
    });
}
