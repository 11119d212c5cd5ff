//! Connections that follow the documents of their labels: which features of a label's training documents differ most from
//! those of all.

use super::devices::Devices;
use super::model::Model;
use crate::classifier::RewireCounts;
use crate::data::{Batch, Split};
use crate::device::Recording;
use crate::error::Result;
use crate::kernels::columns_of;

/// Sums of features by label that the host keeps at once, bytes at most (but one label's at least); the documents are
/// encoded again for each run of labels that fits.
pub(super) const SUMS_BYTES: usize = 64 << 20;

impl Model {
    /// Moves the weaker half of each label's connections to where |mean over its documents of x − mean over all documents
    /// of x| is largest, x being what the classifier sees, without dropout. With a classifier that starts at the labels'
    /// prior this is the direction of the gradient over all of the training set, in place of one batch. Labels without
    /// documents stay as they are. `documents_at_once`: of a batch of the encoder. `progress` is told how many documents
    /// are done, and of how many, each counted as often as it is encoded.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device fails.
    pub fn follow_documents<'d>(
        &self,
        devices: impl Into<Devices<'d>>,
        train: &Split,
        documents_at_once: usize,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<RewireCounts>> {
        let devices = devices.into();
        let Some(layer) = self.classifier.fan_in() else { return Ok(None) };
        let (labels, features) = (layer.options.labels, layer.options.features);
        let at_once = (SUMS_BYTES / (4 * features)).max(1);
        let documents: Vec<u32> = (0..train.len() as u32).collect();
        let (mut done, all) = (0, train.len() * labels.div_ceil(at_once));
        let mut total = RewireCounts::default();
        for first in (0..labels).step_by(at_once) {
            let run = first..labels.min(first + at_once);
            let mut sums = LabelSums::new(run.clone(), features);
            for documents in documents.chunks(documents_at_once) {
                let batch = Batch::assemble(train, documents, self.micro_batch);
                let x = self.seen(devices, &batch)?;
                for (place, document) in documents.iter().enumerate() {
                    let of_document = x
                        .chunks_exact(columns_of(batch.len()))
                        .map(|feature| feature[place])
                        .collect::<Vec<_>>();
                    sums.add(&of_document, train.labels(*document as usize));
                }
                done += documents.len();
                progress(done, all);
            }
            let counts = layer.follow_documents(devices.classifier, run.start, &sums.scores())?;
            total.pruned += counts.pruned;
            total.regrown += counts.regrown;
            total.connections += counts.connections;
        }
        layer.rebuild_inverted(devices.classifier)?;
        Ok(Some(total))
    }

    /// What the classifier sees of a batch without dropout, [D, columns].
    fn seen(&self, devices: Devices<'_>, batch: &Batch) -> Result<Vec<f32>> {
        let (fed, inputs) = self.feed.lay_out(batch, &|_| Vec::new(), self.row_order.as_ref());
        let mut recording = Recording::new();
        let seen = self.record_seen(devices, &mut recording, inputs, &fed.tokens, batch.len())?;
        let seen = recording.read_back(&self.classifier.seen_by_fan_in(&seen, batch.len()));
        devices.classifier.submit(recording)?;
        Ok(bytemuck::pod_collect_to_vec(&devices.classifier.collect(seen)?))
    }
}

/// Sums of features over the documents of each label of a run, and over all documents.
struct LabelSums {
    labels: std::ops::Range<usize>,
    /// [labels, D]
    sums: Vec<f32>,
    /// Documents of each label.
    counts: Vec<u32>,
    /// \[D\]
    all: Vec<f64>,
    documents: u32,
}

impl LabelSums {
    fn new(labels: std::ops::Range<usize>, features: usize) -> Self {
        Self {
            sums: vec![0.0; labels.len() * features],
            counts: vec![0; labels.len()],
            all: vec![0.0; features],
            documents: 0,
            labels,
        }
    }

    fn add(&mut self, x: &[f32], labels: &[u32]) {
        self.documents += 1;
        self.all.iter_mut().zip(x).for_each(|(sum, x)| *sum += f64::from(*x));
        for label in labels.iter().map(|label| *label as usize).filter(|label| self.labels.contains(label)) {
            let place = label - self.labels.start;
            self.counts[place] += 1;
            self.sums[place * x.len()..][..x.len()].iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
        }
    }

    /// |mean of the label − mean of all|, [labels, D]; zero for labels without documents.
    fn scores(mut self) -> Vec<f32> {
        let mean: Vec<f32> =
            self.all.iter().map(|sum| (sum / f64::from(self.documents.max(1))) as f32).collect();
        for (sums, count) in self.sums.chunks_exact_mut(mean.len()).zip(&self.counts) {
            if *count > 0 {
                let of_label = sums.iter_mut().zip(&mean);
                of_label.for_each(|(sum, mean)| *sum = (*sum / *count as f32 - mean).abs());
            }
        }
        self.sums
    }
}

#[cfg(test)]
mod tests {
    use super::LabelSums;

    /// By hand: means of all are 2 and 4; labels 5 and 6 of three documents, label 7 has none, 4 is of another run.
    #[test]
    fn scores_of_labels() {
        let mut sums = LabelSums::new(5..8, 2);
        sums.add(&[1.0, 2.0], &[4, 5]);
        sums.add(&[2.0, 4.0], &[5, 6]);
        sums.add(&[3.0, 6.0], &[4]);
        assert_eq!(sums.scores(), [0.5, 1.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
