//! Which labels share a row of indices (`classifier.group`, `classifier.grouping`) and which are dense
//! (`classifier.dense_labels`): the order in which labels become rows. The most frequent come first where these are
//! dense, and consecutive runs of the others are the groups.

use std::cmp::Reverse;
use std::path::Path;

use super::row_order::RowOrder;
use crate::config::Config;
use crate::data::clusters::ClusterProgress;
use crate::data::{Dataset, LabelClusters, label_frequencies, text_clusters};
use crate::error::{Error, Result};
use crate::random::{Purpose, below, words};

/// How labels are put side by side.
enum Grouping<'a> {
    /// By falling frequency in training.
    Frequency,
    /// Shuffled.
    Random,
    /// By the texts of their documents.
    Text,
    /// By clusters from a file.
    File(&'a Path),
}

impl Grouping<'_> {
    fn of(config: &Config) -> Grouping<'_> {
        match config.classifier.grouping.as_str() {
            "frequency" => Grouping::Frequency,
            "random" => Grouping::Random,
            "text" => Grouping::Text,
            path => Grouping::File(Path::new(path)),
        }
    }
}

/// The order of the rows of a run: the labels of the dense part by falling frequency in training, then the others as
/// `classifier.grouping` says, or by frequency where they share nothing. None where there is no dense part and no labels
/// share their features.
///
/// # Errors
/// As [`LabelClusters::from_file`]; [`Error::Config`] when there is no such file.
pub fn row_order(
    config: &Config,
    dataset: &Dataset,
    progress: &mut dyn FnMut(ClusterProgress),
) -> Result<Option<RowOrder>> {
    let (group, seed) = (config.classifier.group, config.train.seed);
    let labels = dataset.labels.len();
    let dense = config.dense_labels(labels);
    if group == 1 && dense == 0 {
        return Ok(None);
    }
    let frequent = by_frequency(&label_frequencies(&dataset.train, labels));
    let grouping = if group > 1 { Grouping::of(config) } else { Grouping::Frequency };
    let order = match grouping {
        Grouping::Frequency => frequent.clone(),
        Grouping::Random => shuffled(labels, seed),
        Grouping::Text => one_after_another(&text_clusters(dataset, group, seed, progress)?),
        Grouping::File(path) => one_after_another(&read(path, dataset)?),
    };
    RowOrder::new(dense_first(&frequent[..dense], order)).map(Some)
}

/// The labels `dense`, then the others in their `order`.
fn dense_first(dense: &[u32], order: Vec<u32>) -> Vec<u32> {
    let mut is_dense = vec![false; order.len()];
    dense.iter().for_each(|label| is_dense[*label as usize] = true);
    let others = order.into_iter().filter(|label| !is_dense[*label as usize]);
    dense.iter().copied().chain(others).collect()
}

/// Whether the order can be made, without the work of making it.
///
/// # Errors
/// As [`row_order`].
pub(super) fn check_grouping(config: &Config, dataset: &Dataset) -> Result<()> {
    match Grouping::of(config) {
        Grouping::File(path) if config.classifier.group > 1 => read(path, dataset).map(|_| ()),
        _ => Ok(()),
    }
}

fn read(path: &Path, dataset: &Dataset) -> Result<LabelClusters> {
    if !path.is_file() {
        let message = format!(
            "must be frequency, random, text or a file of clusters; there is no file {}",
            path.display()
        );
        return Err(Error::config("classifier.grouping", message));
    }
    LabelClusters::from_file(path, &dataset.labels)
}

/// Labels by falling frequency; those of the same frequency by their number.
fn by_frequency(frequency: &[u32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..frequency.len() as u32).collect();
    // In place: a stable sort would take as much memory again.
    order.sort_unstable_by_key(|label| (Reverse(frequency[*label as usize]), *label));
    order
}

/// A Fisher–Yates shuffle.
fn shuffled(labels: usize, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..labels as u32).collect();
    for last in (1..labels).rev() {
        let word = words(seed, Purpose::Grouping, 0, last as u32, 0)[0];
        order.swap(last, below(word, last as u32 + 1) as usize);
    }
    order
}

/// The labels of the first cluster, then those of the next: clusters as large as a group are groups.
fn one_after_another(clusters: &LabelClusters) -> Vec<u32> {
    let lists = clusters.lists();
    (0..clusters.count()).flat_map(|cluster| lists.of(cluster).iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::{by_frequency, dense_first, one_after_another, shuffled};
    use crate::data::LabelClusters;

    #[test]
    fn orders_by_hand() {
        assert_eq!(by_frequency(&[3, 0, 7, 3, 9]), [4, 2, 0, 3, 1]);
        let clusters = LabelClusters::new(vec![1, 0, 2, 1, 0]).unwrap();
        assert_eq!(one_after_another(&clusters), [1, 4, 0, 3, 2]);
        assert_eq!(dense_first(&[4, 2], vec![1, 4, 0, 3, 2]), [4, 2, 1, 0, 3]);
    }

    #[test]
    fn a_shuffle_holds_every_label_and_depends_on_the_seed() {
        let order = shuffled(1000, 7);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1000));
        assert_eq!(order, shuffled(1000, 7));
        assert_ne!(order, shuffled(1000, 8));
        // Of a shuffle of 1000, one label stays where it was on average.
        assert!(order.iter().enumerate().filter(|(row, label)| *row == **label as usize).count() < 10);
    }
}
