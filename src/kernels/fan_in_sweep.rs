//! The classifier's step over a block of labels in one pass, on the CPU: what `fan_in_step`, `fan_in_feature_gradient`
//! and `loss_sum` do one after the other.
//!
//! Each label's weights are read once and written once; its logits live in a row of B numbers and are gone before
//! the next label. Labels that share a row of indices go together: the features that they look at are gathered once,
//! and logits, gradients of weights and gradients of those features are three small dense products (`group_tiles`).
//! The features' gradient is gathered in a fixed number of partial sums, whatever the number of threads, and these are
//! added in order.

use std::cell::Cell;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::columns_of;
use super::fan_in_dlogits::{Block, Loss};
use super::fan_in_step::{BINDINGS, RowScratch};
use super::group_tiles::{GroupGradients, GroupLogits, open_group};
use super::label_walk::{SideBySide, sum};
use super::loss_row::{LossSum, loss_row};
use super::optimizer::{Rates, Rule, state_chunks, step_slices};
use super::storage::{IndexReader, IndexRows, Rounding, Storage};
use super::vector::fuses;
use crate::device::{Fused, TwinCall, words_of};

/// Parts into which a block's labels are cut; each has its own partial gradient of the features.
const PARTS: usize = 16;

/// A part has at least so many labels, else its partial gradient costs more than its labels.
const MIN_PART_ROWS: usize = 128;

/// Bytes of the partial gradients of blocks of up to `rows` labels.
#[must_use]
pub fn partial_bytes(rows: usize, features: usize, batch: usize) -> u64 {
    let parts = PARTS.min(rows.div_ceil(MIN_PART_ROWS));
    (parts * features * columns_of(batch) * 4) as u64
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    first_label: u32,
    fan_in: u32,
    stratified_features: u32,
    weight_words: u32,
    moment_words: u32,
    weights: u32,
    moments: u32,
    rounding: Rounding,
    group: u32,
    batch: u32,
    columns: u32,
    positives: u32,
    features: u32,
    hinge: u32,
    rule: u32,
    place: u32,
    train_bias: u32,
    scale: f32,
    loss_scale: f32,
    rates: Rates,
}

/// The one-pass form. Bindings: x, indices, positives; weights, bias, states of the weights (2), of the bias (2),
/// partial gradients ([`partial_bytes`]), dx, the ring of losses.
pub static FUSED: Fused = Fused { name: "fan_in_sweep", bindings: BINDINGS, twin };

/// The parameters of [`FUSED`].
#[must_use]
pub fn params(
    block: Block,
    features: usize,
    positives: usize,
    loss: Loss,
    scale: f32,
    loss_scale: f32,
    place: usize,
    rule: Rule,
    rates: Rates,
    rounding: Rounding,
    train_bias: bool,
) -> Vec<u32> {
    words_of(&Params {
        rows: block.rows as u32,
        first_label: block.first_label as u32,
        fan_in: block.fan_in as u32,
        stratified_features: block.indices().constants()[0].1,
        weight_words: block.weight_words() as u32,
        moment_words: block.moment_words() as u32,
        weights: block.precision.weights as u32,
        moments: block.precision.moments as u32,
        rounding,
        group: block.group as u32,
        batch: block.batch as u32,
        columns: columns_of(block.batch) as u32,
        positives: positives as u32,
        features: features as u32,
        hinge: u32::from(loss == Loss::SquaredHinge),
        rule: rule as u32,
        place: place as u32,
        train_bias: u32::from(train_bias),
        scale,
        loss_scale,
        rates,
    })
}

thread_local! {
    /// A thread's room for features and their gradient side by side, which stays in its cache from part to part.
    static SIDES: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// A run of labels and everything that belongs to them.
struct Part<'a> {
    p: &'a Params,
    x: &'a [f32],
    indices: &'a [u32],
    positives: &'a [[u32; 2]],
    first_row: usize,
    weights: &'a mut [u32],
    bias: &'a mut [f32],
    first: &'a mut [u32],
    second: &'a mut [u32],
    bias_first: &'a mut [f32],
    bias_second: &'a mut [f32],
    /// The gradient of the features.
    partial: &'a mut [f32],
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (rule, bf16) = (Rule::from_constant(p.rule), call.bf16_products());

    let positives = &call.read::<[u32; 2]>(2)[..p.positives as usize];
    let (rows, weight_words, moment_words) =
        (p.rows as usize, p.weight_words as usize, p.moment_words as usize);
    let area = p.features as usize * p.columns as usize;
    let (x, indices) = (&call.read::<f32>(0)[..area], call.read::<u32>(1));
    let weights = &mut call.write::<u32>(3)[..rows * weight_words];
    let bias = &mut call.write::<f32>(4)[..rows];
    // Whole groups in a part, so that a part's first row starts a row of indices.
    let part_rows = rows.div_ceil(PARTS).max(MIN_PART_ROWS).next_multiple_of(p.group as usize);
    let parts = rows.div_ceil(part_rows);
    let has = |state: usize| rule.states() >= state;
    let first = state_chunks(call.write::<u32>(5), has(1), part_rows * moment_words, parts);
    let second = state_chunks(call.write::<u32>(6), has(2), part_rows * moment_words, parts);
    let bias_first = state_chunks(call.write(7), has(1), part_rows, parts);
    let bias_second = state_chunks(call.write(8), has(2), part_rows, parts);
    let partial = &mut call.write::<f32>(9)[..parts * area];
    let dx = &mut call.write::<f32>(10)[..area];
    let losses = call.write::<f32>(11);

    let tasks = weights
        .par_chunks_mut(part_rows * weight_words)
        .zip(bias.par_chunks_mut(part_rows))
        .zip(first)
        .zip(second)
        .zip(bias_first)
        .zip(bias_second)
        .zip(partial.par_chunks_mut(area))
        .enumerate();
    let part_losses: Vec<f64> = tasks
        .map(|(part, ((((((weights, bias), first), second), bias_first), bias_second), partial))| {
            let first_row = part * part_rows;
            let part = Part {
                p: &p,
                x,
                indices,
                positives,
                first_row,
                weights,
                bias,
                first,
                second,
                bias_first,
                bias_second,
                partial,
            };
            if p.group == 1 {
                pulp::Arch::new().dispatch(part)
            } else {
                pulp::Arch::new().dispatch(Groups(part, bf16))
            }
        })
        .collect();

    let partial = &*partial;
    dx.par_chunks_mut(p.columns as usize * 8).enumerate().for_each(|(chunk, dx)| {
        let at = chunk * p.columns as usize * 8;
        for part in partial.chunks_exact(area) {
            dx.iter_mut().zip(&part[at..]).for_each(|(dx, partial)| *dx += partial);
        }
    });
    losses[p.place as usize] += p.loss_scale * part_losses.iter().sum::<f64>() as f32;
}

impl WithSimd for Part<'_> {
    /// Sum of the losses of the part's labels.
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let p = self.p;
        let (fan_in, columns) = (p.fan_in as usize, p.columns as usize);
        let mut own_sides = SIDES.take();
        own_sides.resize(own_sides.len().max(2 * self.x.len() + 16), 0.0);
        // From a cache line on, as all buffers are.
        let start = own_sides.as_ptr().align_offset(64).min(16);
        let room = &mut own_sides[start..][..2 * self.x.len()];
        let mut sides = SideBySide::<S>::new(simd, self.x, room, columns / S::F32_LANES);
        let mut row_room = vec![0.0_f32; columns + 16];
        let start = row_room.as_ptr().align_offset(64).min(16);
        let row_values = &mut row_room[start..start + columns];
        let mut gradients = vec![0.0_f32; fan_in];
        let (storage, weight_words) = (Storage::from_constant(p.weights), p.weight_words as usize);
        let mut opened = vec![0.0_f32; if storage == Storage::F32 { 0 } else { fan_in }];
        let mut scratch = RowScratch::new(fan_in);
        let mut bias_gradients = vec![0.0_f32; self.bias.len()];
        let mut indices = p.index_reader();
        let first_label = p.first_label + self.first_row as u32;
        let mut positives = &self.positives[self.positives.partition_point(|pair| pair[0] < first_label)..];
        let mut losses = LossSum::default();
        for (row, bias_gradient) in bias_gradients.iter_mut().enumerate() {
            let stored = &self.weights[row * weight_words..][..weight_words];
            let weights: &[f32] = if storage == Storage::F32 {
                bytemuck::cast_slice(stored)
            } else {
                storage.decode_row(stored, &mut opened);
                &opened
            };
            let indices = indices.row(self.indices, self.first_row + row);
            let (z, _) = S::as_mut_simd_f32s(row_values);
            sides.logits(simd, weights, indices, self.bias[row], z);

            let (mine, later) = split_label(positives, first_label + row as u32);
            positives = later;
            p.loss::<S>(row_values, mine, &mut losses);

            let (g, _) = S::as_simd_f32s(row_values);
            *bias_gradient = sum(simd, g);
            sides.backward(simd, weights, indices, g, &mut gradients);

            step_label(
                p,
                &mut scratch,
                row,
                first_label,
                [self.weights, self.first, self.second],
                &gradients,
            );
        }
        sides.take_gradient(self.partial);
        SIDES.set(own_sides);
        p.step_bias(self.bias, &bias_gradients, [self.bias_first, self.bias_second]);
        losses.total()
    }
}

/// A part whose labels share rows of indices, and whether their products may be those in bf16.
struct Groups<'a>(Part<'a>, bool);

impl WithSimd for Groups<'_> {
    /// Sum of the losses of the part's labels.
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let Self(part, bf16) = self;
        let p = part.p;
        let (fan_in, columns, group) = (p.fan_in as usize, p.columns as usize, p.group as usize);
        let (storage, weight_words) = (Storage::from_constant(p.weights), p.weight_words as usize);
        let mut tile = GroupLogits::new(part.x, fan_in, columns, group, bf16);
        let mut gradients = GroupGradients::new::<S>(&tile, group);
        part.partial.fill(0.0);
        let mut opened = vec![0.0_f32; group * fan_in];
        let mut scratch = RowScratch::new(fan_in);
        let mut bias_gradients = vec![0.0_f32; part.bias.len()];
        let mut indices = p.index_reader();
        let first_label = p.first_label + part.first_row as u32;
        let mut positives = &part.positives[part.positives.partition_point(|pair| pair[0] < first_label)..];
        let mut losses = LossSum::default();
        for first in (0..part.bias.len()).step_by(group) {
            let bias = &part.bias[first..part.bias.len().min(first + group)];
            let labels = bias.len();
            let stored = &part.weights[first * weight_words..][..labels * weight_words];
            let weights = open_group(storage, stored, weight_words, fan_in, &mut opened);
            let index_row = (part.first_row + first) / group;
            let indices = indices.row(part.indices, index_row);
            tile.compute(simd, indices, weights, bias);
            for member in 0..labels {
                let (mine, later) = split_label(positives, first_label + (first + member) as u32);
                positives = later;
                let row = tile.row(member);
                p.loss::<S>(row, mine, &mut losses);
                bias_gradients[first + member] = sum(simd, S::as_simd_f32s(row).0);
            }
            gradients.compute(simd, &mut tile, labels, indices, weights, part.partial);
            for member in 0..labels {
                let stored = [&mut *part.weights, &mut *part.first, &mut *part.second];
                let gradients = gradients.of_weights(member, fan_in);
                step_label(p, &mut scratch, first + member, first_label, stored, gradients);
            }
        }
        p.step_bias(part.bias, &bias_gradients, [part.bias_first, part.bias_second]);
        losses.total()
    }
}

impl Params {
    fn index_reader(&self) -> IndexReader {
        IndexReader::new(IndexRows::from_constant(self.stratified_features, self.fan_in as usize))
    }

    /// [`loss_row`] of a label.
    #[inline(always)]
    fn loss<S: Simd>(&self, z: &mut [f32], positives: &[[u32; 2]], losses: &mut LossSum) {
        let (batch, scale) = (self.batch as usize, self.scale);
        match (self.hinge == 1, const { fuses::<S>() }) {
            (true, false) => loss_row::<true, false>(z, batch, positives, scale, losses),
            (true, true) => loss_row::<true, true>(z, batch, positives, scale, losses),
            (false, false) => loss_row::<false, false>(z, batch, positives, scale, losses),
            (false, true) => loss_row::<false, true>(z, batch, positives, scale, losses),
        }
    }

    /// The optimizer step of the biases, if they are trained.
    #[inline(always)]
    fn step_bias(&self, bias: &mut [f32], gradients: &[f32], [first, second]: [&mut [f32]; 2]) {
        if self.train_bias == 1 {
            let rates = self.rates.without_decay();
            step_slices(Rule::from_constant(self.rule), &rates, bias, gradients, first, second);
        }
    }
}

/// The optimizer step of the weights of a part's label `row`; `first_label` is the part's first.
#[inline(always)]
fn step_label(
    p: &Params,
    scratch: &mut RowScratch,
    row: usize,
    first_label: u32,
    [weights, first, second]: [&mut [u32]; 3],
    gradients: &[f32],
) {
    let rule = Rule::from_constant(p.rule);
    let (weight_words, moment_words) = (p.weight_words as usize, p.moment_words as usize);
    let state = |number: usize| {
        if rule.states() >= number { row * moment_words..(row + 1) * moment_words } else { 0..0 }
    };
    let stored =
        [&mut weights[row * weight_words..][..weight_words], &mut first[state(1)], &mut second[state(2)]];
    let storage = [p.weights, p.moments].map(Storage::from_constant);
    let random = (p.rounding, first_label + row as u32);
    scratch.step(rule, &p.rates, storage, random, stored, gradients);
}

/// The pairs of `label` at the front of `positives`, whose labels are not below it, and those after them. Most labels
/// have none, which one look tells.
#[inline(always)]
fn split_label(positives: &[[u32; 2]], label: u32) -> (&[[u32; 2]], &[[u32; 2]]) {
    let count = positives.iter().take_while(|pair| pair[0] == label).count();
    positives.split_at(count)
}
