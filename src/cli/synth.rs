//! `regrow synth`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{print, progress};
use crate::data::synth::{SynthOptions, SynthSummary, synthesize};
use crate::error::Result;

/// Write long-tailed, learnable synthetic text of any size: train.jsonl, dev.jsonl and test.jsonl, or with --used-labels
/// texts and label matrices.
///
/// The same options give the same bytes. Memory grows with neither documents nor labels, so millions of labels are
/// fine.
#[derive(Args)]
pub(super) struct SynthArgs {
    /// Folder to write to; made if missing
    dir: PathBuf,
    /// Different labels; each occurs in train, unless --used-labels says otherwise
    #[arg(long)]
    labels: u64,
    /// Let only so many of the labels occur in documents, so that few documents are enough for millions of labels; writes
    /// trn.raw.txt, Y.trn.txt and so on, whose headers tell all labels
    #[arg(long, value_name = "LABELS")]
    used_labels: Option<u64>,
    /// Training documents
    #[arg(long)]
    docs: u64,
    /// Another seed gives other data
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Test documents [default: a tenth of the training documents, at most 10000]
    #[arg(long)]
    test_docs: Option<u64>,
    /// Dev documents [default: as --test-docs]
    #[arg(long)]
    dev_docs: Option<u64>,
    /// Words of a document on average
    #[arg(long, default_value_t = 24)]
    words: u32,
}

impl SynthArgs {
    pub(super) fn run(&self) -> Result<()> {
        let mut options = SynthOptions::new(self.labels, self.docs, self.seed);
        options.test_documents = self.test_docs.unwrap_or(options.test_documents);
        options.dev_documents = self.dev_docs.unwrap_or(options.dev_documents);
        options.words_per_document = self.words;
        options.used_labels = self.used_labels;
        let summary = write(&self.dir, &options)?;
        let [train, dev, test] = summary.documents;
        let unused = options.used_labels.map_or(String::new(), |_| format!(" of {}", options.labels));
        print(&format!(
            "{}: {} labels{unused}; {train} training, {dev} dev and {test} test documents, {:.1} MB",
            self.dir.display(),
            summary.labels,
            summary.bytes as f64 / 1e6
        ))
    }
}

/// Writes the data with a progress bar.
pub(super) fn write(dir: &Path, options: &SynthOptions) -> Result<SynthSummary> {
    let bar = progress::bar(0, "writing {bar:30} {pos}/{len} documents {eta}");
    let summary = synthesize(dir, options, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    summary
}
