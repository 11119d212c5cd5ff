//! From the rows of a document's tokens to one row of features, and back: see `shaders/pool.wgsl` and
//! `shaders/pool_backward.wgsl`.

use rayon::prelude::*;

use super::embed_tokens::document_of;
use super::vector::vectorised;
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

/// How a document's tokens become its features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PoolKind {
    /// Their mean.
    Mean = 0,
    /// The first token alone.
    First = 1,
}

impl PoolKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Mean, Self::First];
}

/// Where in a larger matrix of features the documents at hand have theirs.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Row of the first document; the others follow.
    pub first_row: usize,
    /// Columns of the whole matrix.
    pub width: usize,
    /// Column of the first feature.
    pub first_column: usize,
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    documents: u32,
    tokens: u32,
    hidden: u32,
    first_row: u32,
    width: u32,
    first_column: u32,
}

impl Params {
    fn new(documents: usize, tokens: usize, hidden: usize, place: Place) -> Self {
        Self {
            documents: documents as u32,
            tokens: tokens as u32,
            hidden: hidden as u32,
            first_row: place.first_row as u32,
            width: place.width as u32,
            first_column: place.first_column as u32,
        }
    }

    /// Where the features of a document lie.
    fn features_of(&self, document: usize) -> std::ops::Range<usize> {
        let begin = (self.first_row as usize + document) * self.width as usize + self.first_column as usize;
        begin..begin + self.hidden as usize
    }
}

/// The way there.
pub static KERNEL: Kernel = Kernel {
    name: "pool",
    source: include_str!("../../shaders/pool.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Write],
    twin: forward_twin,
    variants: || PoolKind::ALL.map(forward_constants).to_vec(),
};

/// The way back.
pub static BACKWARD: Kernel = Kernel {
    name: "pool_backward",
    source: include_str!("../../shaders/pool_backward.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Write],
    twin: backward_twin,
    variants: || {
        let of = |accumulate: bool| PoolKind::ALL.map(|kind| backward_constants(kind, accumulate));
        [of(false), of(true)].concat()
    },
};

fn forward_constants(kind: PoolKind) -> Constants {
    vec![("KIND", kind as u32), ("WORKGROUP", WORKGROUP)]
}

fn backward_constants(kind: PoolKind, accumulate: bool) -> Constants {
    vec![("KIND", kind as u32), ("ACCUMULATE", u32::from(accumulate)), ("WORKGROUP", WORKGROUP)]
}

/// The features of `documents` in the matrix `features` [.., width], at their `place`, from `y` [T, H] and `offsets`
/// [B + 1] (u32). Nothing else of `features` is written.
pub fn forward(
    kind: PoolKind,
    documents: usize,
    tokens: usize,
    hidden: usize,
    place: Place,
    offsets: &Slice,
    y: &Slice,
    features: &Slice,
) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: forward_constants(kind),
        bindings: [offsets, y, features].map(Clone::clone).to_vec(),
        params: words_of(&Params::new(documents, tokens, hidden, place)),
        workgroups: workgroups(documents * hidden),
        work: (tokens * hidden) as u64,
    }
}

/// `dy` [T, H] from the features' gradient, which lies in `dfeatures` [.., width] as the features do; `accumulate` adds
/// to what is there.
pub fn backward(
    kind: PoolKind,
    documents: usize,
    tokens: usize,
    hidden: usize,
    place: Place,
    offsets: &Slice,
    dfeatures: &Slice,
    dy: &Slice,
    accumulate: bool,
) -> Launch {
    Launch {
        kernel: &BACKWARD,
        constants: backward_constants(kind, accumulate),
        bindings: [offsets, dfeatures, dy].map(Clone::clone).to_vec(),
        params: words_of(&Params::new(documents, tokens, hidden, place)),
        workgroups: workgroups(tokens * hidden),
        work: (tokens * hidden * 2) as u64,
    }
}

fn forward_twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (offsets, y) = (call.read::<u32>(0), call.read::<f32>(1));
    let (hidden, width) = (p.hidden as usize, p.width as usize);
    let mean = call.constant("KIND") == PoolKind::Mean as u32;
    let features = call.write::<f32>(2);
    let begin = p.features_of(0).start;
    let end = p.features_of(p.documents as usize - 1).end;
    features[begin..end].par_chunks_mut(width).enumerate().for_each(|(document, features)| {
        let (begin, end) = (offsets[document] as usize, offsets[document + 1] as usize);
        let features = &mut features[..hidden];
        features.copy_from_slice(&y[begin * hidden..][..hidden]);
        if !mean {
            return;
        }
        vectorised(
            #[inline(always)]
            || {
                for y in y[(begin + 1) * hidden..end * hidden].chunks_exact(hidden) {
                    features.iter_mut().zip(y).for_each(|(sum, y)| *sum += y);
                }
                let count = (end - begin) as f32;
                features.iter_mut().for_each(|sum| *sum /= count);
            },
        );
    });
}

fn backward_twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (offsets, dfeatures) = (&call.read::<u32>(0)[..=p.documents as usize], call.read::<f32>(1));
    let hidden = p.hidden as usize;
    let mean = call.constant("KIND") == PoolKind::Mean as u32;
    let accumulate = call.constant("ACCUMULATE") == 1;
    let dy = &mut call.write::<f32>(2)[..p.tokens as usize * hidden];
    dy.par_chunks_mut(hidden).enumerate().with_min_len(8).for_each(|(token, dy)| {
        let document = document_of(&offsets[..p.documents as usize], token);
        let (begin, end) = (offsets[document] as usize, offsets[document + 1] as usize);
        if !mean && token != begin {
            if !accumulate {
                dy.fill(0.0);
            }
            return;
        }
        let count = if mean { (end - begin) as f32 } else { 1.0 };
        let dfeatures = &dfeatures[p.features_of(document)];
        vectorised(
            #[inline(always)]
            || {
                for (dy, g) in dy.iter_mut().zip(dfeatures) {
                    *dy = if accumulate { *dy + g / count } else { g / count };
                }
            },
        );
    });
}
