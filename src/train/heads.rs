//! What lies on the encoder: intermediate layer, classifier, auxiliary head.

use super::build_encoder::product_options;
use super::sizes::{AuxiliarySizes, ModelSizes};
use crate::classifier::{Dense, DenseOptions, DenseRole, FanIn, FanInOptions, Head, Mixed};
use crate::config::{Config, HeadKind, IntermediateActivation, Pattern};
use crate::device::Device;
use crate::encoder::{Intermediate, IntermediateOptions};
use crate::error::Result;
use crate::kernels::activation::Activation;
use crate::kernels::products::Products;
use crate::kernels::storage::{Indices, Precision};

/// The layers on a device.
pub(super) struct Heads {
    pub(super) intermediate: Option<Intermediate>,
    pub(super) classifier: Head,
    pub(super) auxiliary: Option<Dense>,
    /// Which variants of matrix products were chosen; empty where there are none.
    pub(super) chosen_kernels: String,
}

impl Heads {
    /// Allocates the layers over `features` of the encoder; `start`: with starting values, else the classifier is to be
    /// filled from a file.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for values that cannot work together; [`crate::Error::Device`] when they do not fit.
    pub(super) fn build(
        device: &Device,
        config: &Config,
        sizes: ModelSizes,
        features: usize,
        start: bool,
    ) -> Result<Self> {
        config.check_fan_in(features)?;
        config.check_dense_labels(sizes.labels)?;
        let width = config.intermediate_width();
        let dense_labels = config.dense_labels(sizes.labels);
        let dense_classifier = config.classifier.head != HeadKind::FanIn || dense_labels > 0;
        let any = width.is_some() || dense_classifier || sizes.auxiliary.is_some();
        let products =
            if any { Products::choose(device, &product_options(config))? } else { Products::floor() };
        let intermediate =
            width.map(|width| intermediate(device, config, sizes, [features, width], &products));
        let seen = width.unwrap_or(features);
        let classifier = match config.classifier.head {
            HeadKind::FanIn if dense_labels > 0 => {
                let private = config.classifier.dense_features;
                let frequent = DenseOptions {
                    role: DenseRole::Frequent,
                    labels: dense_labels,
                    features: if private > 0 { private } else { seen },
                    ..dense_options(config, sizes, seen)
                };
                let tail = FanInOptions {
                    labels: sizes.labels - dense_labels,
                    ..fan_in_options(config, sizes, seen - private)
                };
                let dense = dense(device, frequent, &products, start)?;
                Head::Mixed(Mixed::new(dense, fan_in(device, tail, start)?, seen)?)
            }
            HeadKind::FanIn => Head::FanIn(fan_in(device, fan_in_options(config, sizes, seen), start)?),
            HeadKind::Dense | HeadKind::Bottleneck => {
                Head::Dense(dense(device, dense_options(config, sizes, seen), &products, start)?)
            }
        };
        let auxiliary = sizes.auxiliary.map(|auxiliary| {
            let options = auxiliary_options(config, sizes, features, auxiliary);
            Dense::new(device, options, products.clone())
        });
        Ok(Self {
            intermediate: intermediate.transpose()?,
            classifier,
            auxiliary: auxiliary.transpose()?,
            chosen_kernels: if any { products.describe() } else { String::new() },
        })
    }
}

fn fan_in(device: &Device, options: FanInOptions, start: bool) -> Result<FanIn> {
    if start { FanIn::new(device, options) } else { FanIn::allocate(device, options) }
}

fn dense(device: &Device, options: DenseOptions, products: &Products, start: bool) -> Result<Dense> {
    let products = products.clone();
    if start { Dense::new(device, options, products) } else { Dense::allocate(device, options, products) }
}

fn intermediate(
    device: &Device,
    config: &Config,
    sizes: ModelSizes,
    [features, width]: [usize; 2],
    products: &Products,
) -> Result<Intermediate> {
    let options = IntermediateOptions {
        features,
        width,
        activation: match config.intermediate.activation {
            IntermediateActivation::None => None,
            IntermediateActivation::Relu => Some(Activation::Relu),
            IntermediateActivation::Gelu => Some(Activation::Gelu),
        },
        max_batch: sizes.feed.documents,
        train: sizes.train_batch > 0,
        rule: config.optimizer.intermediate.optimizer(1).rule,
        seed: config.train.seed,
    };
    Intermediate::new(device, options, products.clone())
}

fn fan_in_options(config: &Config, sizes: ModelSizes, features: usize) -> FanInOptions {
    let c = &config.classifier;
    FanInOptions {
        labels: sizes.labels,
        features,
        fan_in: c.fan_in,
        group: c.group,
        max_batch: sizes.train_batch.max(1),
        rule: config.optimizer.classifier.optimizer(1).rule,
        precision: Precision {
            weights: c.weights,
            moments: c.moments,
            features: c.features,
            indices: match c.pattern {
                Pattern::Free => Indices::Free,
                Pattern::Stratified => Indices::Stratified { features },
            },
        },
        train_bias: c.bias,
        init_scale: c.init_scale as f32,
        bias_init: sizes.bias_init,
        seed: config.train.seed,
        max_block_rows: sizes.max_block_rows,
        inverted_index: c.inverted_index,
    }
}

fn dense_options(config: &Config, sizes: ModelSizes, features: usize) -> DenseOptions {
    DenseOptions {
        role: DenseRole::Classifier,
        labels: sizes.labels,
        features,
        max_batch: sizes.train_batch,
        rule: config.optimizer.classifier.optimizer(1).rule,
        train_bias: config.classifier.bias,
        init_scale: config.classifier.init_scale as f32,
        bias_init: sizes.bias_init,
        seed: config.train.seed,
        max_block_rows: sizes.max_block_rows,
    }
}

/// The auxiliary head starts like a dense classifier.
fn auxiliary_options(
    config: &Config,
    sizes: ModelSizes,
    features: usize,
    auxiliary: AuxiliarySizes,
) -> DenseOptions {
    DenseOptions {
        role: DenseRole::Auxiliary,
        labels: auxiliary.clusters,
        rule: config.optimizer.auxiliary.optimizer(1).rule,
        train_bias: true,
        bias_init: auxiliary.bias_init,
        ..dense_options(config, sizes, features)
    }
}
