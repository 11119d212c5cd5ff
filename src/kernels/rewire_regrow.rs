//! Pruned connections grow again elsewhere; also the first wiring of a layer: see `shaders/rewire_regrow.wgsl`.

use std::ops::Range;

use rayon::prelude::*;

use super::fan_in_dlogits::Block;
use super::optimizer::state_chunks;
use super::rewire_mask::mask_words;
use super::row_draws::{Choices, MAX_DRAWS, RowDraws, SUBS};
use super::storage::{IndexRows, Indices, Precision, Storage, Strata};
use super::vector::{DRAWN, vectorised};
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};
use crate::random::{Purpose, below, unit};

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
    /// States of a weight, the first ones, that become zero.
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

/// A task of the twin regrows rows of so many numbers at least, for which it takes room once.
const MIN_NUMBERS: usize = 4096;

impl Params {
    fn draws(&self, index_row: u32) -> RowDraws {
        RowDraws {
            index_row: self.first_index_row + index_row,
            step: self.step,
            purpose: self.purpose,
            seed: [self.seed_low, self.seed_high],
        }
    }

    /// The weights of regrown connections, of which number `member` · F + slot belongs to a slot of the label `member` among
    /// those that share the row. `out` holds whole batches of random words.
    #[inline(always)]
    fn new_weights(&self, index_row: u32, out: &mut [f32]) {
        let draws = self.draws(index_row);
        let mut words = [0; 4 * DRAWN];
        for (batch, out) in out.chunks_exact_mut(4 * DRAWN).enumerate() {
            let sub = std::array::from_fn(|i| 0x8000_0000 + (batch * DRAWN + i) as u32);
            draws.batch(sub, &mut words);
            out.iter_mut().zip(&words).for_each(|(out, word)| *out = self.bound * (2.0 * unit(*word) - 1.0));
        }
    }

    /// Gives the pruned `slots` of a row indices that it does not have, one slot after the other. With every index in use,
    /// a slot keeps its own. `uses` \[D\] is zero before and after.
    #[inline(always)]
    fn draw_indices(
        &self,
        index_row: u32,
        mask: &[u32],
        slots: Range<usize>,
        row: &mut [u16],
        uses: &mut [u16],
    ) {
        // Of the first wiring only what is drawn already stands in the row.
        let (known, end) = if self.first_wiring == 1 {
            (slots.start, slots.end)
        } else {
            (self.fan_in as usize, self.fan_in as usize)
        };
        row[..known].iter().for_each(|index| uses[usize::from(*index)] += 1);
        let draws = self.draws(index_row);
        let mut pruned = pruned_slots(mask, slots);
        let mut words = [0; 4 * DRAWN];
        loop {
            let mut batch = [0_u32; DRAWN];
            let mut count = 0;
            for (place, slot) in batch.iter_mut().zip(&mut pruned) {
                *place = slot as u32;
                count += 1;
            }
            if count == 0 {
                break;
            }
            draws.batch(batch.map(|slot| slot * SUBS), &mut words);
            for (slot, words) in batch[..count].iter().zip(words.chunks_exact(4)) {
                let first = words.iter().map(|word| below(*word, self.features));
                let Some(index) = self.fresh_index(draws, *slot, first, uses) else { continue };
                let place = &mut row[*slot as usize];
                if self.first_wiring == 0 {
                    uses[usize::from(*place)] -= 1;
                }
                uses[index as usize] += 1;
                *place = index as u16;
            }
        }
        row[..end].iter().for_each(|index| uses[usize::from(*index)] = 0);
    }

    /// An index that is not in use, the `first` four draws of a slot known; none when every index is in use.
    #[inline(always)]
    fn fresh_index(
        &self,
        draws: RowDraws,
        slot: u32,
        first: impl Iterator<Item = u32>,
        uses: &[u16],
    ) -> Option<u32> {
        let is_free = |index: u32| uses[index as usize] == 0;
        let mut last = 0;
        for index in first {
            if is_free(index) {
                return Some(index);
            }
        }
        for i in 4..MAX_DRAWS {
            last = draws.index(slot, i, self.features);
            if is_free(last) {
                return Some(last);
            }
        }
        let following = (last + 1..self.features).chain(0..=last);
        following.into_iter().find(|index| is_free(*index))
    }

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

/// The slots of a range whose bit is set.
fn pruned_slots(mask: &[u32], slots: Range<usize>) -> impl Iterator<Item = usize> + '_ {
    slots.filter(|slot| mask[slot / 32] >> (slot % 32) & 1 == 1)
}

/// Pruned slots of a row, those that the last rewiring had regrown, regrown ones; the mask takes the last one's place.
fn count_slots(mask: &[u32], regrown: &mut [u32]) -> [u32; 3] {
    let count = |words: &mut dyn Iterator<Item = u32>| words.map(u32::count_ones).sum::<u32>();
    let pruned = count(&mut mask.iter().copied());
    let again = count(&mut mask.iter().zip(&*regrown).map(|(now, before)| now & before));
    regrown.copy_from_slice(mask);
    [pruned, again, pruned]
}

/// What regrowing rows needs, for as long as a thread does it.
struct Room {
    /// How often each index stands in the row. \[D\]
    uses: Vec<u16>,
    /// New weights of the labels that share a row, in whole batches of random words; empty where they are zero.
    weights: Vec<f32>,
    /// New weights of a label, stored; zeros where none are drawn.
    stored: Vec<u32>,
    /// Bits that round to the nearest. \[F\]
    nearest: Vec<u16>,
}

impl Room {
    fn new(p: &Params, draw: bool) -> Self {
        let numbers = (p.group.min(p.rows) * p.fan_in) as usize;
        let drawn = if p.bound > 0.0 { numbers.next_multiple_of(4 * DRAWN) } else { 0 };
        Self {
            uses: vec![0; if draw { p.features as usize } else { 0 }],
            weights: vec![0.0; drawn],
            stored: vec![0; p.weight_words as usize],
            nearest: vec![NEAREST; p.fan_in as usize],
        }
    }
}

/// Where new indices come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Draw {
    /// They stand in the row already.
    Nothing,
    /// From all features.
    Free,
    /// From the slot's stratum, into rows that are stored so.
    Stratified(IndexRows),
}

/// A row of indices with what belongs to it.
struct Row<'a> {
    number: u32,
    mask: &'a [u32],
    indices: &'a mut [u32],
    /// Of the labels that share the row.
    weights: &'a mut [u32],
    states: [&'a mut [u32]; 2],
}

impl Row<'_> {
    #[inline(always)]
    fn regrow(
        self,
        p: &Params,
        [storage, moments]: [Storage; 2],
        draw: Draw,
        slots: Range<usize>,
        room: &mut Room,
    ) {
        let Self { number, mask, indices, weights, states } = self;
        let pruned = || pruned_slots(mask, slots.clone());
        let whole = pruned().count() == p.fan_in as usize;
        if pruned().next().is_none() {
            return;
        }
        match draw {
            Draw::Nothing => {}
            Draw::Free => {
                let row = bytemuck::cast_slice_mut(indices);
                p.draw_indices(number, mask, slots.clone(), row, &mut room.uses);
            }
            Draw::Stratified(rows) => pruned().for_each(|slot| {
                let fresh = p.fresh_in_stratum(number, slot as u32, rows.get(indices, slot));
                rows.put(indices, slot, fresh);
            }),
        }
        p.new_weights(number, &mut room.weights);
        let (fan_in, weight_words) = (p.fan_in as usize, p.weight_words as usize);
        let members = weights.len() / weight_words;
        for (member, weights) in weights.chunks_exact_mut(weight_words).enumerate() {
            if let Some(values) = room.weights.get(member * fan_in..(member + 1) * fan_in) {
                storage.encode_row(values, &room.nearest, &mut room.stored);
            }
            if whole {
                weights.copy_from_slice(&room.stored);
                continue;
            }
            pruned().for_each(|slot| storage.put(weights, slot, storage.code(&room.stored, slot)));
        }
        for states in states {
            for state in states.chunks_exact_mut(p.moment_words as usize).take(members) {
                pruned().for_each(|slot| moments.put(state, slot, 0));
            }
        }
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (states, draw) = (call.constant("STATES"), call.constant("DRAW") == 1);
    let (mask_words, group) = (p.mask_words as usize, p.group as usize);
    let index_rows = p.index_rows as usize;
    let mask = &call.read::<u32>(0)[..index_rows * mask_words];
    let regrown = call.write::<u32>(1);
    let (weight_words, moment_words) = (p.weight_words as usize, p.moment_words as usize);
    let storages = ["WEIGHTS", "MOMENTS"].map(|name| Storage::from_constant(call.constant(name)));
    let weights = &mut call.write::<u32>(2)[..p.rows as usize * weight_words];
    let indices = call.write::<u32>(3);
    let index_rows_stored = IndexRows::from_constant(call.constant("STRATIFIED_FEATURES"), p.fan_in as usize);
    let draw = match (draw, call.constant("STRATIFIED")) {
        (false, _) => Draw::Nothing,
        (true, 0) => Draw::Free,
        (true, _) => Draw::Stratified(index_rows_stored),
    };
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
        .enumerate()
        .with_min_len((MIN_NUMBERS / (group * p.fan_in as usize)).max(1));
    let sums = rows
        .map_init(
            || Room::new(&p, draw == Draw::Free),
            |room, (index_row, (((((mask, regrown), weights), indices), first), second))| {
                let counted = if slots.start == 0 { count_slots(mask, regrown) } else { [0; 3] };
                let row = Row { number: index_row as u32, mask, indices, weights, states: [first, second] };
                vectorised(
                    #[inline(always)]
                    || row.regrow(&p, storages, draw, slots.clone(), room),
                );
                counted
            },
        )
        .reduce(|| [0; 3], |a, b| std::array::from_fn(|i| a[i] + b[i]));
    call.write::<u32>(6).iter_mut().zip(sums).for_each(|(count, sum)| *count += sum);
}
