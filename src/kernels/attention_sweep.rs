//! The backward pass of attention in one pass, on the CPU: what `attention_delta`, `attention_query_gradient` and
//! `attention_key_value_gradient` do one after the other.
//!
//! A task is one head of one document. Scores are made once, for a few queries at a time, and used for all three
//! gradients; all five products run in registers over scratch memory of the thread.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::attention::{Head, Params, QUERIES, Room, by_head, heads_at_once, take};
use super::dropout::Mask;
use super::vector::{Left, dot, exp_negative, product};
use crate::device::{Access, Fused, TwinCall};

/// The one-pass form. Bindings: q, k, v, out, lse, offsets, dout; dq, dk, dv.
pub(super) static FUSED: Fused = Fused {
    name: "attention_sweep",
    bindings: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
        Access::Write,
    ],
    twin,
};

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let [q, k, v, out, lse] = [0, 1, 2, 3, 4].map(|i| call.read::<f32>(i));
    let (offsets, dout) = (call.read::<u32>(5), call.read::<f32>(6));
    let (heads, size) = (p.heads as usize, p.head_size());
    let [dq, dk, dv] = [7, 8, 9].map(|i| p.documents(offsets, heads * size, call.write(i)));
    dq.into_par_iter().zip(dk).zip(dv).zip(offsets).for_each(|(((dq, dk), dv), first)| {
        let (first, length) = (*first as usize, dq.len() / (heads * size));
        let [mut dq, mut dk, mut dv] = [dq, dk, dv].map(|rows| by_head(rows, heads, size));
        let pieces = dq
            .par_chunks_mut(length)
            .zip(dk.par_chunks_mut(length))
            .zip(dv.par_chunks_mut(length))
            .enumerate();
        pieces.with_min_len(heads_at_once(length, size)).for_each(|(head, ((dq, dk), dv))| {
            let head = Head { p: &p, first, length, head };
            pulp::Arch::new().dispatch(Backward { head, q, k, v, out, lse, dout, dq, dk, dv });
        });
    });
}

/// One head of one document.
struct Backward<'a, 'o> {
    head: Head<'a>,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
    dout: &'a [f32],
    /// A piece for each token.
    dq: &'a mut [&'o mut [f32]],
    dk: &'a mut [&'o mut [f32]],
    dv: &'a mut [&'o mut [f32]],
}

impl WithSimd for Backward<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { head, q, k, v, out, lse, dout, dq: dq_pieces, dk: dk_pieces, dv: dv_pieces } = self;
        let Head { p, length, .. } = head;
        let size = p.head_size();
        let (width, keys) = (head.head_vectors::<S>(), head.key_vectors::<S>());
        let (stride, words) = (head.key_stride::<S>(), head.word_stride());
        let queries = QUERIES.min(length);
        let (row, score_row) = (width * S::F32_LANES, stride * S::F32_LANES);
        let numbers =
            5 * length * row + 2 * (size + queries) * score_row + queries * row + 2 * head.words(queries);
        let mut memory = Room::borrow(numbers);
        {
            let mut room = memory.numbers();
            let [q_rows, k_rows, dout_rows, dk, dv] = [(); 5].map(|()| take(&mut room, length * row));
            let [k_columns, v_columns] = [(); 2].map(|()| take(&mut room, size * score_row));
            let [s, dp] = [(); 2].map(|()| take(&mut room, queries * score_row));
            let dq = take(&mut room, queries * row);
            let [counters, drawn] = [(); 2].map(|()| take(&mut room, head.words(queries)));
            let [counters, drawn]: [&mut [u32]; 2] = [counters, drawn].map(bytemuck::cast_slice_mut);
            head.counters(queries, counters);
            // Queries and keys are scaled where they become the right side of a product, each once in a gradient.
            head.gather::<S>(q, p.scale, q_rows);
            head.gather::<S>(k, p.scale, k_rows);
            head.gather::<S>(dout, 1.0, dout_rows);
            head.gather_transposed::<S>(k, p.scale, k_columns);
            head.gather_transposed::<S>(v, 1.0, v_columns);
            let [q_rows, k_rows, dout_rows, k_columns, v_columns] =
                [q_rows, k_rows, dout_rows, k_columns, v_columns].map(|rows| S::as_simd_f32s(rows).0);
            for (block, outputs) in dq_pieces.chunks_mut(QUERIES).enumerate() {
                let (first, count) = (block * QUERIES, outputs.len());
                for (left, right, scores) in [(q, k_columns, &mut *s), (dout, v_columns, &mut *dp)] {
                    let c = (S::as_mut_simd_f32s(scores).0, stride);
                    product(simd, [count, keys, size], head.left(left, first), (right, stride), c, false);
                }
                head.draw(first, count, counters, drawn);
                for i in 0..count {
                    let (at, drawn) = (i * score_row, &drawn[i * words..][..words]);
                    let row = (&mut s[at..at + keys * S::F32_LANES], &mut dp[at..at + keys * S::F32_LANES]);
                    let (out, dout) = (head.row(out, first + i), head.row(dout, first + i));
                    let lse = lse[(head.first + first + i) * p.heads as usize + head.head];
                    score_gradients(p.mask, lse, dot(simd, out, dout), row, drawn);
                }
                // s holds what the values were multiplied by, dp the gradient of the scores.
                let left = |numbers, transposed| Left { numbers, stride: score_row, transposed };
                let c = (S::as_mut_simd_f32s(dq).0, width);
                product(simd, [count, width, length], left(dp, false), (k_rows, width), c, false);
                for (out, dq) in outputs.iter_mut().zip(dq.chunks_exact(row)) {
                    out.copy_from_slice(&dq[..size]);
                }
                for (scores, right, sums) in [(&*dp, q_rows, &mut *dk), (&*s, dout_rows, &mut *dv)] {
                    let (b, c) = ((&right[first * width..], width), (S::as_mut_simd_f32s(sums).0, width));
                    product(simd, [length, width, count], left(scores, true), b, c, block > 0);
                }
            }
            for (outputs, sums) in [(dk_pieces, dk), (dv_pieces, dv)] {
                for (out, sums) in outputs.iter_mut().zip(sums.chunks_exact(row)) {
                    out.copy_from_slice(&sums[..size]);
                }
            }
        }
        memory.give_back();
    }
}

/// From scores and the gradient of the kept probabilities of one query: the kept probabilities and the gradient of
/// the scores.
#[inline(always)]
fn score_gradients(mask: Mask, lse: f32, delta: f32, (s, dp): (&mut [f32], &mut [f32]), drawn: &[u32]) {
    if drawn.is_empty() {
        for (s, dp) in s.iter_mut().zip(dp) {
            *s = exp_negative::<false>(*s - lse);
            *dp = *s * (*dp - delta);
        }
    } else {
        for ((s, dp), word) in s.iter_mut().zip(dp).zip(drawn) {
            let (probability, factor) = (exp_negative::<false>(*s - lse), mask.factor(*word));
            *s = probability * factor;
            *dp = probability * (*dp * factor - delta);
        }
    }
}
