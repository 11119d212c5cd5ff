//! How a layer stores its rows.

use super::{Indices, Storage};

/// How the numbers of a layer that are kept between steps are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Precision {
    /// The weights.
    pub weights: Storage,
    /// The optimizer's states of the weights: f32 or bf16.
    pub moments: Storage,
    /// The features that a training step reads: f32, or f16, to which they are rounded first.
    pub features: Storage,
    /// The indices, and with that where they may point.
    pub indices: Indices,
}

impl Precision {
    /// Every precision that there are shaders for.
    pub(crate) fn all() -> Vec<Self> {
        let with = |moments| Storage::ALL.map(|weights| Self { weights, moments, ..Self::default() });
        [Storage::F32, Storage::Bf16].map(with).concat()
    }

    /// Numbers that an invocation owns, so that no word is shared: rows are padded to a multiple of it.
    #[must_use]
    pub fn span(self) -> usize {
        self.weights.per_word().max(self.moments.per_word())
    }

    /// Words in a row of `width` weights.
    #[must_use]
    pub fn weight_words(self, width: usize) -> usize {
        width.next_multiple_of(self.span()) / self.weights.per_word()
    }

    /// Words in a row of the states of `width` weights.
    #[must_use]
    pub fn moment_words(self, width: usize) -> usize {
        width.next_multiple_of(self.span()) / self.moments.per_word()
    }

    /// The shader's constants.
    pub(crate) fn constants(self) -> [(&'static str, u32); 2] {
        [("WEIGHTS", self.weights as u32), ("MOMENTS", self.moments as u32)]
    }
}
