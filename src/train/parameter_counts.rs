//! How many numbers are trained above the encoder.

use serde::Serialize;

use crate::config::{Config, HeadKind};

/// Trained numbers of each part; indices of a fixed fan-in layer are not trained and do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ParameterCounts {
    /// L · F weights of a fixed fan-in layer, or L · D of a dense one, or those of both parts where the first K labels are
    /// dense; and L biases if they are trained.
    pub classifier: u64,
    /// P · D weights and P biases of the intermediate layer.
    pub intermediate: u64,
    /// C · D weights and C biases of the auxiliary head.
    pub auxiliary: u64,
}

/// The counts of a config with L `labels`, D `features` of the encoder and C `clusters`, 0 without an auxiliary
/// objective (see [`super::auxiliary_cluster_count`]).
#[must_use]
pub fn parameter_counts(config: &Config, labels: usize, features: usize, clusters: usize) -> ParameterCounts {
    let dense = config.dense_labels(labels).min(labels) as u64;
    let [labels, features, clusters] = [labels, features, clusters].map(|count| count as u64);
    let width = config.intermediate_width().map(|width| width as u64);
    let seen = width.unwrap_or(features);
    let connections = match config.classifier.head {
        HeadKind::FanIn => config.classifier.fan_in as u64,
        HeadKind::Dense | HeadKind::Bottleneck => seen,
    };
    let of_dense = match config.classifier.dense_features {
        0 => seen,
        private => private as u64,
    };
    let bias = u64::from(config.classifier.bias);
    ParameterCounts {
        classifier: dense * (of_dense + bias) + (labels - dense) * (connections + bias),
        intermediate: width.map_or(0, |width| width * (features + 1)),
        auxiliary: clusters * (features + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(settings: &[&str], clusters: usize) -> [u64; 3] {
        let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
        let config = Config::with_settings(&settings).unwrap();
        let counts = parameter_counts(&config, 1000, 256, clusters);
        [counts.classifier, counts.intermediate, counts.auxiliary]
    }

    /// Counted by hand.
    #[test]
    fn counts_of_every_head() {
        assert_eq!(counts(&[], 0), [33_000, 0, 0]);
        assert_eq!(counts(&["classifier.bias=false"], 0), [32_000, 0, 0]);
        assert_eq!(counts(&["intermediate.width=512"], 10), [33_000, 131_584, 2_570]);
        assert_eq!(counts(&["classifier.head=dense"], 0), [257_000, 0, 0]);
        assert_eq!(counts(&["classifier.head=dense", "intermediate.width=64"], 0), [65_000, 16_448, 0]);
        assert_eq!(counts(&["classifier.head=bottleneck"], 0), [33_000, 8_224, 0]);
        // 100 labels of 256 weights, or of 128, and 900 of 32.
        let share = "classifier.dense_labels=0.1";
        assert_eq!(counts(&[share], 0), [25_700 + 29_700, 0, 0]);
        assert_eq!(counts(&[share, "classifier.dense_features=128"], 0), [12_900 + 29_700, 0, 0]);
        assert_eq!(counts(&["classifier.dense_labels=100", "classifier.bias=false"], 0), [54_400, 0, 0]);
    }
}
