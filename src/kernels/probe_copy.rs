//! How fast memory is: see `shaders/probe_copy.wgsl`.

use rayon::prelude::*;

use super::{WORKGROUP, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    quads: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "probe_copy",
    source: include_str!("../../shaders/probe_copy.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// Copies `words` 32-bit words, a multiple of 4.
pub fn launch(words: usize, source: &Slice, target: &Slice) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: vec![source.clone(), target.clone()],
        params: words_of(&Params { quads: (words / 4) as u32 }),
        workgroups: workgroups(words / 4),
        work: words as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let words = p.quads as usize * 4;
    let (source, target) = (&call.read::<u32>(0)[..words], &mut call.write::<u32>(1)[..words]);
    const PIECE: usize = 64 << 10;
    target
        .par_chunks_mut(PIECE)
        .zip(source.par_chunks(PIECE))
        .for_each(|(to, from)| to.copy_from_slice(from));
}
