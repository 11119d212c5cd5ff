//! Clusters of labels: a partition of the L labels into C groups, the meta-classes of the auxiliary objective
//! (SPARTEX §2.3) and the groups of group-shared fan-in.

mod bisection;
mod file;
mod label_vectors;
mod lists;
mod quality;
mod random;
mod term_sums;
mod term_weights;
mod text;

pub use file::{CLUSTER_OF_LABEL, check_target};
pub use label_vectors::LabelVectors;
pub use lists::ClusterLists;
pub use text::{text_cluster_count, text_clusters};

use crate::error::{Error, Result};

/// What making text clusters does, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterStage {
    /// Labels get their vectors; counted in labels.
    LabelVectors,
    /// Clusters are halved; counted in levels.
    Halving,
}

/// A report of progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterProgress {
    /// What is being done.
    pub stage: ClusterStage,
    /// So much of it is done.
    pub done: u64,
    /// So much is to do.
    pub total: u64,
}

/// A partition of labels: every label is in exactly one cluster and no cluster is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelClusters {
    /// The cluster of each label. \[L\], each below `count`.
    of_label: Vec<u32>,
    count: usize,
}

impl LabelClusters {
    /// The partition in which label l is in cluster `of_label[l]`.
    ///
    /// # Errors
    /// [`Error::Usage`] when there are no labels, or a cluster below the largest one is empty.
    pub fn new(of_label: Vec<u32>) -> Result<Self> {
        let Some(largest) = of_label.iter().max() else {
            return Err(Error::Usage("clusters of no labels at all".into()));
        };
        let count = *largest as usize + 1;
        // With more clusters than labels, one of the first L is empty.
        let mut used = vec![false; count.min(of_label.len())];
        for cluster in &of_label {
            if let Some(used) = used.get_mut(*cluster as usize) {
                *used = true;
            }
        }
        let empty = used.iter().position(|used| !used);
        match empty {
            Some(cluster) => Err(Error::Usage(format!(
                "no label is in cluster {cluster}, though there are {count} clusters"
            ))),
            None => Ok(Self { of_label, count }),
        }
    }

    /// The number of labels, L.
    #[must_use]
    pub fn labels(&self) -> usize {
        self.of_label.len()
    }

    /// The number of clusters, C.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The cluster of each label. \[L\]
    #[must_use]
    pub fn of_label(&self) -> &[u32] {
        &self.of_label
    }
}

#[cfg(test)]
mod tests {
    use super::LabelClusters;

    #[test]
    fn a_partition_has_no_empty_cluster() {
        let clusters = LabelClusters::new(vec![2, 0, 1, 2]).unwrap();
        assert_eq!((clusters.labels(), clusters.count()), (4, 3));
        assert!(LabelClusters::new(vec![]).is_err());
        assert!(LabelClusters::new(vec![0, 2]).unwrap_err().to_string().contains("cluster 1"));
        assert!(LabelClusters::new(vec![0, u32::MAX]).is_err());
    }

    #[test]
    fn random_clusters_are_balanced_and_seeded() {
        let clusters = LabelClusters::random(103, 10, 7);
        assert_eq!(clusters.count(), 11);
        let mut sizes = vec![0; 11];
        clusters.of_label().iter().for_each(|cluster| sizes[*cluster as usize] += 1);
        assert!(sizes.iter().all(|size| (9..=10).contains(size)), "{sizes:?}");
        assert_eq!(clusters, LabelClusters::random(103, 10, 7));
        assert_ne!(clusters, LabelClusters::random(103, 10, 8));
        assert_eq!(LabelClusters::random(5, 100, 1).count(), 1);
    }
}
