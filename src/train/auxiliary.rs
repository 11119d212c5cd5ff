//! The clusters of labels that the auxiliary objective predicts (SPARTEX §2.3).

use std::path::Path;

use super::sizes::AuxiliarySizes;
use crate::classifier::Loss;
use crate::config::{BiasInit, BiasRule, Config};
use crate::data::clusters::{ClusterProgress, text_cluster_count};
use crate::data::{Dataset, LabelClusters, text_clusters};
use crate::error::{Error, Result};

/// Where clusters come from.
enum Source<'a> {
    /// Drawn.
    Random,
    /// From the texts of the labels' documents.
    Text,
    /// Read.
    File(&'a Path),
}

impl Source<'_> {
    fn of(config: &Config) -> Source<'_> {
        match config.auxiliary.clusters.as_str() {
            "random" => Source::Random,
            "text" => Source::Text,
            path => Source::File(Path::new(path)),
        }
    }
}

/// The clusters of a run, from where `auxiliary.clusters` says; none without an auxiliary objective.
///
/// # Errors
/// As [`LabelClusters::from_file`]; [`Error::Config`] when there is no such file.
pub fn auxiliary_clusters(
    config: &Config,
    dataset: &Dataset,
    progress: &mut dyn FnMut(ClusterProgress),
) -> Result<Option<LabelClusters>> {
    if !config.has_auxiliary() {
        return Ok(None);
    }
    let (labels, size, seed) = (dataset.labels.len(), config.auxiliary.cluster_size, config.train.seed);
    match Source::of(config) {
        Source::Random => Ok(LabelClusters::random(labels, size, seed)),
        Source::Text => text_clusters(dataset, size, seed, progress),
        Source::File(path) => read(path, dataset),
    }
    .map(Some)
}

/// How many clusters a run has, without making them; 0 without an auxiliary objective.
///
/// # Errors
/// As [`auxiliary_clusters`].
pub(super) fn cluster_count(config: &Config, dataset: &Dataset) -> Result<usize> {
    match Source::of(config) {
        Source::File(path) if config.has_auxiliary() => Ok(read(path, dataset)?.count()),
        _ => auxiliary_cluster_count(config, dataset.labels.len()),
    }
}

/// How many clusters a run over `labels` labels has, before its data are there; 0 without an auxiliary objective.
///
/// # Errors
/// [`Error::Config`] for clusters from a file, which takes the data to be read.
pub fn auxiliary_cluster_count(config: &Config, labels: usize) -> Result<usize> {
    if !config.has_auxiliary() {
        return Ok(0);
    }
    let size = config.auxiliary.cluster_size;
    match Source::of(config) {
        Source::Random => Ok(labels.div_ceil(size)),
        Source::Text => Ok(text_cluster_count(labels, size)),
        Source::File(path) => {
            let message = format!("the clusters of {} are known only with the data set", path.display());
            Err(Error::config("auxiliary.clusters", message))
        }
    }
}

fn read(path: &Path, dataset: &Dataset) -> Result<LabelClusters> {
    if !path.is_file() {
        let message =
            format!("must be random, text or a file of clusters; there is no file {}", path.display());
        return Err(Error::config("auxiliary.clusters", message));
    }
    LabelClusters::from_file(path, &dataset.labels)
}

/// The auxiliary head of a run with so many clusters, if there are any. Its biases start where BCE expects as many
/// positives as a document has labels.
pub(super) fn auxiliary_sizes(clusters: usize, labels_per_document: f64) -> Option<AuxiliarySizes> {
    let prior = BiasInit::Named(BiasRule::Prior);
    let bias_init = prior.value(Loss::Bce, clusters, labels_per_document) as f32;
    (clusters > 0).then_some(AuxiliarySizes { clusters, bias_init })
}
