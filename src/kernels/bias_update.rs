//! Gradient of a block's biases and one optimizer step of them: see `shaders/bias_update.wgsl`.

use super::fan_in_dlogits::Block;
use super::optimizer::{PaddedRates, Rates, Rule, step_slices};
use super::{WORKGROUP, columns_of, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rates: PaddedRates,
    rows: u32,
    columns: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "bias_update",
    source: include_str!("../../shaders/bias_update.wgsl"),
    bindings: &[Access::Read, Access::Write, Access::Write, Access::Write],
    twin,
    variants,
};

fn variants() -> Vec<Constants> {
    Rule::variants().into_iter().map(|rule| [rule, vec![("WORKGROUP", WORKGROUP)]].concat()).collect()
}

/// One step, without weight decay, of `bias` \[rows\] and its states (same shape) by the sums of `dlogits` [rows,
/// columns] over the samples.
pub fn launch(block: Block, rule: Rule, rates: Rates, [dlogits, bias, first, second]: [&Slice; 4]) -> Launch {
    let columns = columns_of(block.batch);
    let rates = rates.without_decay().into();
    let params = Params { rates, rows: block.rows as u32, columns: columns as u32 };
    Launch {
        kernel: &KERNEL,
        constants: vec![("OPTIMIZER", rule as u32), ("WORKGROUP", WORKGROUP)],
        bindings: [dlogits, bias, first, second].map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(block.rows),
        work: (block.rows * columns) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let rule = Rule::from_constant(call.constant("OPTIMIZER"));
    let dlogits = call.read::<f32>(0);
    let (bias, first, second) = (call.write::<f32>(1), call.write::<f32>(2), call.write::<f32>(3));
    let rows = p.rows as usize;
    let gradients: Vec<f32> =
        dlogits.chunks_exact(p.columns as usize).take(rows).map(|row| row.iter().sum()).collect();
    step_slices(rule, &p.rates.rates, &mut bias[..rows], &gradients, first, second);
}
