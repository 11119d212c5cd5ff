//! How far opening a data set has come; this room prints nothing itself.

use std::cell::Cell;

use super::layout::SplitName;

/// What opening a data set does, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the raw files to recognise a cached data set.
    Hash,
    /// Counting words to train a tokenizer.
    TrainTokenizer,
    /// Reading and tokenising.
    Tokenize,
}

/// A report of progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Of which split.
    pub split: Option<SplitName>,
    /// Bytes of the files on disk done in this stage.
    pub done: u64,
    /// Bytes of the files on disk to do in this stage.
    pub total: u64,
}

/// Adds up bytes over the splits of a stage.
pub(super) struct Reporter<'a> {
    callback: &'a dyn Fn(Progress),
    total: u64,
    before: Cell<u64>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(callback: &'a dyn Fn(Progress), total: u64) -> Self {
        Self { callback, total, before: Cell::new(0) }
    }

    /// `taken`: bytes done of the present split.
    pub(super) fn report(&self, stage: Stage, split: Option<SplitName>, taken: u64) {
        let done = (self.before.get() + taken).min(self.total);
        (self.callback)(Progress { stage, split, done, total: self.total });
    }

    /// Reports the split as done and starts the next.
    pub(super) fn finish_split(&self, stage: Stage, split: SplitName, taken: u64) {
        self.report(stage, Some(split), taken);
        self.before.set(self.before.get() + taken);
    }
}
