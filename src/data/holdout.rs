//! A dev split for data sets that have none: some of the training documents, which training then never sees.

use super::batch::epoch_order;
use super::dataset::Dataset;
use crate::error::{Error, Result};

/// The shuffle that draws the held-out documents: an epoch that no run reaches.
const EPOCH: u32 = u32::MAX;

/// How many of `documents` documents a share of them is: at least one and not all; none where the share is 0 or there are
/// not two.
#[must_use]
pub fn held_out_count(documents: usize, share: f64) -> usize {
    if share == 0.0 || documents < 2 {
        return 0;
    }
    ((documents as f64 * share).round() as usize).clamp(1, documents - 1)
}

impl Dataset {
    /// Moves a share of the training documents, drawn by `seed`, to dev, both in the order of the file; the texts of
    /// labels stay in training. Label ids stay;
    /// labels of which all documents are held out are then labels that training does not have. `summary` stays what was
    /// read. Returns how many documents are held out: none where there is a dev split or the share is 0.
    ///
    /// # Errors
    /// [`Error::Config`] when there are not two documents to part.
    pub fn hold_out(&mut self, share: f64, seed: u64) -> Result<usize> {
        if share == 0.0 || self.dev.is_some() {
            return Ok(0);
        }
        // The texts of labels are the last of train.
        let label_texts = self.summary.train.as_ref().map_or(0, |train| train.label_texts as usize);
        let documents = self.train.len() - label_texts;
        if documents < 2 {
            let message = format!("there is nothing to hold out of {documents} training documents; say 0");
            return Err(Error::config("train.holdout", message));
        }
        let count = held_out_count(documents, share);
        let mut held_out = epoch_order(seed, EPOCH, documents);
        let mut kept = held_out.split_off(count);
        held_out.sort_unstable();
        kept.extend(documents as u32..self.train.len() as u32);
        kept.sort_unstable();
        self.dev = Some(self.train.select(&held_out));
        self.train = self.train.select(&kept);
        self.held_out = count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::data::{
        Batch, DataOptions, Split, Splits, TextField, TokenizerKind, TokenizerSource, TokenizerSpec,
        label_frequencies,
    };

    /// 50 documents, each with a word and a label of its own: label i is the document's number.
    fn dataset() -> Dataset {
        let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let line = |i: u32| format!("{{\"text\": \"word{i}\", \"labels\": [{i}]}}\n");
        std::fs::write(folder.path().join("train.jsonl"), (0..50).map(line).collect::<String>()).unwrap();
        let spec = TokenizerSpec { kind: TokenizerKind::Word, vocab_size: 1000, lowercase: true };
        let options = DataOptions {
            path: folder.path().into(),
            format: None,
            text_field: TextField::Title,
            max_tokens: 9,
            special_tokens: false,
            tokenizer: TokenizerSource::Train(spec),
            cache_dir: cache.path().into(),
            fixed_labels: None,
            splits: Splits::All,
            augment: false,
        };
        Dataset::open(&options, &|_| ()).unwrap()
    }

    fn labels(split: &Split) -> Vec<u32> {
        (0..split.len()).flat_map(|document| split.labels(document)).copied().collect()
    }

    #[test]
    fn held_out_documents_are_never_trained_on() {
        let mut dataset = dataset();
        let all = dataset.train.clone();
        assert_eq!(dataset.hold_out(0.2, 7).unwrap(), 10);
        let dev = dataset.dev.clone().unwrap();
        assert_eq!((dataset.train.len(), dev.len(), dataset.held_out), (40, 10, 10));
        let (trained, held_out) = (labels(&dataset.train), labels(&dev));
        assert!(trained.is_sorted() && held_out.is_sorted());
        let both: BTreeSet<u32> = trained.iter().chain(&held_out).copied().collect();
        assert_eq!(both, (0..50).collect());
        for (document, label) in held_out.iter().enumerate() {
            assert_eq!(dev.tokens(document), all.tokens(*label as usize), "texts stay with their labels");
        }
        let frequency = label_frequencies(&dataset.train, 50);
        assert!((0..50).all(|label| frequency[label] == u32::from(trained.contains(&(label as u32)))));
        let tokens: BTreeSet<u32> = (0..10).flat_map(|document| dev.tokens(document)).copied().collect();
        for epoch in 0..5 {
            for documents in epoch_order(7, epoch, dataset.train.len()).chunks(16) {
                let batch = Batch::assemble(&dataset.train, documents, 8);
                assert!(batch.positives.iter().all(|[label, _]| !held_out.contains(label)));
                assert!(batch.token_buckets.iter().all(|token| !tokens.contains(token)));
            }
        }
    }

    #[test]
    fn the_seed_draws_and_a_dev_split_stays() {
        let held_out = |share: f64, seed: u64| {
            let mut dataset = dataset();
            dataset.hold_out(share, seed).unwrap();
            dataset.dev.as_ref().map(labels)
        };
        assert_eq!(held_out(0.2, 7), held_out(0.2, 7));
        assert_ne!(held_out(0.2, 7), held_out(0.2, 8));
        assert_eq!(held_out(0.0, 7), None);
        assert_eq!(held_out(0.001, 7).unwrap().len(), 1);
        let mut dataset = dataset();
        dataset.dev = Some(Split::from_documents([([0], [0])]));
        assert_eq!(dataset.hold_out(0.2, 7).unwrap(), 0);
        assert_eq!((dataset.train.len(), dataset.held_out), (50, 0));
        dataset.dev = None;
        dataset.train = dataset.train.select(&[3]);
        assert!(dataset.hold_out(0.2, 7).unwrap_err().to_string().contains("train.holdout"));
    }
}
