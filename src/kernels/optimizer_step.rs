//! One optimizer step of a dense tensor: see `shaders/optimizer_step.wgsl`.

use rayon::prelude::*;

use super::optimizer::{PaddedRates, Rates, Rule, state_chunks, step_slices};
use super::vector::vectorised;
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rates: PaddedRates,
    count: u32,
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
    Rule::variants().into_iter().map(|rule| [rule, vec![("WORKGROUP", WORKGROUP)]].concat()).collect()
}

/// One step of `count` parameters and their states by `gradient`.
pub fn launch(
    count: usize,
    rule: Rule,
    rates: Rates,
    [gradient, parameters, first, second]: [&Slice; 4],
) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("OPTIMIZER", rule as u32), ("WORKGROUP", WORKGROUP)],
        bindings: [gradient, parameters, first, second].map(Clone::clone).to_vec(),
        params: words_of(&Params { rates: rates.into(), count: count as u32 }),
        workgroups: workgroups(count),
        work: count as u64,
    }
}

/// Parameters that one task of the twin takes.
const CHUNK: usize = 16 << 10;

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let rule = Rule::from_constant(call.constant("OPTIMIZER"));
    let gradient = call.read::<f32>(0);
    let parameters = &mut call.write::<f32>(1)[..p.count as usize];
    let chunks = parameters.len().div_ceil(CHUNK);
    let first = state_chunks(call.write(2), rule.states() >= 1, CHUNK, chunks);
    let second = state_chunks(call.write(3), rule.states() >= 2, CHUNK, chunks);
    let tasks = parameters.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).zip(first).zip(second);
    tasks.for_each(|(((parameters, gradient), first), second)| {
        vectorised(
            #[inline(always)]
            || step_slices(rule, &p.rates.rates, parameters, gradient, first, second),
        );
    });
}
