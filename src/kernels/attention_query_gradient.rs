//! Gradient of the queries of attention: see `shaders/attention_query_gradient.wgsl`.

use rayon::prelude::*;

use super::attention::{Attention, Params, constants, variants};
use super::workgroups;
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "attention_query_gradient",
    source: include_str!("../../shaders/attention_query_gradient.wgsl"),
    bindings: &BINDINGS,
    twin,
    variants,
};

/// q, k, v, dout [T, H], lse, delta [T, heads], offsets [B + 1]; a gradient [T, H].
pub(super) const BINDINGS: [Access; 8] = {
    let mut bindings = [Access::Read; 8];
    bindings[7] = Access::Write;
    bindings
};

/// `dq` [T, H] from q, k, v, dout [T, H], lse, delta [T, heads] and offsets [B + 1].
pub fn launch(attention: Attention, inputs: [&Slice; 7], dq: &Slice) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: constants(attention.head_size as u32),
        bindings: inputs.into_iter().chain([dq]).cloned().collect(),
        params: words_of(&attention.params()),
        workgroups: workgroups(attention.tokens * attention.heads),
        work: attention.work(3),
    }
}

/// One pair of a query and a key, in one head, as the twins of the gradients see it.
pub(super) struct Pairs<'a> {
    pub(super) p: Params,
    pub(super) q: &'a [f32],
    pub(super) k: &'a [f32],
    pub(super) v: &'a [f32],
    pub(super) dout: &'a [f32],
    lse: &'a [f32],
    delta: &'a [f32],
    pub(super) offsets: &'a [u32],
}

impl<'a> Pairs<'a> {
    pub(super) fn of(call: &TwinCall<'a>) -> Self {
        let [q, k, v, dout, lse, delta] = [0, 1, 2, 3, 4, 5].map(|i| call.read::<f32>(i));
        Self { p: call.params(), q, k, v, dout, lse, delta, offsets: call.read(6) }
    }

    /// Row `row` of a tensor whose rows are (token, head).
    pub(super) fn row<'t>(&self, tensor: &'t [f32], row: usize) -> &'t [f32] {
        &tensor[row * self.p.head_size()..][..self.p.head_size()]
    }

    /// Tokens of the document that `token` is in.
    pub(super) fn document(&self, token: usize) -> std::ops::Range<usize> {
        let ends = &self.offsets[1..=self.p.documents as usize];
        let document = ends.partition_point(|end| *end as usize <= token);
        self.offsets[document] as usize..self.offsets[document + 1] as usize
    }

    /// (probability after dropout, gradient of the score) of query and key, both tokens, in `head`; the document
    /// begins at `first`.
    pub(super) fn gradient(&self, query: usize, key: usize, head: usize, first: usize) -> (f32, f32) {
        let heads = self.p.heads as usize;
        let (query_row, key_row) = (query * heads + head, key * heads + head);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let score = self.p.scale * dot(self.row(self.q, query_row), self.row(self.k, key_row));
        let probability = (score - self.lse[query_row]).exp();
        let kept = self.p.kept(query, head, key - first);
        let dp = kept * dot(self.row(self.dout, query_row), self.row(self.v, key_row));
        (kept * probability, probability * (dp - self.delta[query_row]))
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let pairs = Pairs::of(call);
    let (heads, size) = (pairs.p.heads as usize, pairs.p.head_size());
    let dq = &mut call.write::<f32>(7)[..pairs.p.tokens as usize * heads * size];
    dq.par_chunks_mut(size).enumerate().for_each(|(row, dq)| {
        let (query, head) = (row / heads, row % heads);
        let document = pairs.document(query);
        dq.fill(0.0);
        for key in document.clone() {
            let (_, ds) = pairs.gradient(query, key, head, document.start);
            let k = pairs.row(pairs.k, key * heads + head);
            dq.iter_mut().zip(k).for_each(|(dq, k)| *dq += ds * k);
        }
        dq.iter_mut().for_each(|dq| *dq *= pairs.p.scale);
    });
}
