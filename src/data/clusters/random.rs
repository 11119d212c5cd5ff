//! Random balanced clusters, which serve the auxiliary objective nearly as well as semantic ones (SPARTEX, App. E).

use super::LabelClusters;
use crate::random::{Purpose, below, words};

impl LabelClusters {
    /// Shuffles the labels and cuts them into ⌈labels / size⌉ clusters whose sizes differ by at most one; none is
    /// larger than `size`. `labels` and `size` are at least 1.
    #[must_use]
    pub fn random(labels: usize, size: usize, seed: u64) -> Self {
        let mut order: Vec<u32> = (0..labels as u32).collect();
        for last in (1..labels).rev() {
            let word = words(seed, Purpose::Clusters, 0, last as u32, 0)[0];
            order.swap(last, below(word, last as u32 + 1) as usize);
        }
        let count = labels.div_ceil(size);
        let mut of_label = vec![0; labels];
        for (place, label) in order.into_iter().enumerate() {
            of_label[label as usize] = (place * count / labels) as u32;
        }
        Self { of_label, count }
    }
}
