//! Pruned connections grow again elsewhere; also the first wiring of a layer: see `shaders/rewire_regrow.wgsl`.

use std::ops::Range;

use rayon::prelude::*;

use super::fan_in_dlogits::Block;
use super::optimizer::state_chunks;
use super::rewire_mask::mask_words;
use super::storage::{IndexRows, Indices, Precision, Storage, Strata};
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};
use crate::random::{Purpose, below, philox, unit};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    index_rows: u32,
    first_index_row: u32,
    fan_in: u32,
    index_words: u32,
    weight_words: u32,
    moment_words: u32,
    mask_words: u32,
    group: u32,
    features: u32,
    bound: f32,
    step: u32,
    purpose: u32,
    first_wiring: u32,
    seed_low: u32,
    seed_high: u32,
    first_slot: u32,
    end_slot: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "rewire_regrow",
    source: include_str!("../../shaders/rewire_regrow.wgsl"),
    bindings: &[
        Access::Read,
        Access::Write,
        Access::Write,
        Access::Write,
        Access::Write,
        Access::Write,
        Access::Write,
    ],
    twin,
    variants: || {
        let variant =
            |precision, draw, fan_in| [0, 1, 2].map(|states| constants(states, precision, draw, fan_in));
        let both = |precision| [variant(precision, false, 32), variant(precision, true, 32)].concat();
        // Free, stratified in 8 bits, stratified in 16 bits.
        let stratified = Precision { indices: Indices::Stratified { features: 768 }, ..Precision::default() };
        let all = Precision::all().into_iter().flat_map(both);
        all.chain(both(stratified)).chain(variant(stratified, true, 2)).collect()
    },
};

fn constants(states: usize, precision: Precision, draw: bool, fan_in: usize) -> Constants {
    let own = vec![("STATES", states as u32), ("DRAW", u32::from(draw)), ("WORKGROUP", WORKGROUP)];
    [own, precision.constants().to_vec(), index_constants(precision, fan_in)].concat()
}

/// The constants of `shaders/shared/rewire_row.wgsl`.
pub(super) fn index_constants(precision: Precision, fan_in: usize) -> Constants {
    let stratified = u32::from(precision.indices != Indices::Free);
    [&[("STRATIFIED", stratified)], &precision.indices.rows(fan_in).constants()[..]].concat()
}

/// How connections are drawn.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    /// Features that an index may name, D.
    pub features: usize,
    /// New weights are uniform within ± this; 0: they are zero.
    pub bound: f32,
    /// Seed of the run.
    pub seed: u64,
    /// Optimizer step.
    pub step: u32,
    /// True for the first wiring of a layer: what its rows hold is nothing yet.
    pub first_wiring: bool,
    /// States that the optimizer keeps for a weight; they become zero.
    pub states: usize,
}

/// Regrows the slots of `mask`; bindings: `mask`, `regrown`, `weights`, `indices`, `first`, `second`, `counts`.
/// `regrown`: the mask of the last rewiring, replaced by this one. `counts` \[3\] gets added: pruned slots, those among
/// them that the last rewiring had regrown, regrown slots.
pub fn launch(block: Block, growth: Growth, bindings: [&Slice; 7]) -> Launch {
    launch_of(block, growth, true, 0..block.fan_in, bindings)
}

/// [`launch`] in pieces of `slots` slots of each row: see [`slots_at_once`].
pub fn launches(block: Block, growth: Growth, slots: usize, bindings: [&Slice; 7]) -> Vec<Launch> {
    let piece = |first: usize| first..(first + slots).min(block.fan_in);
    let starts = (0..block.fan_in).step_by(slots.max(1));
    starts.map(|first| launch_of(block, growth, true, piece(first), bindings)).collect()
}

/// [`launch`] for slots whose new indices stand in the rows already: weights, states, mask and counts alone.
pub fn launch_in_place(block: Block, growth: Growth, bindings: [&Slice; 7]) -> Launch {
    launch_of(block, growth, false, 0..block.fan_in, bindings)
}

fn launch_of(block: Block, growth: Growth, draw: bool, slots: Range<usize>, bindings: [&Slice; 7]) -> Launch {
    let purpose = if growth.first_wiring { Purpose::ClassifierInit } else { Purpose::Regrow };
    let params = Params {
        rows: block.rows as u32,
        index_rows: block.index_rows() as u32,
        first_index_row: (block.first_label / block.group) as u32,
        fan_in: block.fan_in as u32,
        index_words: block.index_words() as u32,
        weight_words: block.weight_words() as u32,
        moment_words: block.moment_words() as u32,
        mask_words: mask_words(block.fan_in) as u32,
        group: block.group as u32,
        features: growth.features as u32,
        bound: growth.bound,
        step: growth.step,
        purpose: purpose as u32,
        first_wiring: u32::from(growth.first_wiring),
        seed_low: growth.seed as u32,
        seed_high: (growth.seed >> 32) as u32,
        first_slot: slots.start as u32,
        end_slot: slots.end as u32,
    };
    Launch {
        kernel: &KERNEL,
        constants: constants(growth.states, block.precision, draw, block.fan_in),
        bindings: bindings.map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(block.index_rows()),
        work: (block.index_rows() * slots.len() * block.fan_in) as u64,
    }
}

/// Bits that round to the nearest.
const NEAREST: u16 = 0x8000;

/// Iterations of an invocation that software Vulkan certainly computes.
const SOFTWARE_ITERATIONS: usize = 40_000;

/// Slots of a row that a launch may take: all of them, or on software Vulkan so few that no invocation comes near the
/// number of iterations after which loops end. A slot looks for `candidates` free features and spends `more` iterations
/// on them.
#[must_use]
pub fn slots_at_once(block: Block, features: usize, candidates: usize, more: usize, software: bool) -> usize {
    if !software {
        return block.fan_in;
    }
    // Draws, then a walk over the features where few are free, each compared with the row and the candidates.
    let free = features.saturating_sub(block.fan_in);
    let walk = if free * 4 < features { features } else { MAX_DRAWS as usize };
    let compared = match block.precision.indices.strata(block.fan_in) {
        None => (MAX_DRAWS as usize + walk) * (block.fan_in / 2 + candidates + 2),
        Some(strata) => (MAX_DRAWS as usize + strata.widest()) * (candidates + 2),
    };
    (SOFTWARE_ITERATIONS / (compared + more)).clamp(1, block.fan_in)
}

/// After so many draws the next free index is taken.
pub(super) const MAX_DRAWS: u32 = 32;

/// The numbers that are drawn for one row of indices.
#[derive(Clone, Copy)]
pub(super) struct RowDraws {
    /// Number of the row in the layer.
    pub(super) index_row: u32,
    pub(super) step: u32,
    pub(super) purpose: u32,
    pub(super) seed: [u32; 2],
}

impl RowDraws {
    fn words(self, sub: u32) -> [u32; 4] {
        philox([self.index_row, sub, self.step, self.purpose], self.seed)
    }

    /// The `i`-th index drawn for a slot.
    pub(super) fn index(self, slot: u32, i: u32, features: u32) -> u32 {
        below(self.words(slot * (MAX_DRAWS / 4 + 1) + i / 4)[i as usize % 4], features)
    }
}

/// The features that a slot may take: `count` from `first` on, without the one at place `barred`.
#[derive(Clone, Copy)]
pub(super) struct Choices {
    first: u32,
    barred: u32,
    pub(super) count: u32,
}

impl Choices {
    /// Any of `features`.
    pub(super) fn all(features: u32) -> Self {
        Self { first: 0, barred: u32::MAX, count: features }
    }

    /// Those of a slot's stratum, but the slot's own if it has one.
    pub(super) fn of_stratum(strata: Strata, slot: u32, own: Option<usize>) -> Self {
        let stratum = strata.of(slot as usize);
        let (first, size) = (stratum.start as u32, stratum.len() as u32);
        match own {
            None => Self { first, barred: u32::MAX, count: size },
            Some(own) => Self { first, barred: own as u32 - first, count: size - 1 },
        }
    }

    pub(super) fn feature(self, place: u32) -> u32 {
        self.first + place + u32::from(place >= self.barred)
    }
}

impl Params {
    fn draws(&self, index_row: u32) -> RowDraws {
        RowDraws {
            index_row: self.first_index_row + index_row,
            step: self.step,
            purpose: self.purpose,
            seed: [self.seed_low, self.seed_high],
        }
    }

    /// The weight of a regrown connection, of which `member` counts through the labels that share the row.
    fn new_weight(&self, index_row: u32, member: usize) -> f32 {
        if self.bound <= 0.0 {
            return 0.0;
        }
        let words = self.draws(index_row).words(0x8000_0000 + member as u32 / 4);
        self.bound * (2.0 * unit(words[member % 4]) - 1.0)
    }

    /// An index that the row does not have. With every index in use, the slot keeps its own.
    fn fresh_index(&self, index_row: u32, slot: u32, row: &[u16]) -> u16 {
        let end = if self.first_wiring == 1 { slot } else { self.fan_in };
        let row_has = |index: u32| row[..end as usize].contains(&(index as u16));
        let mut candidate = 0;
        for i in 0..MAX_DRAWS {
            candidate = self.draws(index_row).index(slot, i, self.features);
            if !row_has(candidate) {
                return candidate as u16;
            }
        }
        for _ in 0..self.features {
            candidate = if candidate + 1 >= self.features { 0 } else { candidate + 1 };
            if !row_has(candidate) {
                return candidate as u16;
            }
        }
        row[slot as usize]
    }
}

impl Params {
    /// A feature of the slot's stratum, not the one that it has; the only one there is stays.
    fn fresh_in_stratum(&self, index_row: u32, slot: u32, own: usize) -> usize {
        let strata = Strata::new(self.features as usize, self.fan_in as usize);
        let own = Some(own).filter(|_| self.first_wiring == 0);
        let choices = Choices::of_stratum(strata, slot, own);
        if choices.count == 0 {
            return strata.start(slot as usize);
        }
        choices.feature(self.draws(index_row).index(slot, 0, choices.count)) as usize
    }
}

/// Pruned slots of a row, those that the last rewiring had regrown, regrown ones; the mask takes the last one's place.
fn count_slots(mask: &[u32], regrown: &mut [u32]) -> [u32; 3] {
    let count = |words: &mut dyn Iterator<Item = u32>| words.map(u32::count_ones).sum::<u32>();
    let pruned = count(&mut mask.iter().copied());
    let again = count(&mut mask.iter().zip(&*regrown).map(|(now, before)| now & before));
    regrown.copy_from_slice(mask);
    [pruned, again, pruned]
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (states, draw) = (call.constant("STATES"), call.constant("DRAW") == 1);
    let (mask_words, fan_in, group) = (p.mask_words as usize, p.fan_in as usize, p.group as usize);
    let index_rows = p.index_rows as usize;
    let mask = &call.read::<u32>(0)[..index_rows * mask_words];
    let regrown = call.write::<u32>(1);
    let (weight_words, moment_words) = (p.weight_words as usize, p.moment_words as usize);
    let [storage, moments] = ["WEIGHTS", "MOMENTS"].map(|name| Storage::from_constant(call.constant(name)));
    let weights = &mut call.write::<u32>(2)[..p.rows as usize * weight_words];
    let indices = call.write::<u32>(3);
    let stratified = call.constant("STRATIFIED") == 1;
    let rows_of_indices = IndexRows::from_constant(call.constant("STRATIFIED_FEATURES"), fan_in);
    let slots = p.first_slot as usize..p.end_slot as usize;
    let first = state_chunks(call.write(4), states >= 1, group * moment_words, index_rows);
    let second = state_chunks(call.write(5), states >= 2, group * moment_words, index_rows);
    let rows = mask
        .par_chunks(mask_words)
        .zip(regrown.par_chunks_mut(mask_words))
        .zip(weights.par_chunks_mut(group * weight_words))
        .zip(indices.par_chunks_mut(p.index_words as usize))
        .zip(first)
        .zip(second)
        .enumerate();
    let sums = rows
        .map(|(index_row, (((((mask, regrown), weights), indices), first), second))| {
            let counted = if slots.start == 0 { count_slots(mask, regrown) } else { [0; 3] };
            for slot in slots.clone().filter(|slot| mask[slot / 32] >> (slot % 32) & 1 == 1) {
                if draw && stratified {
                    let own = rows_of_indices.get(indices, slot);
                    let fresh = p.fresh_in_stratum(index_row as u32, slot as u32, own);
                    rows_of_indices.put(indices, slot, fresh);
                } else if draw {
                    let indices: &mut [u16] = bytemuck::cast_slice_mut(indices);
                    indices[slot] = p.fresh_index(index_row as u32, slot as u32, indices);
                }
                for (member, weights) in weights.chunks_exact_mut(weight_words).enumerate() {
                    let weight = p.new_weight(index_row as u32, member * fan_in + slot);
                    storage.put(weights, slot, storage.encode(weight, NEAREST));
                }
                for states in [&mut *first, &mut *second] {
                    let members = weights.len() / weight_words;
                    let of_labels = states.chunks_exact_mut(moment_words).take(members);
                    of_labels.for_each(|state| moments.put(state, slot, 0));
                }
            }
            counted
        })
        .reduce(|| [0; 3], |a, b| std::array::from_fn(|i| a[i] + b[i]));
    call.write::<u32>(6).iter_mut().zip(sums).for_each(|(count, sum)| *count += sum);
}
