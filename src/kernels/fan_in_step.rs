//! Logits, loss, gradients and the optimizer's step of a run of labels in one launch: see `shaders/fan_in_step.wgsl`.

use rayon::prelude::*;

use super::fan_in_dlogits::{Block, Loss, positives_of};
use super::loss_row::loss_of_label;
use super::optimizer::{PaddedRates, Rates, Rule, state_chunks, step_slices};
use super::storage::{IndexReader, IndexRows, OpenRow, Precision, Rounding, Storage};
use super::vector::vectorised;
use super::{Fetch, WORKGROUP, columns_of, fan_in_step_textures, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

/// The largest fan-in whose features an invocation can keep between logits and gradients: software Vulkan unrolls no
/// loop of more than 32 rounds, and what a loop counts in is no register.
pub(super) const MAX_KEPT: usize = 32;

/// Whether an invocation can keep what it fetched for the logits until the gradients.
#[must_use]
pub fn can_keep(fan_in: usize) -> bool {
    fan_in <= MAX_KEPT
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Params {
    rates: PaddedRates,
    pub(super) rows: u32,
    first_label: u32,
    fan_in: u32,
    index_words: u32,
    weight_words: u32,
    moment_words: u32,
    group: u32,
    batch: u32,
    pub(super) columns: u32,
    positives: u32,
    scale: f32,
    train_bias: u32,
    rounding: Rounding,
}

/// Features, indices and positives; weights, biases and their states; three more that are written: the same for every kernel
/// that takes labels through a whole step.
pub(super) const BINDINGS: &[Access] = &[
    Access::Read,
    Access::Read,
    Access::Read,
    Access::Write,
    Access::Write,
    Access::Write,
    Access::Write,
    Access::Write,
    Access::Write,
    Access::Write,
    Access::Write,
    Access::Write,
];

/// [`BINDINGS`] with features in a texture.
pub(super) const fn bindings_with_texture() -> [Access; BINDINGS.len()] {
    let mut all = [Access::ReadTexture; BINDINGS.len()];
    let mut i = 1;
    while i < BINDINGS.len() {
        all[i] = BINDINGS[i];
        i += 1;
    }
    all
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "fan_in_step",
    source: include_str!("../../shaders/fan_in_step.wgsl"),
    bindings: BINDINGS,
    twin,
    variants,
};

/// The kernel with fetches of 64 bits.
pub static PAIRS: Kernel = Kernel {
    name: "fan_in_step_pairs",
    source: include_str!("../../shaders/fan_in_step_pairs.wgsl"),
    bindings: BINDINGS,
    twin,
    variants: variants_of_pairs,
};

/// Every form, with some of the fan-ins that can be kept.
fn variants() -> Vec<Constants> {
    let mut all = Vec::new();
    for rows in IndexRows::variants() {
        for precision in Precision::all() {
            for rule in Rule::ALL {
                let of = |loss, precision, kept| constants(loss, rule, precision, rows, kept);
                all.extend([Loss::Bce, Loss::SquaredHinge].map(|loss| of(loss, precision, 0)));
                let halves = Precision { features: Storage::F16, ..precision };
                for kept in [1, 7, MAX_KEPT] {
                    all.extend([precision, halves].map(|precision| of(Loss::Bce, precision, kept)));
                }
                all.push(of(Loss::SquaredHinge, halves, 0));
            }
        }
    }
    all
}

/// Every rule, storage, layout of features and of indices, with and without what is kept; the rest is that of [`variants`].
fn variants_of_pairs() -> Vec<Constants> {
    let mut all = Vec::new();
    for rows in IndexRows::variants() {
        for precision in Precision::all() {
            for rule in Rule::ALL {
                let halves = Precision { features: Storage::F16, ..precision };
                all.push(constants(Loss::Bce, rule, precision, rows, MAX_KEPT));
                all.push(constants(Loss::SquaredHinge, rule, halves, rows, 0));
            }
        }
    }
    all
}

pub(super) fn constants(
    loss: Loss,
    rule: Rule,
    precision: Precision,
    rows: IndexRows,
    kept: usize,
) -> Constants {
    let own = [
        ("FEATURES", precision.features as u32),
        ("KEPT", kept as u32),
        ("LOSS", loss as u32),
        ("OPTIMIZER", rule as u32),
        ("WORKGROUP", WORKGROUP),
    ];
    [own.as_slice(), &precision.constants(), &rows.constants()].concat()
}

/// What one step computes with.
#[derive(Clone, Copy, Debug)]
pub struct StepOptions {
    /// Loss over every (sample, label) pair.
    pub loss: Loss,
    /// What the gradient is multiplied with.
    pub scale: f32,
    /// (label, sample) pairs of the batch.
    pub positives: usize,
    /// Update rule.
    pub rule: Rule,
    /// Of the optimizer.
    pub rates: Rates,
    /// For narrow storage.
    pub rounding: Rounding,
    /// Whether biases are trained.
    pub train_bias: bool,
    /// Where fetches are dear an invocation keeps what it fetched for the logits until the gradients, if its fan-in allows.
    pub fetch: Fetch,
}

/// One step of a run of labels. In: `x` [D, columns], f16 in
/// pairs where the precision has them so, `indices` [rows / group, index words], `positives` (label, sample)
/// pairs [P, 2] of the batch sorted by label, then sample. Changed: `weights` [rows, weight words], `bias` \[rows\], their
/// first and second states [rows, moment words] and \[rows\]. Out: `dlogits` [rows, columns], the gradient of the loss times
/// the scale; `before` [rows, weight words], the weights as they were, which the features' gradient needs; `label_loss`
/// \[rows\], summed over the samples. With [`Fetch::Textures`], `x` and `dlogits` are textures.
pub fn launch(
    block: Block,
    step: &StepOptions,
    [x, indices, positives]: [&Slice; 3],
    [weights, bias, first, second, bias_first, bias_second]: [&Slice; 6],
    [dlogits, before, label_loss]: [&Slice; 3],
) -> Launch {
    let columns = columns_of(block.batch);
    let params = Params {
        rates: step.rates.into(),
        rows: block.rows as u32,
        first_label: block.first_label as u32,
        fan_in: block.fan_in as u32,
        index_words: block.index_words() as u32,
        weight_words: block.weight_words() as u32,
        moment_words: block.moment_words() as u32,
        group: block.group as u32,
        batch: block.batch as u32,
        columns: columns as u32,
        positives: step.positives as u32,
        scale: step.scale,
        train_bias: u32::from(step.train_bias),
        rounding: step.rounding,
    };
    let kept = if step.fetch != Fetch::Cheap && can_keep(block.fan_in) { block.fan_in } else { 0 };
    let (loss, rule, precision, rows) = (step.loss, step.rule, block.precision, block.indices());
    let constants = constants(loss, rule, precision, rows, kept);
    let (kernel, constants) = match step.fetch {
        Fetch::Textures => fan_in_step_textures::form(block, constants),
        Fetch::DearPairs => (&PAIRS, constants),
        Fetch::Dear | Fetch::Cheap => (&KERNEL, constants),
    };
    let bindings = [
        x,
        indices,
        positives,
        weights,
        bias,
        first,
        second,
        bias_first,
        bias_second,
        dlogits,
        before,
        label_loss,
    ];
    Launch {
        kernel,
        constants,
        bindings: bindings.map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(block.rows),
        work: (2 * block.rows * block.fan_in * columns) as u64,
    }
}

/// Rows that one task of the twin takes.
const CHUNK: usize = 64;

/// A task of the twin: some rows and what belongs to them.
struct Rows<'a> {
    first_row: usize,
    weights: &'a mut [u32],
    bias: &'a mut [f32],
    states: [&'a mut [u32]; 2],
    bias_states: [&'a mut [f32]; 2],
    dlogits: &'a mut [f32],
    before: &'a mut [u32],
    label_loss: &'a mut [f32],
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let mut room = Vec::new();
    let x = open_features(call.constant("FEATURES"), call.read::<u32>(0), &mut room);
    let dlogits = call.write::<f32>(9);
    step_all(call, &p, x, dlogits);
}

/// The twin for features `x` [D, columns] and logit gradients [rows, columns].
pub(super) fn step_all(call: &mut TwinCall<'_>, p: &Params, x: &[f32], dlogits: &mut [f32]) {
    let rule = Rule::from_constant(call.constant("OPTIMIZER"));
    let loss = Loss::from_constant(call.constant("LOSS")).expect("a loss");
    let storage = ["WEIGHTS", "MOMENTS"].map(|name| Storage::from_constant(call.constant(name)));
    let indices = call.read::<u32>(1);
    let index_rows = IndexRows::from_constant(call.constant("STRATIFIED_FEATURES"), p.fan_in as usize);
    let positives = &call.read::<[u32; 2]>(2)[..p.positives as usize];
    let (rows, words, columns) = (p.rows as usize, p.weight_words as usize, p.columns as usize);
    let chunks = rows.div_ceil(CHUNK);
    let moments = CHUNK * p.moment_words as usize;
    let has = |state: usize| rule.states() >= state;
    let weights = call.write::<u32>(3)[..rows * words].par_chunks_mut(CHUNK * words);
    let bias = call.write::<f32>(4)[..rows].par_chunks_mut(CHUNK);
    let first = state_chunks(call.write::<u32>(5), has(1), moments, chunks);
    let second = state_chunks(call.write::<u32>(6), has(2), moments, chunks);
    let bias_first = state_chunks(call.write::<f32>(7), has(1), CHUNK, chunks);
    let bias_second = state_chunks(call.write::<f32>(8), has(2), CHUNK, chunks);
    let dlogits = dlogits[..rows * columns].par_chunks_mut(CHUNK * columns);
    let before = call.write::<u32>(10)[..rows * words].par_chunks_mut(CHUNK * words);
    let label_loss = call.write::<f32>(11)[..rows].par_chunks_mut(CHUNK);
    let changed = weights.zip(bias).zip(first).zip(second).zip(bias_first).zip(bias_second);
    let tasks = changed.zip(dlogits.zip(before).zip(label_loss)).enumerate();
    tasks.for_each(|(chunk, (changed, ((dlogits, before), label_loss)))| {
        let (((((weights, bias), first), second), bias_first), bias_second) = changed;
        let first_row = chunk * CHUNK;
        let (states, bias_states) = ([first, second], [bias_first, bias_second]);
        let rows = Rows { first_row, weights, bias, states, bias_states, dlogits, before, label_loss };
        rows.step(p, (x, indices, positives), IndexReader::new(index_rows), (rule, storage, loss));
    });
}

impl Rows<'_> {
    fn step(
        self,
        p: &Params,
        (x, indices, positives): (&[f32], &[u32], &[[u32; 2]]),
        mut reader: IndexReader,
        (rule, storage, loss): (Rule, [Storage; 2], Loss),
    ) {
        let Self {
            first_row,
            weights,
            bias,
            states: [first, second],
            bias_states,
            dlogits,
            before,
            label_loss,
        } = self;
        let (fan_in, columns, batch) = (p.fan_in as usize, p.columns as usize, p.batch as usize);
        let (words, moments) = (p.weight_words as usize, p.moment_words as usize);
        let mut scratch = RowScratch::new(fan_in);
        let mut gradients = vec![0.0; fan_in];
        let mut bias_gradients = vec![0.0; bias.len()];
        before.copy_from_slice(weights);
        for (i, weights) in weights.chunks_exact_mut(words).enumerate() {
            let (row, label) = (first_row + i, p.first_label + (first_row + i) as u32);
            let indices = reader.row(indices, row / p.group as usize);
            let z = &mut dlogits[i * columns..][..columns];
            let state = |number: usize| {
                if rule.states() >= number { i * moments..(i + 1) * moments } else { 0..0 }
            };
            let (first, second) = (&mut first[state(1)], &mut second[state(2)]);
            vectorised(
                #[inline(always)]
                || {
                    let of = |feature: &u16| &x[usize::from(*feature) * columns..][..columns];
                    z.fill(bias[i]);
                    for (slot, feature) in indices.iter().enumerate() {
                        let w = storage[0].get(weights, slot);
                        z.iter_mut().zip(of(feature)).for_each(|(z, x)| *z += w * x);
                    }
                    let positives = positives_of(positives, label);
                    label_loss[i] = loss_of_label(loss, z, batch, positives, p.scale);
                    for (gradient, feature) in gradients.iter_mut().zip(indices) {
                        *gradient = dot(of(feature), z);
                    }
                    bias_gradients[i] = z.iter().sum();
                    let random = (p.rounding, label);
                    scratch.step(rule, &p.rates.rates, storage, random, [weights, first, second], &gradients);
                },
            );
        }
        if p.train_bias == 1 {
            let [first, second] = bias_states;
            step_slices(rule, &p.rates.rates.without_decay(), bias, &bias_gradients, first, second);
        }
    }
}

/// The features of a step as f32, in `room` where they lie otherwise; `features` is the shader's constant.
pub(super) fn open_features<'a>(features: u32, words: &'a [u32], room: &'a mut Vec<f32>) -> &'a [f32] {
    let storage = Storage::from_constant(features);
    if storage == Storage::F32 {
        return bytemuck::cast_slice(words);
    }
    room.resize(words.len() * 2, 0.0);
    storage.decode_row(words, room);
    room
}

/// Room for a row of weights and its states in f32.
pub(super) struct RowScratch {
    values: [Vec<f32>; 3],
    bits: Vec<u16>,
}

impl RowScratch {
    pub(super) fn new(fan_in: usize) -> Self {
        Self { values: std::array::from_fn(|_| vec![0.0; fan_in]), bits: vec![0; fan_in] }
    }

    /// One optimizer step of a label's stored weights and states, which are empty where the rule has none.
    #[inline(always)]
    pub(super) fn step(
        &mut self,
        rule: Rule,
        rates: &Rates,
        [storage, moments]: [Storage; 2],
        (rounding, label): (Rounding, u32),
        [weights, first, second]: [&mut [u32]; 3],
        gradients: &[f32],
    ) {
        // Nothing to round, and so nothing to prepare for it in every row.
        if storage == Storage::F32 && (moments == Storage::F32 || rule.states() == 0) {
            let [weights, first, second] = [weights, first, second].map(bytemuck::cast_slice_mut::<u32, f32>);
            step_slices(rule, rates, weights, gradients, first, second);
            return;
        }
        let [values, first_values, second_values] = &mut self.values;
        let weights = OpenRow::new(storage, weights, values);
        let first = OpenRow::new(moments, first, first_values);
        let second = OpenRow::new(moments, second, second_values);
        step_slices(rule, rates, weights.values, gradients, first.values, second.values);
        for (tensor, row) in [weights, first, second].into_iter().enumerate() {
            row.close(
                &mut self.bits,
                #[inline(always)]
                |bits| rounding.row(tensor as u32, label, bits),
            );
        }
    }
}

/// Σ a·b in sixteen lanes, then their sum.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    for (a, b) in a.chunks_exact(16).zip(b.chunks_exact(16)) {
        lanes.iter_mut().zip(a).zip(b).for_each(|((lane, a), b)| *lane += a * b);
    }
    lanes.iter().sum()
}
