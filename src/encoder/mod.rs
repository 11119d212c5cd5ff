//! From packed tokens to features and back: what every text encoder offers, and the bag of tokens.

mod bag;

pub use bag::{Bag, BagOptions};

use crate::device::{Buffer, Recording, Slice};
use crate::optimize::{Rates, Rule};

/// A batch of packed sequences on the device: the real tokens one after the other, no padding.
#[derive(Clone, Debug)]
pub struct PackedTokens {
    /// Documents, B.
    pub batch: usize,
    /// Tokens, T.
    pub count: usize,
    /// Different tokens, U; 0 where no gradient is wanted.
    pub unique: usize,
    /// \[T\] u32.
    pub tokens: Slice,
    /// [B + 1] u32, where each document's tokens begin.
    pub offsets: Slice,
    /// \[U\] u32, ascending.
    pub unique_tokens: Slice,
    /// [U + 1] u32, where the occurrences of each different token begin.
    pub bucket_offsets: Slice,
    /// \[T\] u32, the document of each occurrence.
    pub bucket_rows: Slice,
}

/// A trained tensor with its optimizer states.
#[derive(Clone)]
pub struct Parameter {
    /// Name in the model file.
    pub name: String,
    /// Shape, row-major.
    pub shape: Vec<usize>,
    /// Values, f32.
    pub values: Buffer,
    /// First optimizer state, if the rule has one.
    pub first: Buffer,
    /// Second optimizer state, if the rule has one.
    pub second: Buffer,
}

impl Parameter {
    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A text encoder: packed sequences in, pooled features out, gradient back.
pub trait Encoder {
    /// Features that it gives, D.
    fn features(&self) -> usize;

    /// Records the forward pass; the result is [B, D] f32.
    fn forward(&self, recording: &mut Recording, batch: &PackedTokens) -> Slice;

    /// Where the gradient of the features is to be put before [`Encoder::backward`], [B, D] f32.
    fn feature_gradient(&self, batch: usize) -> Slice;

    /// Records the backward pass of the batch that [`Encoder::forward`] was last recorded for.
    fn backward(&self, recording: &mut Recording, batch: &PackedTokens);

    /// Records one optimizer step with the gradients of the last backward pass.
    fn update(&self, recording: &mut Recording, batch: &PackedTokens, rates: Rates);

    /// The update rule that its states are for.
    fn rule(&self) -> Rule;

    /// Its tensors, in a fixed order.
    fn parameters(&self) -> &[Parameter];

    /// What a reader of the model folder must know, for its `config.json`.
    fn describe(&self) -> serde_json::Value;
}
