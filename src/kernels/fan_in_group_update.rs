//! Gradients and optimizer step of the weights of labels that share the features of their connections: see
//! `shaders/fan_in_group_update.wgsl`.

use rayon::prelude::*;

use super::fan_in_dlogits::Block;
use super::fan_in_group_logits::tiles;
use super::fan_in_step::{RowScratch, StepOptions, dot, open_features};
use super::optimizer::{PaddedRates, Rule, state_chunks};
use super::storage::{IndexReader, IndexRows, Precision, Rounding, Storage};
use super::vector::vectorised;
use super::{WORKGROUP, columns_of, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

/// Connections of an invocation, for up to as many labels.
const SLOTS: usize = 8;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rates: PaddedRates,
    rows: u32,
    first_label: u32,
    fan_in: u32,
    index_words: u32,
    weight_words: u32,
    moment_words: u32,
    group: u32,
    columns: u32,
    rounding: Rounding,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "fan_in_group_update",
    source: include_str!("../../shaders/fan_in_group_update.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    twin,
    variants,
};

/// Every rule, storage, layout of features and of indices.
fn variants() -> Vec<Constants> {
    let mut all = Vec::new();
    for rows in IndexRows::variants() {
        for precision in Precision::all() {
            for features in [Storage::F32, Storage::F16] {
                let precision = Precision { features, ..precision };
                all.extend(Rule::ALL.map(|rule| constants(rule, precision, rows)));
            }
        }
    }
    all
}

fn constants(rule: Rule, precision: Precision, rows: IndexRows) -> Constants {
    let own = [("FEATURES", precision.features as u32), ("OPTIMIZER", rule as u32), ("WORKGROUP", WORKGROUP)];
    [own.as_slice(), &precision.constants(), &rows.constants()].concat()
}

/// One optimizer step of the weights of a run of labels. In: `x` [D, columns], f16 in pairs where the precision has them
/// so, `indices` [rows / group, index words], `dlogits` [rows, columns]. Changed: `weights` [rows, weight words], their
/// first and second states [rows, moment words].
pub fn launch(
    block: Block,
    step: &StepOptions,
    [x, indices, dlogits]: [&Slice; 3],
    [weights, first, second]: [&Slice; 3],
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
        columns: columns as u32,
        rounding: step.rounding,
    };
    Launch {
        kernel: &KERNEL,
        constants: constants(step.rule, block.precision, block.indices()),
        bindings: [x, indices, dlogits, weights, first, second].map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(tiles(block) * block.fan_in.div_ceil(SLOTS)),
        work: (block.rows * block.fan_in * columns) as u64,
    }
}

/// Rows that one task of the twin takes.
const CHUNK: usize = 64;

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let rule = Rule::from_constant(call.constant("OPTIMIZER"));
    let storage = ["WEIGHTS", "MOMENTS"].map(|name| Storage::from_constant(call.constant(name)));
    let mut room = Vec::new();
    let x = open_features(call.constant("FEATURES"), call.read::<u32>(0), &mut room);
    let index_rows = IndexRows::from_constant(call.constant("STRATIFIED_FEATURES"), p.fan_in as usize);
    let (indices, dlogits) = (call.read::<u32>(1), call.read::<f32>(2));
    let (rows, words, columns) = (p.rows as usize, p.weight_words as usize, p.columns as usize);
    let (moments, chunks) = (p.moment_words as usize, rows.div_ceil(CHUNK));
    let weights = call.write::<u32>(3)[..rows * words].par_chunks_mut(CHUNK * words);
    let first = state_chunks(call.write::<u32>(4), rule.states() >= 1, CHUNK * moments, chunks);
    let second = state_chunks(call.write::<u32>(5), rule.states() >= 2, CHUNK * moments, chunks);
    weights.zip(first).zip(second).enumerate().for_each(|(chunk, ((weights, first), second))| {
        let mut reader = IndexReader::new(index_rows);
        let mut scratch = RowScratch::new(p.fan_in as usize);
        let mut gradients = vec![0.0; p.fan_in as usize];
        for (i, weights) in weights.chunks_exact_mut(words).enumerate() {
            let row = chunk * CHUNK + i;
            let indices = reader.row(indices, row / p.group as usize);
            let g = &dlogits[row * columns..][..columns];
            let state = |number: usize| {
                if rule.states() >= number { i * moments..(i + 1) * moments } else { 0..0 }
            };
            let states = [&mut *weights, &mut first[state(1)], &mut second[state(2)]];
            vectorised(
                #[inline(always)]
                || {
                    for (gradient, feature) in gradients.iter_mut().zip(indices) {
                        *gradient = dot(&x[usize::from(*feature) * columns..][..columns], g);
                    }
                    let random = (p.rounding, p.first_label + row as u32);
                    scratch.step(rule, &p.rates.rates, storage, random, states, &gradients);
                },
            );
        }
    });
}
