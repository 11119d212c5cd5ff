//! Transformers of the golden model folders on a device.

use std::path::Path;

use regrow::data::{Batch, Split};
use regrow::device::{Buffer, Device, Recording, Slice};
use regrow::encoder::{Encoder, PackedTokens, Parameter, Pooling, States, Transformer, TransformerOptions};
use regrow::kernels::dropout::Dropout;
use regrow::kernels::dropout_rows;
use regrow::kernels::optimizer::Rule;
use regrow::kernels::products::Products;
use regrow::kernels::storage::Storage;
use regrow::pretrained::{Architecture, EncoderTensors, PretrainedModel, PretrainedWeights};
use regrow::train::{Feed, FeedSizes};

use super::golden::Case;

/// The documents of a padded batch [B, T]: the tokens that the mask keeps.
pub fn documents(case: &Case) -> Vec<Vec<u32>> {
    let ((ids, shape), (mask, _)) = (case.i32("input_ids"), case.i32("attention_mask"));
    unpadded(&ids, &mask, shape[1])
}

/// Rows of `width` ids without what the mask leaves out.
pub fn unpadded(ids: &[i32], mask: &[i32], width: usize) -> Vec<Vec<u32>> {
    let rows = ids.chunks_exact(width).zip(mask.chunks_exact(width));
    rows.map(|(ids, mask)| ids.iter().zip(mask).filter(|(_, m)| **m == 1).map(|(id, _)| *id as u32).collect())
        .collect()
}

/// Options for documents of these lengths, without dropout.
pub fn options(
    model: &PretrainedModel,
    documents: &[Vec<u32>],
    pooling: Pooling,
    products: Products,
) -> TransformerOptions {
    let tokens = documents.iter().map(Vec::len).sum();
    TransformerOptions {
        architecture: model.architecture,
        pooling,
        hidden_dropout: 0.0,
        attention_dropout: 0.0,
        frozen_stages: 0,
        recompute: false,
        clip_norm: 0.0,
        train: true,
        max_batch: documents.len(),
        max_tokens: tokens,
        max_unique: tokens,
        seed: 3,
        states: States { rule: Rule::Sgd, moments: Storage::F32 },
        products,
    }
}

/// An encoder with the weights of a folder.
pub fn load(device: &Device, folder: &Path, options: TransformerOptions) -> Transformer {
    let architecture = options.architecture;
    let encoder = Transformer::new(device, options).unwrap();
    load_weights(device, folder, &architecture, encoder.parameters());
    encoder
}

/// Fills an encoder's parameters with the weights of a folder.
pub fn load_weights(device: &Device, folder: &Path, architecture: &Architecture, parameters: &[Parameter]) {
    let weights = PretrainedWeights::open(folder, architecture, None).unwrap();
    for (tensor, parameter) in EncoderTensors::of(architecture).iter().zip(parameters) {
        parameter.write(device, &weights.read(tensor).unwrap()).unwrap();
    }
}

/// Documents on the device, in micro-batches.
pub struct Fed {
    feed: Feed,
    batch: Batch,
}

impl Fed {
    pub fn new(device: &Device, documents: &[Vec<u32>], micro_batch: usize) -> Self {
        let split = Split::from_documents(documents.iter().map(|tokens| (tokens.clone(), vec![])));
        let rows: Vec<u32> = (0..documents.len() as u32).collect();
        let sizes = FeedSizes::of_split(&split, documents.len(), micro_batch);
        Self {
            feed: Feed::new(device, sizes, 0).unwrap(),
            batch: Batch::assemble(&split, &rows, micro_batch),
        }
    }

    pub fn record(&self, recording: &mut Recording) -> Vec<PackedTokens> {
        self.feed.record(recording, &self.batch, &|_| Vec::new()).tokens
    }

    /// The distinct tokens, in the order of the gradient's rows.
    pub fn unique(&self) -> &[u32] {
        &self.batch.token_buckets
    }
}

/// Copies `count` numbers.
pub fn copy(recording: &mut Recording, count: usize, from: &Slice, to: &Slice) {
    recording.launch(dropout_rows::launch(count, Dropout::OFF, from, to));
}

/// The front of a slice as numbers.
pub fn read(device: &Device, slice: &Slice, count: usize) -> Vec<f32> {
    let out: Buffer = device.allocate("read", (count * 4) as u64).unwrap();
    let mut recording = Recording::new();
    copy(&mut recording, count, slice, &out.whole());
    device.submit(recording).unwrap();
    device.read_vec(&out, count).unwrap()
}
