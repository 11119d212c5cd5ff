//! Attention of every token to the tokens of its own document: see `shaders/attention_forward.wgsl`.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::attention::{
    Attention, Head, Params, QUERIES, Room, by_head, constants, heads_at_once, take, variants,
};
use super::vector::{Left, exp_negative, product};
use super::workgroups;
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "attention_forward",
    source: include_str!("../../shaders/attention_forward.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write, Access::Write],
    twin,
    variants,
};

/// `out` [T, H] and `lse` [T, heads] from queries, keys and values, [T, H] each, of documents at `offsets` [B + 1].
pub fn launch(
    attention: Attention,
    q: &Slice,
    k: &Slice,
    v: &Slice,
    offsets: &Slice,
    out: &Slice,
    lse: &Slice,
) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: constants(attention.head_size as u32),
        bindings: [q, k, v, offsets, out, lse].map(Clone::clone).to_vec(),
        params: words_of(&attention.params()),
        workgroups: workgroups(attention.tokens * attention.heads),
        work: attention.work(2),
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (q, k, v) = (call.read::<f32>(0), call.read::<f32>(1), call.read::<f32>(2));
    let offsets = call.read::<u32>(3);
    let (heads, size) = (p.heads as usize, p.head_size());
    let out = p.documents(offsets, heads * size, call.write(4));
    let lse = p.documents(offsets, heads, call.write(5));
    out.into_par_iter().zip(lse).zip(offsets).for_each(|((out, lse), first)| {
        let (first, length) = (*first as usize, lse.len() / heads);
        let (mut out, mut lse) = (by_head(out, heads, size), by_head(lse, heads, 1));
        let pieces = out.par_chunks_mut(length).zip(lse.par_chunks_mut(length)).enumerate();
        pieces.with_min_len(heads_at_once(length, size)).for_each(|(head, (out, lse))| {
            let head = Head { p: &p, first, length, head };
            pulp::Arch::new().dispatch(Forward { head, q, k, v, out, lse });
        });
    });
}

/// One head of one document.
struct Forward<'a, 'o> {
    head: Head<'a>,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    /// A piece for each query, of the output and of lse.
    out: &'a mut [&'o mut [f32]],
    lse: &'a mut [&'o mut [f32]],
}

impl WithSimd for Forward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Head { p, length, .. } = self.head;
        let size = p.head_size();
        let (width, keys) = (self.head.head_vectors::<S>(), self.head.key_vectors::<S>());
        let (stride, words) = (self.head.key_stride::<S>(), self.head.word_stride());
        let queries = QUERIES.min(length);
        let (row, score_row) = (width * S::F32_LANES, stride * S::F32_LANES);
        let numbers =
            length * row + (size + queries) * score_row + queries * row + 2 * self.head.words(queries);
        let mut memory = Room::borrow(numbers);
        {
            let mut room = memory.numbers();
            let values = take(&mut room, length * row);
            let columns = take(&mut room, size * score_row);
            let scores = take(&mut room, queries * score_row);
            let sums = take(&mut room, queries * row);
            let [counters, drawn] = [(); 2].map(|()| take(&mut room, self.head.words(queries)));
            let [counters, drawn]: [&mut [u32]; 2] = [counters, drawn].map(bytemuck::cast_slice_mut);
            self.head.counters(queries, counters);
            self.head.gather::<S>(self.v, 1.0, values);
            self.head.gather_transposed::<S>(self.k, p.scale, columns);
            let outputs = self.out.chunks_mut(QUERIES).zip(self.lse.chunks_mut(QUERIES));
            for (block, (out, lse)) in outputs.enumerate() {
                let (first, count) = (block * QUERIES, out.len());
                let (b, c) = (S::as_simd_f32s(columns).0, S::as_mut_simd_f32s(scores).0);
                let queries = self.head.left(self.q, first);
                product(simd, [count, keys, size], queries, (b, stride), (c, stride), false);
                self.head.draw(first, count, counters, drawn);
                let mask = p.mask;
                let mut totals = [0.0; QUERIES];
                for (i, scores) in scores.chunks_exact_mut(score_row).take(count).enumerate() {
                    let scores = &mut scores[..keys * S::F32_LANES];
                    scores[length..].fill(f32::NEG_INFINITY);
                    let (largest, total) = softmax(simd, scores);
                    lse[i][0] = largest + total.ln();
                    totals[i] = total;
                    if words > 0 {
                        for (p_ij, word) in scores.iter_mut().zip(&drawn[i * words..][..length]) {
                            *p_ij *= mask.factor(*word);
                        }
                    }
                }
                let (b, c) = (S::as_simd_f32s(values).0, S::as_mut_simd_f32s(sums).0);
                let probabilities = Left { numbers: scores, stride: score_row, transposed: false };
                product(simd, [count, width, length], probabilities, (b, width), (c, width), false);
                for ((out, sums), total) in out.iter_mut().zip(sums.chunks_exact(row)).zip(totals) {
                    let inverse = 1.0 / total;
                    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * inverse);
                }
            }
        }
        memory.give_back();
    }
}

/// Replaces scores by their exponentials after the largest was taken off: (that largest score, their sum).
#[inline(always)]
fn softmax<S: Simd>(simd: S, scores: &mut [f32]) -> (f32, f32) {
    let (vectors, _) = S::as_mut_simd_f32s(scores);
    let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
    for scores in &*vectors {
        largest = simd.max_f32s(largest, *scores);
    }
    let largest = simd.reduce_max_f32s(largest);
    scores.iter_mut().for_each(|score| *score = exp_negative::<false>(*score - largest));
    let (vectors, _) = S::as_simd_f32s(scores);
    let mut total = simd.splat_f32s(0.0);
    for p in vectors {
        total = simd.add_f32s(total, *p);
    }
    (largest, simd.reduce_sum_f32s(total))
}
