//! One optimizer step of the embedding table: see `shaders/embedding_update.wgsl`.

use rayon::prelude::*;

use super::optimizer::{PaddedRates, Rates, Rule, state_chunks, step_slices};
use super::optimizer_step::{spans, state_constants, state_variants};
use super::storage::{Rounding, StateStorage, Storage};
use super::vector::vectorised;
use super::workgroups;
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rates: PaddedRates,
    vocabulary: u32,
    hidden: u32,
    unique_tokens: u32,
    rounding: Rounding,
    stream: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "embedding_update",
    source: include_str!("../../shaders/embedding_update.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    twin,
    variants: state_variants,
};

/// One step of `table` [V, H] and its states (same shape, stored as `states` says); `gradient` [U, H] belongs to the rows `unique_tokens` \[U\],
/// ascending, and is zero elsewhere.
pub fn launch(
    vocabulary: usize,
    hidden: usize,
    unique_token_count: usize,
    rule: Rule,
    rates: Rates,
    states: StateStorage,
    [gradient, unique_tokens, table, first, second]: [&Slice; 5],
) -> Launch {
    let params = Params {
        rates: rates.into(),
        vocabulary: vocabulary as u32,
        hidden: hidden as u32,
        unique_tokens: unique_token_count as u32,
        rounding: states.rounding,
        stream: states.stream(),
    };
    Launch {
        kernel: &KERNEL,
        constants: state_constants(rule, states.moments),
        bindings: [gradient, unique_tokens, table, first, second].map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(spans(vocabulary * hidden, states.moments)),
        work: (vocabulary * hidden) as u64,
    }
}

/// Rows of the table that one task of the twin takes.
const CHUNK: usize = 64;

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let rule = Rule::from_constant(call.constant("OPTIMIZER"));
    let moments = Storage::from_constant(call.constant("MOMENTS"));
    let states = StateStorage { moments, rounding: p.rounding, tensor: (p.stream - 16) / 2 };
    let gradient = call.read::<f32>(0);
    let unique_tokens = &call.read::<u32>(1)[..p.unique_tokens as usize];
    let hidden = p.hidden as usize;
    let table = &mut call.write::<f32>(2)[..p.vocabulary as usize * hidden];
    let (chunks, words) = ((p.vocabulary as usize).div_ceil(CHUNK), CHUNK * hidden / moments.per_word());
    let first = state_chunks(call.write::<u32>(3), rule.states() >= 1, words, chunks);
    let second = state_chunks(call.write::<u32>(4), rule.states() >= 2, words, chunks);
    let nothing = vec![0.0; hidden];
    table.par_chunks_mut(CHUNK * hidden).zip(first).zip(second).enumerate().for_each(
        |(chunk, ((table, first), second))| {
            let mut next = unique_tokens.partition_point(|token| (*token as usize) < chunk * CHUNK);
            states.open(chunk * CHUNK * hidden, table.len(), [first, second], |[first, second]| {
                for (row, table) in table.chunks_mut(hidden).enumerate() {
                    let used = unique_tokens.get(next) == Some(&((chunk * CHUNK + row) as u32));
                    let g = if used { &gradient[next * hidden..][..hidden] } else { &nothing };
                    next += usize::from(used);
                    let place = |state: usize| {
                        if rule.states() >= state { row * hidden..(row + 1) * hidden } else { 0..0 }
                    };
                    let (first, second) = (&mut first[place(1)], &mut second[place(2)]);
                    vectorised(
                        #[inline(always)]
                        || step_slices(rule, &p.rates.rates, table, g, first, second),
                    );
                }
            });
        },
    );
}
