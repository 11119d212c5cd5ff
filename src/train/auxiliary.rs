//! The clusters of labels that the auxiliary objective predicts (SPARTEX §2.3).

use super::model::AuxiliarySizes;
use crate::classifier::Loss;
use crate::config::{BiasInit, BiasRule, Config};
use crate::data::{Dataset, LabelClusters};
use crate::error::{Error, Result};

/// The name of random clusters in the config.
const RANDOM: &str = "random";

/// The clusters of a run, from where `auxiliary.clusters` says.
///
/// # Errors
/// [`Error::Config`] when there is no such source.
pub fn auxiliary_clusters(config: &Config, dataset: &Dataset) -> Result<LabelClusters> {
    check_source(config)?;
    Ok(LabelClusters::random(dataset.labels.len(), config.auxiliary.cluster_size, config.train.seed))
}

/// How many clusters a run over `labels` labels has, before its data are there; 0 without an auxiliary objective.
///
/// # Errors
/// As [`auxiliary_clusters`].
pub fn auxiliary_cluster_count(config: &Config, labels: usize) -> Result<usize> {
    if !config.has_auxiliary() {
        return Ok(0);
    }
    check_source(config)?;
    Ok(labels.div_ceil(config.auxiliary.cluster_size))
}

/// The auxiliary head of a run with so many clusters, if there are any. Its biases start where BCE expects as many
/// positives as a document has labels.
pub(super) fn auxiliary_sizes(clusters: usize, labels_per_document: f64) -> Option<AuxiliarySizes> {
    let prior = BiasInit::Named(BiasRule::Prior);
    let bias_init = prior.value(Loss::Bce, clusters, labels_per_document) as f32;
    (clusters > 0).then_some(AuxiliarySizes { clusters, bias_init })
}

fn check_source(config: &Config) -> Result<()> {
    let source = &config.auxiliary.clusters;
    if source == RANDOM {
        return Ok(());
    }
    let message = format!("{source:?} is no source of clusters; there is \"{RANDOM}\"");
    Err(Error::config("auxiliary.clusters", message))
}
