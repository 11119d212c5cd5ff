//! Embeddings of the tokens of packed documents: see `shaders/embed_tokens.wgsl`.

use rayon::prelude::*;

use super::vector::vectorised;
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    documents: u32,
    tokens: u32,
    hidden: u32,
    first_position: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "embed_tokens",
    source: include_str!("../../shaders/embed_tokens.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
    twin,
    variants: || [false, true].map(constants).to_vec(),
};

fn constants(with_type: bool) -> Constants {
    vec![("WITH_TYPE", u32::from(with_type)), ("WORKGROUP", WORKGROUP)]
}

/// `out` [T, H]: for each token its row of `word` [V, H] by `ids` \[T\] (u32), plus the row of `position` [P, H] that is
/// `first_position` after its place in its document, plus, if `with_type`, row 0 of `token_type`, which otherwise may be
/// any buffer that is not written. `offsets` [B + 1] (u32). No document is longer than P − `first_position`.
pub fn launch(
    documents: usize,
    tokens: usize,
    hidden: usize,
    first_position: usize,
    [ids, offsets, word, position, token_type, out]: [&Slice; 6],
    with_type: bool,
) -> Launch {
    let params = Params {
        documents: documents as u32,
        tokens: tokens as u32,
        hidden: hidden as u32,
        first_position: first_position as u32,
    };
    Launch {
        kernel: &KERNEL,
        constants: constants(with_type),
        bindings: [ids, offsets, word, position, token_type, out].map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(tokens * hidden),
        work: (tokens * hidden * 4) as u64,
    }
}

/// The document that a token belongs to; `offsets` are where the documents begin.
pub(super) fn document_of(offsets: &[u32], token: usize) -> usize {
    offsets.partition_point(|offset| *offset as usize <= token) - 1
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let hidden = p.hidden as usize;
    let (ids, offsets) = (call.read::<u32>(0), &call.read::<u32>(1)[..p.documents as usize]);
    let (word, position) = (call.read::<f32>(2), call.read::<f32>(3));
    let token_type = (call.constant("WITH_TYPE") == 1).then(|| &call.read::<f32>(4)[..hidden]);
    let out = &mut call.write::<f32>(5)[..p.tokens as usize * hidden];
    out.par_chunks_mut(hidden).enumerate().with_min_len(8).for_each(|(token, out)| {
        let place = token - offsets[document_of(offsets, token)] as usize;
        let word = &word[ids[token] as usize * hidden..][..hidden];
        let position = &position[(p.first_position as usize + place) * hidden..][..hidden];
        vectorised(
            #[inline(always)]
            || match token_type {
                Some(token_type) => {
                    for (((out, word), position), kind) in
                        out.iter_mut().zip(word).zip(position).zip(token_type)
                    {
                        *out = word + position + kind;
                    }
                }
                None => {
                    for ((out, word), position) in out.iter_mut().zip(word).zip(position) {
                        *out = word + position;
                    }
                }
            },
        );
    });
}
