//! What a run takes of the host's memory beside the buffers of its device.

use super::devices::Devices;
use super::documents::SUMS_BYTES;
use super::dry_run::held_out_documents;
use super::plan::Purpose;
use super::sizes::evaluated_split;
use super::stored::PIECE;
use crate::classifier::FanIn;
use crate::config::{Config, EvaluateOn};
use crate::data::Dataset;
use crate::device::{Device, DeviceKind};
use crate::error::Result;
use crate::evaluate::{DEPTH, LabelCounts};

/// The program, its threads and a small tokenizer, measured: a run on a hundred labels.
const PROGRAM: u64 = 12 << 20;

/// The driver of software Vulkan, its compiler and what that compiled, measured: 100 to 170 MiB with lavapipe.
const DRIVER: u64 = 150 << 20;

/// Bytes that wait to be written to a file.
const FILE_BUFFER: u64 = 1 << 20;

/// What the host's tables depend on.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostSizes {
    /// Labels, L.
    labels: usize,
    /// Bytes of the labels' names and where they end.
    names: u64,
    /// (document, label) pairs that an evaluation counts: true ones and named ones.
    counted: usize,
}

impl HostSizes {
    /// Those of a run on a data set.
    ///
    /// # Errors
    /// As [`super::model_sizes`].
    pub fn of_dataset(config: &Config, dataset: &Dataset) -> Result<Self> {
        let evaluated = evaluated_split(config, dataset)?;
        let counted = evaluated.map_or(0, |(split, _)| split.len() * DEPTH + split.positives());
        Ok(Self { labels: dataset.labels.len(), names: dataset.labels.bytes(), counted })
    }

    /// Those of a run whose data are not there: labels are named by their numbers, and what is held out or, without that,
    /// as many documents as are trained on are evaluated.
    #[must_use]
    pub fn without_data(
        config: &Config,
        labels: usize,
        documents: usize,
        labels_per_document: usize,
    ) -> Self {
        let evaluated = match (config.train.evaluate_on, held_out_documents(config, documents)) {
            (EvaluateOn::None, _) => 0,
            (EvaluateOn::Auto | EvaluateOn::Dev, held_out) if held_out > 0 => held_out,
            _ => documents,
        };
        let names = digits(labels as u64) + 8 * labels as u64;
        Self { labels, names, counted: evaluated * (DEPTH + labels_per_document) }
    }

    /// Bytes by purpose.
    pub(super) fn purposes(self, config: &Config) -> Vec<Purpose> {
        let labels = self.labels as u64;
        let follows = config.rewire.by_documents > 0;
        let documents = if follows { SUMS_BYTES + FanIn::FOLLOW_BYTES } else { 0 };
        let order = if config.classifier.group > 1 { 2 * 4 * labels } else { 0 };
        [
            ("label names", self.names),
            ("training frequencies of labels", 4 * labels),
            ("order of the rows", order),
            ("counts of an evaluation", LabelCounts::planned_bytes(self.labels, self.counted)),
            ("features of labels' documents", documents as u64),
            ("pieces of files", PIECE as u64 + FILE_BUFFER),
            ("the program", PROGRAM),
        ]
        .into_iter()
        .map(|(name, bytes)| Purpose { name, bytes })
        .filter(|purpose| purpose.bytes > 0)
        .collect()
    }
}

/// What a device's driver takes beside the buffers, where it computes on the processor.
pub(super) fn driver(devices: Devices<'_>) -> Option<Purpose> {
    let computes_here = |device: &Device| device.kind() == DeviceKind::SoftwareGpu;
    let any = computes_here(devices.encoder) || computes_here(devices.classifier);
    any.then_some(Purpose { name: "the driver and its compiler", bytes: DRIVER })
}

/// Digits of all numbers below `end` together.
fn digits(end: u64) -> u64 {
    // Every number has a digit, those from ten on one more, those from a hundred on another.
    let starts = std::iter::successors(Some(10_u64), |start| start.checked_mul(10));
    end + starts.take_while(|start| *start < end).map(|start| end - start).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_of_names() {
        for end in [0, 1, 9, 10, 11, 100, 101, 1234] {
            let truth: u64 = (0..end).map(|n| n.to_string().len() as u64).sum();
            assert_eq!(digits(end), truth, "{end}");
        }
    }

    /// By hand: 1000 labels have 10 + 90 · 2 + 900 · 3 digits and an end of 8 bytes each, a frequency of 4, with groups a
    /// row and a label of 4 each; 100 documents meet at most 100 · (5 + 3) labels, which lie in 16 pages of 64 · 28 bytes.
    #[test]
    fn tables_of_labels() {
        let config = |more: &[&str]| {
            Config::with_settings(&more.iter().map(|setting| (*setting).to_owned()).collect::<Vec<_>>())
                .unwrap()
        };
        let of = |config: &Config| {
            HostSizes::without_data(config, 1000, 100, 3)
                .purposes(config)
                .iter()
                .map(|p| p.bytes)
                .collect::<Vec<_>>()
        };
        let fixed = [(8 << 20) + (1 << 20), 12 << 20];
        let counts = 16 * 8 + 16 * 64 * 28;
        assert_eq!(of(&config(&[])), [2890 + 8000, 4000, counts, fixed[0], fixed[1]]);
        assert_eq!(
            of(&config(&["classifier.group=8"])),
            [2890 + 8000, 4000, 8000, counts, fixed[0], fixed[1]]
        );
        // Sums of features, and pieces of the layer.
        assert_eq!(of(&config(&["rewire.by_documents=1"]))[3], (64 + 10) << 20);
        // A hundredth of 100 documents is one, which meets 8 labels at most.
        let held_out = of(&config(&["train.holdout=0.01"]));
        assert_eq!(held_out[2], 16 * 8 + 8 * 64 * 28);
        assert_eq!(of(&config(&["train.evaluate_on=none"]))[2], 16 * 8);
    }
}
