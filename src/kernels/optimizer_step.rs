//! One optimizer step of a dense tensor: see `shaders/optimizer_step.wgsl`.

use rayon::prelude::*;

use super::optimizer::{PaddedRates, Rates, Rule, state_chunks, step_slices};
use super::storage::{Precision, Rounding, StateStorage, Storage};
use super::vector::vectorised;
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rates: PaddedRates,
    count: u32,
    rounding: Rounding,
    stream: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "optimizer_step",
    source: include_str!("../../shaders/optimizer_step.wgsl"),
    bindings: &[Access::Read, Access::Write, Access::Write, Access::Write],
    twin,
    variants,
};

fn variants() -> Vec<Constants> {
    state_variants()
}

/// Every rule with every storage of its states.
pub(super) fn state_variants() -> Vec<Constants> {
    let with = |moments| Rule::ALL.map(|rule| state_constants(rule, moments));
    [Storage::F32, Storage::Bf16].map(with).concat()
}

/// The constants of a rule whose states are stored so.
pub(super) fn state_constants(rule: Rule, moments: Storage) -> Constants {
    vec![("OPTIMIZER", rule as u32), ("MOMENTS", moments as u32), ("WORKGROUP", WORKGROUP)]
}

/// Invocations for `count` numbers: each owns those that share a word of the states.
pub(super) fn spans(count: usize, moments: Storage) -> usize {
    count.div_ceil(Precision { moments, ..Precision::default() }.span())
}

/// One step of `count` parameters and their states, stored as `states` says, by `gradient`.
pub fn launch(
    count: usize,
    rule: Rule,
    rates: Rates,
    states: StateStorage,
    [gradient, parameters, first, second]: [&Slice; 4],
) -> Launch {
    let params = Params {
        rates: rates.into(),
        count: count as u32,
        rounding: states.rounding,
        stream: states.stream(),
    };
    Launch {
        kernel: &KERNEL,
        constants: state_constants(rule, states.moments),
        bindings: [gradient, parameters, first, second].map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(spans(count, states.moments)),
        work: count as u64,
    }
}

/// Parameters that one task of the twin takes.
const CHUNK: usize = 16 << 10;

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let rule = Rule::from_constant(call.constant("OPTIMIZER"));
    let moments = Storage::from_constant(call.constant("MOMENTS"));
    let states = StateStorage { moments, rounding: p.rounding, tensor: (p.stream - 16) / 2 };
    let gradient = call.read::<f32>(0);
    let parameters = &mut call.write::<f32>(1)[..p.count as usize];
    let (chunks, words) = (parameters.len().div_ceil(CHUNK), CHUNK / moments.per_word());
    let first = state_chunks(call.write::<u32>(2), rule.states() >= 1, words, chunks);
    let second = state_chunks(call.write::<u32>(3), rule.states() >= 2, words, chunks);
    let tasks = parameters.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).zip(first).zip(second);
    tasks.enumerate().for_each(|(chunk, (((parameters, gradient), first), second))| {
        vectorised(
            #[inline(always)]
            || {
                states.open(chunk * CHUNK, parameters.len(), [first, second], |[first, second]| {
                    step_slices(rule, &p.rates.rates, parameters, gradient, first, second);
                });
            },
        );
    });
}
