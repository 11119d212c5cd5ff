//! Gradient of the rows of an embedding table that the batch uses, from that of every token: see
//! `shaders/token_gradient.wgsl`.

use rayon::prelude::*;

use super::vector::vectorised;
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    unique_tokens: u32,
    hidden: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "token_gradient",
    source: include_str!("../../shaders/token_gradient.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
    twin,
    variants: || [false, true].map(constants).to_vec(),
};

fn constants(accumulate: bool) -> Constants {
    vec![("ACCUMULATE", u32::from(accumulate)), ("WORKGROUP", WORKGROUP)]
}

/// `gradient` [U, H] from `dx` [T, H] and the buckets: `bucket_offsets` [U + 1] (u32) into `bucket_positions` \[T\]
/// (u32), the numbers of the tokens, by id. An empty bucket gives 0; `accumulate` adds to what is there.
pub fn launch(
    unique_tokens: usize,
    hidden: usize,
    [dx, bucket_offsets, bucket_positions, gradient]: [&Slice; 4],
    accumulate: bool,
) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: constants(accumulate),
        bindings: [dx, bucket_offsets, bucket_positions, gradient].map(Clone::clone).to_vec(),
        params: words_of(&Params { unique_tokens: unique_tokens as u32, hidden: hidden as u32 }),
        workgroups: workgroups(unique_tokens * hidden),
        work: bucket_positions.bytes() / 4 * hidden as u64,
    }
}

/// A bucket of more tokens than this is cut into stripes of columns: a token that opens every document would otherwise
/// be the work of one thread.
const LARGE_BUCKET: usize = 32;

/// Columns of such a stripe.
const STRIPE: usize = 64;

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let dx = call.read::<f32>(0);
    let (bucket_offsets, bucket_positions) = (call.read::<u32>(1), call.read::<u32>(2));
    let accumulate = call.constant("ACCUMULATE") == 1;
    let hidden = p.hidden as usize;
    let gradient = &mut call.write::<f32>(3)[..p.unique_tokens as usize * hidden];
    gradient.par_chunks_mut(hidden).enumerate().for_each(|(bucket, gradient)| {
        let tokens = &bucket_positions[bucket_offsets[bucket] as usize..bucket_offsets[bucket + 1] as usize];
        let sum = |first_column: usize, gradient: &mut [f32]| {
            vectorised(
                #[inline(always)]
                || {
                    if !accumulate {
                        gradient.fill(0.0);
                    }
                    for token in tokens {
                        let dx = &dx[*token as usize * hidden + first_column..][..gradient.len()];
                        gradient.iter_mut().zip(dx).for_each(|(sum, g)| *sum += g);
                    }
                },
            );
        };
        if tokens.len() > LARGE_BUCKET {
            let stripes = gradient.par_chunks_mut(STRIPE).enumerate();
            stripes.for_each(|(stripe, gradient)| sum(stripe * STRIPE, gradient));
        } else {
            sum(0, gradient);
        }
    });
}
