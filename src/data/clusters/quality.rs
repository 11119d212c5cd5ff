//! How alike the labels of a cluster are.

use rayon::prelude::*;

use super::LabelClusters;
use super::label_vectors::LabelVectors;

impl LabelVectors {
    /// The mean cosine of a label's vector with the centre of its cluster, over the labels that have a vector; 0 where
    /// none has. The centre is the normalised sum of the cluster's vectors, so small clusters come to more than 0 by
    /// themselves: compare with random clusters of the same size.
    ///
    /// The cosines of a cluster's labels with its centre add up to the length of the sum of its vectors.
    ///
    /// # Panics
    /// If `clusters` are of another number of labels.
    #[must_use]
    pub fn mean_cosine(&self, clusters: &LabelClusters) -> f64 {
        assert_eq!(clusters.labels(), self.labels(), "clusters of the same labels");
        let lists = clusters.lists();
        let lengths: Vec<f64> = (0..clusters.count())
            .into_par_iter()
            .map_init(
                || self.sums::<1>(),
                |sums, cluster| {
                    sums.clear();
                    lists.of(cluster).iter().for_each(|label| sums.add_row(0, self.of_label(*label)));
                    sums.lengths()[0]
                },
            )
            .collect();
        let labels = (0..self.labels() as u32).filter(|label| !self.is_empty(*label)).count();
        lengths.iter().sum::<f64>() / labels.max(1) as f64
    }
}
