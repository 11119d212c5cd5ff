//! The labels of each cluster.

use super::LabelClusters;

/// The labels of C clusters, each list ascending.
pub struct ClusterLists {
    labels: Vec<u32>,
    /// Where each cluster's labels begin. \[C + 1\]
    starts: Vec<u32>,
}

impl ClusterLists {
    /// The labels of a cluster.
    ///
    /// # Panics
    /// If `cluster` is C or more.
    #[must_use]
    pub fn of(&self, cluster: usize) -> &[u32] {
        &self.labels[self.starts[cluster] as usize..self.starts[cluster + 1] as usize]
    }
}

impl LabelClusters {
    /// The labels of each cluster, by a counting sort.
    #[must_use]
    pub fn lists(&self) -> ClusterLists {
        let mut starts = vec![0; self.count + 1];
        self.of_label.iter().for_each(|cluster| starts[*cluster as usize + 1] += 1);
        (0..self.count).for_each(|cluster| starts[cluster + 1] += starts[cluster]);
        let (mut next, mut labels) = (starts.clone(), vec![0; self.of_label.len()]);
        for (label, cluster) in self.of_label.iter().enumerate() {
            labels[next[*cluster as usize] as usize] = label as u32;
            next[*cluster as usize] += 1;
        }
        ClusterLists { labels, starts }
    }

    /// Labels of the smallest and of the largest cluster.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        let mut sizes = vec![0; self.count];
        self.of_label.iter().for_each(|cluster| sizes[*cluster as usize] += 1);
        (sizes.iter().min().copied().unwrap_or(0), sizes.iter().max().copied().unwrap_or(0))
    }
}
