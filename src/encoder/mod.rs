//! From packed tokens to features and back: what every text encoder offers, the bag of tokens, the BERT family,
//! and features from a file; and the layer that may lie between features and classifier.

mod bag;
mod features;
mod intermediate;
mod parameter;
mod transformer;

pub use bag::{Bag, BagOptions};
pub use features::Features;
pub use intermediate::{Intermediate, IntermediateOptions};
pub use parameter::{Parameter, States};
pub use transformer::{PREFIX as PARAMETER_PREFIX, Pooling, Transformer, TransformerOptions};

use crate::device::{Recording, Slice};
use crate::optimize::Rates;

/// A micro-batch of packed sequences on the device: the real tokens one after the other, no padding.
#[derive(Clone, Debug)]
pub struct PackedTokens {
    /// Row of its first document in the batch.
    pub first_row: usize,
    /// Documents, B.
    pub documents: usize,
    /// Tokens, T.
    pub count: usize,
    /// Tokens of the longest document.
    pub longest: usize,
    /// Different tokens in the whole batch, U.
    pub unique: usize,
    /// \[T\] u32.
    pub tokens: Slice,
    /// [B + 1] u32, where each document's tokens begin.
    pub offsets: Slice,
    /// \[U\] u32, ascending.
    pub unique_tokens: Slice,
    /// [U + 1] u32, where the occurrences of each different token begin.
    pub bucket_offsets: Slice,
    /// \[T\] u32, the place among the tokens of each occurrence.
    pub bucket_positions: Slice,
    /// \[T\] u32, the document of each occurrence.
    pub bucket_rows: Slice,
    /// Precomputed features [B, D] f32, where the encoder takes those.
    pub features: Slice,
}

/// The order in which the backward pass takes so many micro-batches: the last first, whose activations are still there.
pub fn backward_order(micro_batches: usize) -> impl Iterator<Item = usize> {
    let last = micro_batches.saturating_sub(1);
    (last..micro_batches).chain(0..last)
}

/// A text encoder: packed sequences in, pooled features out, gradient back.
///
/// A batch comes in micro-batches. The features of all of them lie together, so that the classifier is swept once;
/// only the activations of the last one need to be kept, since [`Encoder::backward_one`] may compute the others again.
pub trait Encoder {
    /// Features that it gives, D.
    fn features(&self) -> usize;

    /// Records the forward pass of the micro-batch of this number. The result is the place of all features of the batch,
    /// [B, D] f32, whose rows of this micro-batch are now there. `step`: the optimizer step, from 0, that dropout depends
    /// on; none in evaluation, which drops nothing.
    fn forward_one(
        &self,
        recording: &mut Recording,
        batch: &[PackedTokens],
        number: usize,
        step: Option<u64>,
    ) -> Slice;

    /// Records the forward pass of the whole batch: [`Encoder::forward_one`] in order.
    ///
    /// # Panics
    /// When there is no micro-batch.
    fn forward(&self, recording: &mut Recording, batch: &[PackedTokens], step: Option<u64>) -> Slice {
        let last = batch.len() - 1;
        for number in 0..last {
            self.forward_one(recording, batch, number, step);
        }
        self.forward_one(recording, batch, last, step)
    }

    /// Where the gradient of the features is to be put, [B, D] f32; none where nothing is trained. A micro-batch's rows
    /// must be there before its [`Encoder::backward_one`].
    fn feature_gradient(&self) -> Option<Slice>;

    /// Records the backward pass of the micro-batch of this number; all of them in [`backward_order`] make that of the
    /// batch and step that the forward pass was last recorded for.
    fn backward_one(&self, recording: &mut Recording, batch: &[PackedTokens], number: usize, step: u64);

    /// Records the backward pass of the whole batch.
    fn backward(&self, recording: &mut Recording, batch: &[PackedTokens], step: u64) {
        backward_order(batch.len()).for_each(|number| self.backward_one(recording, batch, number, step));
    }

    /// Records one optimizer step, the `step`-th from 0, with the gradients of the last backward pass.
    fn update(&self, recording: &mut Recording, batch: &[PackedTokens], rates: Rates, step: u64);

    /// Its tensors, in a fixed order.
    fn parameters(&self) -> &[Parameter];

    /// Which variants of its kernels were chosen on this device; empty where there is no choice.
    fn chosen_kernels(&self) -> String {
        String::new()
    }

    /// What a reader of the model folder must know, for its `config.json`.
    fn describe(&self) -> serde_json::Value;
}
