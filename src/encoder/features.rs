//! Precomputed features in place of an encoder: the batch brings them, nothing is trained.

use super::{Encoder, PackedTokens, Parameter};
use crate::device::{Recording, Slice};
use crate::optimize::Rates;

/// D numbers a document, from a file.
pub struct Features {
    width: usize,
}

impl Features {
    /// Features of this width.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self { width }
    }
}

impl Encoder for Features {
    fn features(&self) -> usize {
        self.width
    }

    fn forward_one(&self, _: &mut Recording, batch: &[PackedTokens], _: usize, _: Option<u64>) -> Slice {
        assert_eq!(batch.len(), 1, "features come in one piece");
        batch[0].features.clone()
    }

    fn feature_gradient(&self) -> Option<Slice> {
        None
    }

    fn backward_one(&self, _: &mut Recording, _: &[PackedTokens], _: usize, _: u64) {}

    fn update(&self, _: &mut Recording, _: &[PackedTokens], _: Rates, _: u64) {}

    fn parameters(&self) -> &[Parameter] {
        &[]
    }

    fn describe(&self) -> serde_json::Value {
        serde_json::json!({"kind": "features", "width": self.width})
    }
}
