//! Mean of the token embeddings of each document: see `shaders/bag_forward.wgsl`.

use rayon::prelude::*;

use super::vector::vectorised;
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    batch: u32,
    hidden: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "bag_forward",
    source: include_str!("../../shaders/bag_forward.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// `pooled` [B, H] from `table` [V, H], `tokens` \[T\] and `offsets` [B + 1].
pub fn launch(
    batch: usize,
    tokens_in_batch: usize,
    hidden: usize,
    [table, tokens, offsets, pooled]: [&Slice; 4],
) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: [table, tokens, offsets, pooled].map(Clone::clone).to_vec(),
        params: words_of(&Params { batch: batch as u32, hidden: hidden as u32 }),
        workgroups: workgroups(batch * hidden),
        work: (tokens_in_batch * hidden) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (table, tokens, offsets) = (call.read::<f32>(0), call.read::<u32>(1), call.read::<u32>(2));
    let hidden = p.hidden as usize;
    let pooled = &mut call.write::<f32>(3)[..p.batch as usize * hidden];
    pooled.par_chunks_mut(hidden).enumerate().for_each(|(document, pooled)| {
        let tokens = &tokens[offsets[document] as usize..offsets[document + 1] as usize];
        vectorised(
            #[inline(always)]
            || {
                pooled.fill(0.0);
                for token in tokens {
                    let row = &table[*token as usize * hidden..][..hidden];
                    pooled.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
                }
                let count = tokens.len().max(1) as f32;
                pooled.iter_mut().for_each(|sum| *sum /= count);
            },
        );
    });
}
