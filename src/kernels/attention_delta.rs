//! What the gradient of attention's softmax is centred by: see `shaders/attention_delta.wgsl`.

use rayon::prelude::*;

use super::attention::Attention;
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    head_size: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "attention_delta",
    source: include_str!("../../shaders/attention_delta.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// `delta` [T, heads] from the output of attention and its gradient, [T, H] each.
pub fn launch(attention: Attention, out: &Slice, dout: &Slice, delta: &Slice) -> Launch {
    let rows = attention.tokens * attention.heads;
    Launch {
        kernel: &KERNEL,
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: [out, dout, delta].map(Clone::clone).to_vec(),
        params: words_of(&Params { rows: rows as u32, head_size: attention.head_size as u32 }),
        workgroups: workgroups(rows),
        work: (rows * attention.head_size) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (out, dout) = (call.read::<f32>(0), call.read::<f32>(1));
    let size = p.head_size as usize;
    let delta = &mut call.write::<f32>(2)[..p.rows as usize];
    delta
        .par_iter_mut()
        .zip(out.par_chunks(size))
        .zip(dout.par_chunks(size))
        .for_each(|((delta, out), dout)| *delta = out.iter().zip(dout).map(|(out, dout)| out * dout).sum());
}
