//! Adds a block's losses to the step's place in the ring of losses: see `shaders/loss_sum.wgsl`.

use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

const LANES: u32 = 64;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    place: u32,
    scale: f32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "loss_sum",
    source: include_str!("../../shaders/loss_sum.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("LANES", LANES)]],
};

/// Adds `scale` · Σ `label_loss` \[rows\] to `losses[place]`.
pub fn launch(rows: usize, place: usize, scale: f32, label_loss: &Slice, losses: &Slice) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("LANES", LANES)],
        bindings: vec![label_loss.clone(), losses.clone()],
        params: words_of(&Params { rows: rows as u32, place: place as u32, scale }),
        workgroups: 1,
        work: rows as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (label_loss, losses) = (call.read::<f32>(0), call.write::<f32>(1));
    let sum: f64 = label_loss[..p.rows as usize].iter().map(|loss| f64::from(*loss)).sum();
    losses[p.place as usize] += p.scale * sum as f32;
}
