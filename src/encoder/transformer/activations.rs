//! What a pass through the layers keeps, and for how long: the activations' memory by lifetime.

use super::TransformerOptions;
use crate::device::{Buffer, Device};
use crate::error::Result;

/// What the backward pass of a layer needs besides the layer's input.
#[derive(Clone)]
pub(super) struct Inner {
    /// Queries, keys, values and the heads' results, [T, H] each.
    pub(super) query: Buffer,
    pub(super) key: Buffer,
    pub(super) value: Buffer,
    pub(super) context: Buffer,
    /// Log of the sum of exponentials of each token's scores, [T, heads].
    pub(super) log_sums: Buffer,
    /// Input and output of the attention's norm, [T, H], and its statistics, [T, 2].
    pub(super) attention_sum: Buffer,
    pub(super) attention_normed: Buffer,
    pub(super) attention_stats: Buffer,
    /// Before the activation of the feed-forward part, [T, I].
    pub(super) intermediate: Buffer,
    /// Input of the output's norm, [T, H], and its statistics, [T, 2].
    pub(super) output_sum: Buffer,
    pub(super) output_stats: Buffer,
}

/// Used by every layer in turn.
pub(super) struct Scratch {
    /// Result of a dense layer before its residual is added, [T, H].
    pub(super) projected: Buffer,
    /// After the activation of the feed-forward part, [T, I].
    pub(super) activated: Buffer,
}

/// Used by every layer's backward pass in turn; names say what is in it most of the time.
pub(super) struct Backward {
    /// Gradient of the output of the stage at hand, [T, H].
    pub(super) grad: Buffer,
    /// The same in the middle of a layer.
    pub(super) middle: Buffer,
    /// Gradient behind a dropout.
    pub(super) dropped: Buffer,
    /// Gradients of queries, keys and values, [T, H] each.
    pub(super) query: Buffer,
    pub(super) key: Buffer,
    pub(super) value: Buffer,
    /// Each token's sum of gradient times result, [T, heads].
    pub(super) delta: Buffer,
    /// After and before the activation of the feed-forward part, [T, I].
    pub(super) activated: Buffer,
    pub(super) intermediate: Buffer,
}

/// All of them.
pub(super) struct Activations {
    /// Embeddings before their norm, after it and before dropout, [T, H]; statistics [T, 2].
    pub(super) embedding_sum: Buffer,
    pub(super) embedding_normed: Buffer,
    pub(super) embedding_stats: Buffer,
    /// Outputs of the embeddings and of each layer, [T, H]. Where none is needed again, two take turns.
    pub(super) outputs: Vec<Buffer>,
    /// Of each layer; the same one where it is computed again or not needed again.
    pub(super) inner: Vec<Inner>,
    pub(super) scratch: Scratch,
    pub(super) backward: Backward,
}

impl Activations {
    pub(super) fn allocate(device: &Device, o: &TransformerOptions) -> Result<Self> {
        let a = o.architecture;
        let tokens = |label: &str, width: usize| device.allocate(label, (o.max_tokens * width * 4) as u64);
        let inner = || -> Result<Inner> {
            Ok(Inner {
                query: tokens("queries", a.hidden)?,
                key: tokens("keys", a.hidden)?,
                value: tokens("values", a.hidden)?,
                context: tokens("attention results", a.hidden)?,
                log_sums: tokens("attention log sums", a.heads)?,
                attention_sum: tokens("attention norm inputs", a.hidden)?,
                attention_normed: tokens("attention norm outputs", a.hidden)?,
                attention_stats: tokens("norm statistics", 2)?,
                intermediate: tokens("feed-forward activations", a.intermediate)?,
                output_sum: tokens("output norm inputs", a.hidden)?,
                output_stats: tokens("norm statistics", 2)?,
            })
        };
        // A layer keeps what is its own only where its backward pass runs and does not compute it again.
        let shared = inner()?;
        let keeps =
            |layer: usize| o.train && !o.recompute && layer + 1 >= o.frozen_stages && layer + 1 < a.layers;
        let inners = (0..a.layers).map(|layer| if keeps(layer) { inner() } else { Ok(shared.clone()) });
        let inners = inners.collect::<Result<Vec<_>>>()?;
        let mut turns = [None, None];
        let outputs = (0..=a.layers).map(|stage| {
            // The input of every layer whose backward pass runs.
            let kept = o.train && stage + 1 >= o.frozen_stages && stage < a.layers;
            match &turns[stage % 2] {
                Some(buffer) if !kept => Ok(Buffer::clone(buffer)),
                _ => {
                    let buffer = tokens("layer outputs", a.hidden)?;
                    if !kept {
                        turns[stage % 2] = Some(buffer.clone());
                    }
                    Ok(buffer)
                }
            }
        });
        let outputs = outputs.collect::<Result<Vec<_>>>()?;
        let trained = |label: &str, width: usize| tokens(label, if o.train { width } else { 0 });
        Ok(Self {
            embedding_sum: tokens("embedding sums", a.hidden)?,
            embedding_normed: tokens("embedding norm outputs", a.hidden)?,
            embedding_stats: tokens("norm statistics", 2)?,
            outputs,
            inner: inners,
            scratch: Scratch {
                projected: tokens("dense results", a.hidden)?,
                activated: tokens("feed-forward results", a.intermediate)?,
            },
            backward: Backward {
                grad: trained("gradient of layer outputs", a.hidden)?,
                middle: trained("gradient of attention outputs", a.hidden)?,
                dropped: trained("gradient behind dropout", a.hidden)?,
                query: trained("gradient of queries", a.hidden)?,
                key: trained("gradient of keys", a.hidden)?,
                value: trained("gradient of values", a.hidden)?,
                delta: trained("gradient times attention results", a.heads)?,
                activated: trained("gradient of feed-forward results", a.intermediate)?,
                intermediate: trained("gradient of feed-forward activations", a.intermediate)?,
            },
        })
    }
}
