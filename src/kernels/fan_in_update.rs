//! Gradient of a block's weights, used at once by the optimizer: see `shaders/fan_in_update.wgsl`.

use rayon::prelude::*;

use super::fan_in_dlogits::Block;
use super::optimizer::{PaddedRates, Rates, Rule, state_chunks, step_slices};
use super::storage::{IndexRows, OpenRow, Precision, Rounding, Storage};
use super::vector::vectorised;
use super::{WORKGROUP, columns_of, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rates: PaddedRates,
    rows: u32,
    fan_in: u32,
    index_words: u32,
    group: u32,
    columns: u32,
    first_label: u32,
    weight_words: u32,
    moment_words: u32,
    rounding: Rounding,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "fan_in_update",
    source: include_str!("../../shaders/fan_in_update.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    twin,
    variants,
};

fn variants() -> Vec<Constants> {
    let of = |rows| {
        let precisions = Precision::all().into_iter();
        let all = precisions.flat_map(|precision| Rule::ALL.map(|rule| constants(rule, precision, rows)));
        all.collect::<Vec<_>>()
    };
    IndexRows::variants().map(of).concat()
}

fn constants(rule: Rule, precision: Precision, rows: IndexRows) -> Constants {
    let own = vec![("OPTIMIZER", rule as u32), ("WORKGROUP", WORKGROUP)];
    [own, precision.constants().to_vec(), rows.constants().to_vec()].concat()
}

/// One step of `weights` [rows, weight words] and their states [rows, moment words] by the gradient of `dlogits` [rows,
/// columns] and `x` [D, columns] at `indices` [rows / group, index words]. `rounding` is for narrow storage.
pub fn launch(
    block: Block,
    rule: Rule,
    rates: Rates,
    rounding: Rounding,
    [x, dlogits, indices, weights, first, second]: [&Slice; 6],
) -> Launch {
    let columns = columns_of(block.batch);
    let params = Params {
        rates: rates.into(),
        rows: block.rows as u32,
        fan_in: block.fan_in as u32,
        index_words: block.index_words() as u32,
        group: block.group as u32,
        columns: columns as u32,
        first_label: block.first_label as u32,
        weight_words: block.weight_words() as u32,
        moment_words: block.moment_words() as u32,
        rounding,
    };
    Launch {
        kernel: &KERNEL,
        constants: constants(rule, block.precision, block.indices()),
        bindings: [x, dlogits, indices, weights, first, second].map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(block.rows * block.fan_in.div_ceil(block.precision.span())),
        work: (block.rows * block.fan_in * columns) as u64,
    }
}

/// Rows that one task of the twin takes.
const CHUNK: usize = 64;

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let rule = Rule::from_constant(call.constant("OPTIMIZER"));
    let [storage, moments] = ["WEIGHTS", "MOMENTS"].map(|name| Storage::from_constant(call.constant(name)));
    let (x, dlogits, indices) = (call.read::<f32>(0), call.read::<f32>(1), call.read::<u32>(2));
    let (rows, columns, fan_in) = (p.rows as usize, p.columns as usize, p.fan_in as usize);
    let (weight_words, moment_words) = (p.weight_words as usize, p.moment_words as usize);
    let stored_rows = IndexRows::from_constant(call.constant("STRATIFIED_FEATURES"), fan_in);
    let weights = &mut call.write::<u32>(3)[..rows * weight_words];
    let chunks = rows.div_ceil(CHUNK);
    let first = state_chunks(call.write::<u32>(4), rule.states() >= 1, CHUNK * moment_words, chunks);
    let second = state_chunks(call.write::<u32>(5), rule.states() >= 2, CHUNK * moment_words, chunks);
    let tasks = weights.par_chunks_mut(CHUNK * weight_words).zip(first).zip(second).enumerate();
    tasks.for_each(|(chunk, ((weights, first), second))| {
        let mut scratch = RowScratch::new(fan_in);
        let mut gradients = vec![0.0; fan_in];
        for (i, weights) in weights.chunks_exact_mut(weight_words).enumerate() {
            let row = chunk * CHUNK + i;
            let indices = &indices[row / p.group as usize * p.index_words as usize..];
            let g = &dlogits[row * columns..][..columns];
            for (slot, gradient) in gradients.iter_mut().enumerate() {
                *gradient = dot(&x[stored_rows.get(indices, slot) * columns..][..columns], g);
            }
            let state = |number: usize| {
                if rule.states() >= number { i * moment_words..(i + 1) * moment_words } else { 0..0 }
            };
            let stored = [weights, &mut first[state(1)], &mut second[state(2)]];
            let label = p.first_label + row as u32;
            vectorised(
                #[inline(always)]
                || {
                    scratch.step(
                        rule,
                        &p.rates.rates,
                        [storage, moments],
                        (p.rounding, label),
                        stored,
                        &gradients,
                    )
                },
            );
        }
    });
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
fn dot(a: &[f32], b: &[f32]) -> f32 {
    vectorised(
        #[inline(always)]
        || {
            let mut lanes = [0.0_f32; 16];
            for (a, b) in a.chunks_exact(16).zip(b.chunks_exact(16)) {
                lanes.iter_mut().zip(a).zip(b).for_each(|((lane, a), b)| *lane += a * b);
            }
            lanes.iter().sum()
        },
    )
}
