//! Ranking a split and scoring the ranking.

use std::sync::Arc;

use super::devices::Devices;
use super::model::Model;
use super::row_order::RankedLabels;
use crate::classifier::Ranker;
use crate::config::Config;
use crate::data::{Batch, Dataset, Split, label_frequencies};
use crate::error::Result;
use crate::evaluate::{DEPTH, Filter, Metrics, Propensities, Ranking};

/// What training knew of each label: its frequency, and how its propensity follows from that.
#[derive(Clone, Debug)]
pub struct Assessment {
    /// \[L\]
    frequency: Arc<[u32]>,
    model: Propensities,
}

/// Training documents of each label, and their number, as the propensities count them. Of the labels' texts each label
/// has one; `evaluate.propensity_augmented` says whether they count (they do in SPARTEX's code and in Renee's).
pub(super) fn training_counts(config: &Config, dataset: &Dataset) -> (Vec<u32>, u64) {
    let mut frequency = label_frequencies(&dataset.train, dataset.labels.len());
    let documents = dataset.train.len() as u64;
    let label_texts = dataset.summary.train.as_ref().map_or(0, |train| train.label_texts);
    if config.evaluate.propensity_augmented || label_texts == 0 {
        return (frequency, documents);
    }
    frequency.iter_mut().for_each(|count| *count -= 1);
    (frequency, documents - label_texts)
}

/// Propensities of Jain et al. (2016) from the labels' frequencies in training. \[L\]
#[must_use]
pub fn propensities(train_frequency: Arc<[u32]>, train_documents: u64, a: f64, b: f64) -> Assessment {
    Assessment { frequency: train_frequency, model: Propensities::new(train_documents, a, b) }
}

/// Ranks every document of a split, in batches, and scores the ranking. `filter` belongs to the split. `progress` is
/// told how many documents are done.
///
/// # Errors
/// [`crate::Error::Device`] when the device fails.
pub fn assess<'d>(
    devices: impl Into<Devices<'d>>,
    model: &Model,
    split: &Split,
    filter: &Filter,
    batch_size: usize,
    propensities: &Assessment,
    progress: &mut dyn FnMut(usize),
) -> Result<Metrics> {
    Ok(judge(devices, model, split, filter, batch_size, propensities, progress)?.finish())
}

/// As [`assess`], for whoever also wants to know what happened to each label ([`Ranking::label_counts`]).
///
/// # Errors
/// [`crate::Error::Device`] when the device fails.
pub fn judge<'d>(
    devices: impl Into<Devices<'d>>,
    model: &Model,
    split: &Split,
    filter: &Filter,
    batch_size: usize,
    propensities: &Assessment,
    progress: &mut dyn FnMut(usize),
) -> Result<Ranking> {
    let devices = devices.into();
    let ranker = Ranker::new(devices.classifier, &model.classifier, DEPTH, batch_size)?;
    let mut ranking = Ranking::by_frequency(Arc::clone(&propensities.frequency), propensities.model);
    let documents: Vec<u32> = (0..split.len() as u32).collect();
    let mut waiting = None;
    let mut done = 0;
    let mut score = |documents: &[u32], ranked: RankedLabels<'_>| -> Result<()> {
        for (document, list) in documents.iter().zip(ranked.collect(devices)?) {
            let labels: Vec<u32> = list.into_iter().map(|(label, _)| label).collect();
            ranking.add(&labels, split.labels(*document as usize));
        }
        done += documents.len();
        progress(done);
        Ok(())
    };
    // One batch is scored while the next is ranked.
    for documents in documents.chunks(batch_size) {
        let batch = Batch::assemble(split, documents, model.micro_batch);
        let ranked = model.rank(devices, &ranker, &batch, &|document| filter.of(document).to_vec())?;
        if let Some((documents, ranked)) = waiting.replace((documents, ranked)) {
            score(documents, ranked)?;
        }
    }
    if let Some((documents, ranked)) = waiting {
        score(documents, ranked)?;
    }
    Ok(ranking)
}
