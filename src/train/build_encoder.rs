//! The encoder of a model, made as the config says.

use super::sizes::{EncoderSizes, ModelSizes};
use crate::config::{Config, EncoderInit, EncoderKind};
use crate::device::Device;
use crate::encoder::{Bag, BagOptions, Encoder, Features, Pooling, States, Transformer, TransformerOptions};
use crate::error::Result;
use crate::kernels::products::{ProductOptions, Products};
use crate::pretrained::Architecture;

/// Documents that the encoder takes at once: all of a step, or one of the batches that it accumulates.
#[must_use]
pub fn micro_batch(config: &Config) -> usize {
    match config.encoder.kind {
        EncoderKind::Bag | EncoderKind::Features => usize::MAX,
        EncoderKind::Transformer => config.train.batch_size,
    }
}

pub(super) fn product_options(config: &Config) -> ProductOptions {
    let names = config.train.kernels_off.split(',').map(str::trim).filter(|name| !name.is_empty());
    ProductOptions {
        precision: config.train.matmul_precision,
        off: names.map(str::to_owned).collect(),
        deterministic: config.train.deterministic,
        cache: Some(config.cache_folder()),
        measure_software: false,
    }
}

/// An encoder of zeros, or of random numbers where the config says so.
pub(super) fn build_encoder(device: &Device, config: &Config, sizes: ModelSizes) -> Result<Box<dyn Encoder>> {
    Ok(match sizes.encoder {
        EncoderSizes::Bag { vocabulary } => Box::new(Bag::new(
            device,
            BagOptions {
                vocabulary,
                dim: config.encoder.dim,
                hidden: config.encoder.hidden.clone(),
                norm_epsilon: config.encoder.norm_epsilon as f32,
                init_scale: config.encoder.init_scale as f32,
                max_batch: sizes.feed.documents,
                max_unique: sizes.feed.tokens,
                seed: config.train.seed,
                states: encoder_states(config),
            },
        )?),
        EncoderSizes::Features(width) => Box::new(Features::new(width)),
        EncoderSizes::Transformer { architecture, pooling } => {
            Box::new(transformer(device, config, sizes, architecture, pooling)?)
        }
    })
}

/// The optimizer's states of the encoder's tensors.
fn encoder_states(config: &Config) -> States {
    States { rule: config.optimizer.encoder.optimizer(1).rule, moments: config.encoder.moments }
}

/// The transformer of a model: trained where a training step has documents.
fn transformer(
    device: &Device,
    config: &Config,
    sizes: ModelSizes,
    architecture: Architecture,
    pooling: Pooling,
) -> Result<Transformer> {
    let e = &config.encoder;
    let train = sizes.train_batch > 0;
    let options = TransformerOptions {
        architecture,
        pooling,
        hidden_dropout: e.hidden_dropout.or(architecture.hidden_dropout),
        attention_dropout: e.attention_dropout.or(architecture.attention_dropout),
        frozen_stages: e.freeze.stages(architecture.layers),
        recompute: e.recompute,
        clip_norm: config.train.clip_norm as f32,
        train,
        max_batch: sizes.feed.documents,
        max_tokens: sizes.feed.micro_tokens,
        max_unique: sizes.feed.tokens,
        seed: config.train.seed,
        states: encoder_states(config),
        products: Products::choose(device, &product_options(config))?,
    };
    let transformer = Transformer::new(device, options)?;
    if train && e.init == EncoderInit::Scratch && !device.only_plans() {
        transformer.start_from_scratch(device)?;
    }
    Ok(transformer)
}
