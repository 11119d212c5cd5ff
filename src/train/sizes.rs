//! The sizes of a model and of its inputs, and how config and data set decide them.

use super::auxiliary::{auxiliary_sizes, cluster_count};
use super::build_encoder::micro_batch;
use super::calendar::Calendar;
use super::devices::Devices;
use super::encoder_source::{EncoderSource, check_tokenizer};
use super::feed::FeedSizes;
use super::grouping::check_grouping;
use super::host_memory::HostSizes;
use super::plan::Plan;
use super::selection;
use crate::config::{Config, EvaluateOn};
use crate::data::{Dataset, Split};
use crate::encoder::Pooling;
use crate::error::{Error, Result};
use crate::pretrained::Architecture;

/// What the data or the files decide about an encoder.
#[derive(Clone, Copy, Debug)]
pub enum EncoderSizes {
    /// A bag of tokens.
    Bag {
        /// Tokens in the vocabulary.
        vocabulary: usize,
    },
    /// Precomputed features of this width.
    Features(usize),
    /// A transformer.
    Transformer {
        /// Sizes and constants.
        architecture: Architecture,
        /// From tokens to features.
        pooling: Pooling,
    },
}

/// What the data decide about an auxiliary head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AuxiliarySizes {
    /// Clusters of labels, C.
    pub clusters: usize,
    /// Starting bias of the clusters.
    pub bias_init: f32,
}

/// What a model must have room for.
#[derive(Clone, Copy, Debug)]
pub struct ModelSizes {
    /// The encoder.
    pub encoder: EncoderSizes,
    /// Labels.
    pub labels: usize,
    /// The auxiliary head, if there is one.
    pub auxiliary: Option<AuxiliarySizes>,
    /// Documents of the largest training step; 0 for a model that only ranks.
    pub train_batch: usize,
    /// The largest batch of training and ranking.
    pub feed: FeedSizes,
    /// Starting bias of the labels.
    pub bias_init: f32,
    /// Upper limit of labels in a block; 0: what the device allows.
    pub max_block_rows: usize,
}

/// Whether a run can begin: the data have the split to evaluate on, the sizes work together and fit on the device, the
/// pretrained weights are whole. To be known before a run folder is touched.
///
/// # Errors
/// As [`model_sizes`], [`Plan::new`], [`Plan::check`] and [`EncoderSource::check_weights`].
pub fn check_run<'d>(
    devices: impl Into<Devices<'d>>,
    config: &Config,
    source: &EncoderSource,
    dataset: &Dataset,
) -> Result<()> {
    let sizes = model_sizes(config, source, dataset, 0)?;
    source.check_weights(config)?;
    Plan::new(devices, config, sizes)?.with_host(config, HostSizes::of_dataset(config, dataset)?).check()
}

/// The sizes of the model of a run.
///
/// # Errors
/// [`Error::Config`] when the split to evaluate on is not there or may not end the run, or data and encoder do not belong
/// together; as [`super::auxiliary_clusters`] and [`super::row_order`].
pub fn model_sizes(
    config: &Config,
    source: &EncoderSource,
    dataset: &Dataset,
    max_block_rows: usize,
) -> Result<ModelSizes> {
    check_tokenizer(config, &dataset.tokenizer)?;
    let encoder = source.sizes(config, Some(dataset.tokenizer.vocabulary() as usize))?;
    if let EncoderSizes::Features(width) = encoder {
        let others = [(&dataset.dev, "dev"), (&dataset.test, "test")];
        let others = others.into_iter().filter_map(|(split, name)| split.as_ref().map(|split| (split, name)));
        for (split, name) in others.chain([(&dataset.train, "train")]) {
            split.check_features(width, name)?;
        }
    }
    let calendar = Calendar::new(config, dataset.train.len());
    let labels = dataset.labels.len();
    let per_document = dataset.train.positives() as f64 / dataset.train.len().max(1) as f64;
    let clusters = cluster_count(config, dataset)?;
    check_grouping(config, dataset)?;
    Ok(ModelSizes {
        encoder,
        labels,
        auxiliary: auxiliary_sizes(clusters, per_document),
        train_batch: calendar.step_documents.min(dataset.train.len()),
        feed: feed_sizes(config, dataset, &calendar, evaluated_split(config, dataset)?),
        bias_init: config.classifier.bias_init.value(config.classifier.loss, labels, per_document) as f32,
        max_block_rows,
    })
}

/// The split that is evaluated during training, and its name.
///
/// # Errors
/// [`Error::Config`] when it is not there, or may not decide what it is asked to decide.
pub(super) fn evaluated_split<'d>(
    config: &Config,
    dataset: &'d Dataset,
) -> Result<Option<(&'d Split, &'static str)>> {
    let chosen = wanted_split(config, dataset)?;
    selection::check(config, chosen.map(|(_, name)| name))?;
    Ok(chosen)
}

fn wanted_split<'d>(config: &Config, dataset: &'d Dataset) -> Result<Option<(&'d Split, &'static str)>> {
    let dev_name = if dataset.held_out > 0 { selection::HELD_OUT } else { selection::DEV };
    let dev = dataset.dev.as_ref().map(|split| (split, dev_name));
    let test = dataset.test.as_ref().map(|split| (split, "test"));
    let wanted = match config.train.evaluate_on {
        EvaluateOn::None => return Ok(None),
        EvaluateOn::Auto => return Ok(dev.or(test)),
        EvaluateOn::Dev => dev,
        EvaluateOn::Test => test,
        EvaluateOn::Train => Some((&dataset.train, "train")),
    };
    let missing = || Error::config("train.evaluate_on", "the data set has no such split; say auto or none");
    wanted.map(Some).ok_or_else(missing)
}

/// Room for the largest batch of training and of evaluation.
fn feed_sizes(
    config: &Config,
    dataset: &Dataset,
    calendar: &Calendar,
    evaluated: Option<(&Split, &str)>,
) -> FeedSizes {
    let micro_batch = micro_batch(config);
    let mut sizes = FeedSizes::of_split(&dataset.train, calendar.step_documents, micro_batch);
    if let Some((split, _)) = evaluated {
        sizes = sizes.max(FeedSizes::of_split(split, config.evaluate.batch_size, micro_batch));
    }
    FeedSizes { filtered: dataset.filter.len(), ..sizes }
}
