//! Gradient of a block's weights, used at once by the optimizer: see `shaders/fan_in_update.wgsl`.

use rayon::prelude::*;

use super::fan_in_dlogits::Block;
use super::optimizer::{PaddedRates, Rates, Rule, state_chunks, step_slices};
use super::vector::vectorised;
use super::{WORKGROUP, columns_of, index_words, workgroups};
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
    Rule::variants().into_iter().map(|rule| [rule, vec![("WORKGROUP", WORKGROUP)]].concat()).collect()
}

/// One step of `weights` [rows, F] and their states (same shape) by the gradient of `dlogits` [rows, columns] and `x`
/// [D, columns] at `indices` [rows / group, index words].
pub fn launch(
    block: Block,
    rule: Rule,
    rates: Rates,
    [x, dlogits, indices, weights, first, second]: [&Slice; 6],
) -> Launch {
    let columns = columns_of(block.batch);
    let params = Params {
        rates: rates.into(),
        rows: block.rows as u32,
        fan_in: block.fan_in as u32,
        index_words: index_words(block.fan_in) as u32,
        group: block.group as u32,
        columns: columns as u32,
    };
    Launch {
        kernel: &KERNEL,
        constants: vec![("OPTIMIZER", rule as u32), ("WORKGROUP", WORKGROUP)],
        bindings: [x, dlogits, indices, weights, first, second].map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(block.rows * block.fan_in),
        work: (block.rows * block.fan_in * columns) as u64,
    }
}

/// Rows that one task of the twin takes.
const CHUNK: usize = 64;

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let rule = Rule::from_constant(call.constant("OPTIMIZER"));
    let (x, dlogits, indices) = (call.read::<f32>(0), call.read::<f32>(1), call.read::<u16>(2));
    let (weights, first, second) = (call.write::<f32>(3), call.write::<f32>(4), call.write::<f32>(5));
    let (rows, columns, fan_in) = (p.rows as usize, p.columns as usize, p.fan_in as usize);
    let weights = &mut weights[..rows * fan_in];
    let chunks = rows.div_ceil(CHUNK);
    let first = state_chunks(first, rule.states() >= 1, CHUNK * fan_in, chunks);
    let second = state_chunks(second, rule.states() >= 2, CHUNK * fan_in, chunks);
    let tasks = weights.par_chunks_mut(CHUNK * fan_in).zip(first).zip(second).enumerate();
    tasks.for_each(|(chunk, ((weights, first), second))| {
        let gradients: Vec<f32> = (0..weights.len())
            .map(|i| {
                let (row, slot) = (chunk * CHUNK + i / fan_in, i % fan_in);
                let feature = indices[row / p.group as usize * p.index_words as usize * 2 + slot];
                let x = &x[usize::from(feature) * columns..][..columns];
                let g = &dlogits[row * columns..][..columns];
                dot(x, g)
            })
            .collect();
        vectorised(
            #[inline(always)]
            || step_slices(rule, &p.rates.rates, weights, &gradients, first, second),
        );
    });
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
