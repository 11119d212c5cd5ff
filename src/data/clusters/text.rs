//! Clusters of labels whose documents speak of the same things: balanced hierarchical spherical 2-means.

use rayon::prelude::*;

use super::bisection::{LARGE, bisect};
use super::label_vectors::LabelVectors;
use super::{ClusterProgress, ClusterStage, LabelClusters};
use crate::data::dataset::Dataset;
use crate::error::{Error, Result};
use crate::random::{Purpose, below, words};

/// Starts of each halving, of which the best counts. One may end in halves that cut through what belongs together: with 8
/// planted topics a fifth of the pairs of a topic are torn apart after one start each, few after four.
const STARTS: u32 = 4;

/// Clusters of the labels of a data set, by the texts of their training documents; none is larger than `size`.
/// See [`LabelVectors::clusters`].
///
/// # Errors
/// [`Error::Usage`] when `size` is 0 or there are no labels.
pub fn text_clusters(
    dataset: &Dataset,
    size: usize,
    seed: u64,
    progress: &mut dyn FnMut(ClusterProgress),
) -> Result<LabelClusters> {
    LabelVectors::of_split(&dataset.train, dataset.labels.len(), LabelVectors::MAX_TERMS, progress)
        .clusters(size, seed, progress)
}

/// How many clusters [`text_clusters`] makes of so many labels.
#[must_use]
pub fn text_cluster_count(labels: usize, size: usize) -> usize {
    (1 << levels(labels, size)).min(labels)
}

impl LabelVectors {
    /// Halves the labels again and again, level by level, until no cluster is larger than `size`: 2ᵈ clusters with the
    /// smallest d for which that holds, fewer only where there are fewer labels (spec of the reference's files: SPARTEX
    /// App. E, LightXML's `cluster.py`). Sizes differ by at most one. Labels without a vector take no part: they are
    /// dealt out afterwards, so that sizes still differ by at most one.
    ///
    /// Starting centres are drawn with `seed`; the result does not depend on the number of threads.
    ///
    /// # Errors
    /// [`Error::Usage`] when `size` is 0 or there are no labels.
    pub fn clusters(
        &self,
        size: usize,
        seed: u64,
        progress: &mut dyn FnMut(ClusterProgress),
    ) -> Result<LabelClusters> {
        if size == 0 {
            return Err(Error::Usage("a cluster must have room for at least 1 label, not 0".into()));
        }
        let levels = levels(self.labels(), size);
        let (mut order, mute): (Vec<u32>, Vec<u32>) =
            (0..self.labels() as u32).partition(|label| !self.is_empty(*label));
        let total = levels as u64;
        progress(ClusterProgress { stage: ClusterStage::Halving, done: 0, total });
        let mut bounds = vec![0, order.len()];
        for level in 0..levels {
            self.halve_all(&mut order, &bounds, level, seed);
            bounds = halves(&bounds);
            progress(ClusterProgress { stage: ClusterStage::Halving, done: level as u64 + 1, total });
        }
        LabelClusters::new(assign(&order, &bounds, &mute))
    }

    /// Halves every node of a level: node i is `order[bounds[i]..bounds[i + 1]]`.
    fn halve_all(&self, order: &mut [u32], bounds: &[usize], level: usize, seed: u64) {
        let mut nodes: Vec<(usize, &mut [u32])> = Vec::with_capacity(bounds.len() - 1);
        let mut rest = order;
        for (number, bounds) in bounds.windows(2).enumerate() {
            let (node, after) = rest.split_at_mut(bounds[1] - bounds[0]);
            nodes.push((number, node));
            rest = after;
        }
        // Sizes of a level differ by at most one, so that the first speaks for all.
        if nodes.first().is_some_and(|(_, node)| node.len() > LARGE) {
            let mut centres = self.sums();
            for (number, node) in nodes {
                bisect(self, node, starts(seed, level, number, node.len()), &mut centres);
            }
        } else {
            nodes.into_par_iter().filter(|(_, node)| node.len() > 1).for_each_init(
                || self.sums(),
                |centres, (number, node)| {
                    bisect(self, node, starts(seed, level, number, node.len()), centres);
                },
            );
        }
    }
}

/// How often `labels` labels are halved until the larger halves have at most `size`.
fn levels(labels: usize, size: usize) -> usize {
    (0..).find(|level| labels.div_ceil(1 << level) <= size).unwrap_or(0)
}

/// The bounds of all halves, as [`bisect`] cuts.
fn halves(bounds: &[usize]) -> Vec<usize> {
    let first = bounds[0];
    let ends = bounds.windows(2).flat_map(|pair| [pair[0] + (pair[1] - pair[0]) / 2, pair[1]]);
    std::iter::once(first).chain(ends).collect()
}

/// The starts of a node of `n` labels: pairs of different places.
fn starts(seed: u64, level: usize, node: usize, n: usize) -> impl Iterator<Item = [usize; 2]> {
    // Sub-indices from 1: random clusters draw with 0.
    (1..=STARTS).map(move |sub| {
        let [first, second, ..] = words(seed, Purpose::Clusters, level as u32, node as u32, sub);
        let first = below(first, n as u32);
        let second = below(second, n as u32 - 1);
        [first as usize, (second + u32::from(second >= first)) as usize]
    })
}

/// The cluster of each label: leaf i is `order[bounds[i]..bounds[i + 1]]`, and the mute labels go to the smallest ones in
/// turn. Leaves that stay empty, which are those beyond the number of labels, do not count.
fn assign(order: &[u32], bounds: &[usize], mute: &[u32]) -> Vec<u32> {
    let mut of_label = vec![0; order.len() + mute.len()];
    let mut leaves: Vec<usize> = (0..bounds.len() - 1).collect();
    let size = |leaf: usize| bounds[leaf + 1] - bounds[leaf];
    leaves.sort_by_key(|&leaf| size(leaf));
    let mut used: Vec<bool> = (0..leaves.len()).map(|leaf| size(leaf) > 0).collect();
    for (leaf, bounds) in bounds.windows(2).enumerate() {
        order[bounds[0]..bounds[1]].iter().for_each(|label| of_label[*label as usize] = leaf as u32);
    }
    for (label, leaf) in mute.iter().zip(leaves.iter().cycle()) {
        of_label[*label as usize] = *leaf as u32;
        used[*leaf] = true;
    }
    let mut next = 0;
    let numbers: Vec<u32> = used
        .into_iter()
        .map(|used| {
            next += u32::from(used);
            next.saturating_sub(1)
        })
        .collect();
    of_label.iter_mut().for_each(|leaf| *leaf = numbers[*leaf as usize]);
    of_label
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
