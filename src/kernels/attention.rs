//! Attention of packed documents: its sizes, its backward pass as a group, and what the CPU forms share.

use std::cell::Cell;

use pulp::Simd;

use super::attention_sweep;
use super::dropout::{Dropout, Mask};
use super::vector::{self, Left};
use super::{WORKGROUP, attention_delta, attention_key_value_gradient, attention_query_gradient};
use crate::device::{Constants, Recording, Slice, words_of};
use crate::random::{Purpose, words};

pub use super::attention_forward::launch as forward;

/// Sizes of one attention: documents lie one after the other, none is empty, and their tokens see each other alone.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// B.
    pub documents: usize,
    /// T, of all documents together.
    pub tokens: usize,
    /// Heads; head h owns the columns from `h * head_size` on.
    pub heads: usize,
    /// Columns of a head: H = heads · head_size.
    pub head_size: usize,
    /// Tokens that a document of this model may have: positions.
    pub max_length: usize,
    /// Of the probabilities.
    pub dropout: Dropout,
}

/// What the forward pass was given and gave.
#[derive(Clone, Copy)]
pub struct Saved<'a> {
    /// Queries [T, H] f32.
    pub q: &'a Slice,
    /// Keys [T, H] f32.
    pub k: &'a Slice,
    /// Values [T, H] f32.
    pub v: &'a Slice,
    /// Output [T, H] f32.
    pub out: &'a Slice,
    /// Natural logarithm of the sum of the exponentials of the scaled scores [T, heads] f32.
    pub lse: &'a Slice,
    /// Where each document begins, and the end of the last: [B + 1] u32.
    pub offsets: &'a Slice,
}

/// The gradients of the backward pass.
#[derive(Clone, Copy)]
pub struct Gradients<'a> {
    /// Of the output [T, H] f32; read.
    pub dout: &'a Slice,
    /// Scratch [T, heads] f32; an engine that runs fused groups leaves it alone.
    pub delta: &'a Slice,
    /// Of the queries [T, H] f32; written, as the others.
    pub dq: &'a Slice,
    /// Of the keys [T, H] f32.
    pub dk: &'a Slice,
    /// Of the values [T, H] f32.
    pub dv: &'a Slice,
}

/// Records the gradients of queries, keys and values.
pub fn record_backward(
    recording: &mut Recording,
    attention: Attention,
    saved: Saved<'_>,
    gradients: Gradients<'_>,
) {
    let Saved { q, k, v, out, lse, offsets } = saved;
    let Gradients { dout, delta, dq, dk, dv } = gradients;
    let inputs = [q, k, v, dout, lse, delta, offsets];
    let members = vec![
        attention_delta::launch(attention, out, dout, delta),
        attention_query_gradient::launch(attention, inputs, dq),
        attention_key_value_gradient::keys(attention, inputs, dk),
        attention_key_value_gradient::values(attention, inputs, dv),
    ];
    let bindings = [q, k, v, out, lse, offsets, dout, dq, dk, dv].map(Clone::clone).to_vec();
    recording.fused(&attention_sweep::FUSED, bindings, words_of(&attention.params()), members);
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct Params {
    pub(super) tokens: u32,
    pub(super) documents: u32,
    pub(super) heads: u32,
    hidden: u32,
    words_per_row: u32,
    pub(super) scale: f32,
    pub(super) mask: Mask,
}

/// Head sizes of the variants that are validated and dumped; any other is launched alike.
const HEAD_SIZES: [u32; 4] = [5, 10, 32, 64];

pub(super) fn constants(head_size: u32) -> Constants {
    vec![("HEAD", head_size), ("WORKGROUP", WORKGROUP)]
}

pub(super) fn variants() -> Vec<Constants> {
    HEAD_SIZES.into_iter().map(constants).collect()
}

impl Attention {
    pub(super) fn params(&self) -> Params {
        Params {
            tokens: self.tokens as u32,
            documents: self.documents as u32,
            heads: self.heads as u32,
            hidden: (self.heads * self.head_size) as u32,
            words_per_row: self.max_length.div_ceil(4) as u32,
            scale: (1.0 / (self.head_size as f64).sqrt()) as f32,
            mask: self.dropout.mask(),
        }
    }

    /// Multiply-adds of `products` products of tokens with tokens; documents are taken as long as they may be.
    pub(super) fn work(&self, products: usize) -> u64 {
        let pairs = self.tokens as u64 * self.max_length.min(self.tokens) as u64;
        pairs * (self.heads * self.head_size * products) as u64
    }
}

impl Params {
    pub(super) fn head_size(&self) -> usize {
        (self.hidden / self.heads) as usize
    }

    /// Rows of a tensor of `width` numbers a token, document by document.
    pub(super) fn documents<'a>(
        &self,
        offsets: &[u32],
        width: usize,
        mut tensor: &'a mut [f32],
    ) -> Vec<&'a mut [f32]> {
        let lengths =
            offsets.windows(2).take(self.documents as usize).map(|ends| (ends[1] - ends[0]) as usize);
        lengths
            .map(|length| tensor.split_off_mut(..length * width).expect("documents lie within the tensors"))
            .collect()
    }

    /// What the probability of (query `token`, `head`, key number `key` of the document) is multiplied by.
    pub(super) fn kept(&self, token: usize, head: usize, key: usize) -> f32 {
        if self.mask.drop_below == 0 {
            return 1.0;
        }
        let words = words_of_key(&self.mask, self.first_index(token, head).wrapping_add(key as u32 / 4));
        self.mask.factor(words[key % 4])
    }

    fn first_index(&self, token: usize, head: usize) -> u32 {
        ((token * self.heads as usize + head) as u32).wrapping_mul(self.words_per_row)
    }
}

fn words_of_key(mask: &Mask, index: u32) -> [u32; 4] {
    let seed = u64::from(mask.seed_low) | u64::from(mask.seed_high) << 32;
    words(seed, Purpose::Dropout, mask.step, index, mask.stream)
}

/// Pieces of the rows of a document, all rows of head 0 first: a head's part of a matrix, for a thread of its own.
pub(super) fn by_head(rows: &mut [f32], heads: usize, width: usize) -> Vec<&mut [f32]> {
    let length = rows.len() / (heads * width);
    let mut pieces: Vec<&mut [f32]> = Vec::new();
    pieces.resize_with(heads * length, Default::default);
    for (row, columns) in rows.chunks_exact_mut(heads * width).enumerate() {
        for (head, piece) in columns.chunks_exact_mut(width).enumerate() {
            pieces[head * length + row] = piece;
        }
    }
    pieces
}

/// How many heads of a document of `length` tokens a thread takes at least: a task should be worth handing over.
pub(super) fn heads_at_once(length: usize, head_size: usize) -> usize {
    (1 << 16) / (length * length * head_size) + 1
}

/// Queries that the CPU forms treat together: their scores stay in the cache.
pub(super) const QUERIES: usize = 32;

/// One head of one document: what every CPU form knows of it.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) p: &'a Params,
    /// Number of the document's first token in the batch.
    pub(super) first: usize,
    pub(super) length: usize,
    pub(super) head: usize,
}

impl Head<'_> {
    /// From the head's first number on: row i begins at i · H.
    #[inline(always)]
    fn of<'t>(&self, tensor: &'t [f32]) -> &'t [f32] {
        &tensor[self.first * self.p.hidden as usize + self.head * self.p.head_size()..]
    }

    /// Row `token` of the document.
    #[inline(always)]
    pub(super) fn row<'t>(&self, tensor: &'t [f32], token: usize) -> &'t [f32] {
        &self.of(tensor)[token * self.p.hidden as usize..][..self.p.head_size()]
    }

    /// The head's rows of queries from `query` on, as the left side of a product.
    #[inline(always)]
    pub(super) fn left<'t>(&self, tensor: &'t [f32], query: usize) -> Left<'t> {
        let stride = self.p.hidden as usize;
        Left { numbers: &self.of(tensor)[query * stride..], stride, transposed: false }
    }

    /// Vectors that hold a row of the head.
    #[inline(always)]
    pub(super) fn head_vectors<S: Simd>(&self) -> usize {
        self.p.head_size().div_ceil(S::F32_LANES)
    }

    /// Vectors that hold a row of scores.
    #[inline(always)]
    pub(super) fn key_vectors<S: Simd>(&self) -> usize {
        self.length.div_ceil(S::F32_LANES)
    }

    /// Vectors from a row of scores to the next. An odd number: with a power of two, rows would push each other out
    /// of the cache.
    #[inline(always)]
    pub(super) fn key_stride<S: Simd>(&self) -> usize {
        self.key_vectors::<S>() | 1
    }

    /// Words of dropout of a row of scores.
    pub(super) fn word_stride(&self) -> usize {
        if self.p.mask.drop_below == 0 { 0 } else { self.length.next_multiple_of(4) }
    }

    /// The head's rows times `factor`, each from a whole vector on. What follows a row in its last vector is not
    /// touched: it comes into nothing that is kept.
    #[inline(always)]
    pub(super) fn gather<S: Simd>(&self, tensor: &[f32], factor: f32, rows: &mut [f32]) {
        let size = self.p.head_size();
        let from = self.of(tensor).chunks(self.p.hidden as usize);
        for (row, from) in rows.chunks_exact_mut(self.head_vectors::<S>() * S::F32_LANES).zip(from) {
            row[..size].iter_mut().zip(&from[..size]).for_each(|(row, from)| *row = from * factor);
        }
    }

    /// The same with tokens as columns.
    #[inline(always)]
    pub(super) fn gather_transposed<S: Simd>(&self, tensor: &[f32], factor: f32, rows: &mut [f32]) {
        let (size, stride) = (self.p.head_size(), self.key_stride::<S>() * S::F32_LANES);
        let from = self.of(tensor).chunks(self.p.hidden as usize).take(self.length);
        for (token, from) in from.enumerate() {
            for (row, from) in rows.chunks_exact_mut(stride).zip(&from[..size]) {
                row[token] = from * factor;
            }
        }
    }

    /// Words of dropout that [`Head::draw`] takes for `queries` queries, whole vectors; it takes as many counters.
    pub(super) fn words(&self, queries: usize) -> usize {
        (queries * self.word_stride()).next_multiple_of(4 * vector::DRAWN)
    }

    /// The counters of the words of dropout of `queries` queries, from that of the first on: rows follow each other
    /// without a gap, so that short rows fill vectors too.
    #[inline(always)]
    pub(super) fn counters(&self, queries: usize, counters: &mut [u32]) {
        let groups = self.word_stride() / 4;
        if groups > 0 {
            for (row, counters) in counters.chunks_exact_mut(groups).take(queries).enumerate() {
                let first = self.p.first_index(row, 0);
                counters.iter_mut().enumerate().for_each(|(group, c)| *c = first.wrapping_add(group as u32));
            }
        }
    }

    /// The words of dropout of `queries` queries from `query` on: a row of [`Head::word_stride`] for each.
    #[inline(always)]
    pub(super) fn draw(&self, query: usize, queries: usize, counters: &[u32], words: &mut [u32]) {
        let mask = &self.p.mask;
        let rest = [mask.stream, mask.step, Purpose::Dropout as u32];
        let first = self.p.first_index(self.first + query, self.head);
        let (words, _) = words[..self.words(queries)].as_chunks_mut();
        for (words, counters) in words.iter_mut().zip(counters.as_chunks().0) {
            vector::philox(first, counters, rest, [mask.seed_low, mask.seed_high], words);
        }
    }
}

thread_local! {
    static ROOM: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Memory of a thread, which holds anything.
pub(super) struct Room(Vec<f32>);

impl Room {
    /// That of this thread, with room for so many numbers.
    pub(super) fn borrow(numbers: usize) -> Self {
        let mut room = ROOM.take();
        if room.len() < numbers + 16 {
            room.resize(numbers + 16, 0.0);
        }
        Self(room)
    }

    /// From a cache line on.
    pub(super) fn numbers(&mut self) -> &mut [f32] {
        let start = self.0.as_ptr().align_offset(64).min(16);
        &mut self.0[start..]
    }

    /// For the thread's next task.
    pub(super) fn give_back(self) {
        ROOM.set(self.0);
    }
}

/// The first `numbers` numbers of what is left of a room.
#[inline(always)]
pub(super) fn take<'a>(room: &mut &'a mut [f32], numbers: usize) -> &'a mut [f32] {
    room.split_off_mut(..numbers).expect("a room has as many numbers as were asked for")
}
