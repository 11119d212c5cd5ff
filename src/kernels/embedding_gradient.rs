//! Gradient of the embeddings that the batch uses: see `shaders/embedding_gradient.wgsl`.

use rayon::prelude::*;

use super::vector::vectorised;
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    unique_tokens: u32,
    hidden: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "embedding_gradient",
    source: include_str!("../../shaders/embedding_gradient.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// `gradient` [U, H] from `dpooled` [B, H], `offsets` [B + 1] and the buckets (`bucket_offsets` [U + 1],
/// `bucket_rows` \[T\]).
pub fn launch(
    unique_tokens: usize,
    tokens_in_batch: usize,
    hidden: usize,
    [dpooled, offsets, bucket_offsets, bucket_rows, gradient]: [&Slice; 5],
) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: [dpooled, offsets, bucket_offsets, bucket_rows, gradient].map(Clone::clone).to_vec(),
        params: words_of(&Params { unique_tokens: unique_tokens as u32, hidden: hidden as u32 }),
        workgroups: workgroups(unique_tokens * hidden),
        work: (tokens_in_batch * hidden) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (dpooled, offsets) = (call.read::<f32>(0), call.read::<u32>(1));
    let (bucket_offsets, bucket_rows) = (call.read::<u32>(2), call.read::<u32>(3));
    let hidden = p.hidden as usize;
    let gradient = &mut call.write::<f32>(4)[..p.unique_tokens as usize * hidden];
    gradient.par_chunks_mut(hidden).enumerate().with_min_len(8).for_each(|(bucket, gradient)| {
        let rows = &bucket_rows[bucket_offsets[bucket] as usize..bucket_offsets[bucket + 1] as usize];
        vectorised(
            #[inline(always)]
            || {
                gradient.fill(0.0);
                for document in rows.iter().map(|row| *row as usize) {
                    let count = (offsets[document + 1] - offsets[document]) as f32;
                    let row = &dpooled[document * hidden..][..hidden];
                    gradient.iter_mut().zip(row).for_each(|(sum, g)| *sum += g / count);
                }
            },
        );
    });
}
