//! Data sets: readers for four folder layouts, the label map, the tokenizer, the token cache, and batches.
//!
//! [`Dataset::open`] is the door: it finds the layout of a folder, reads and tokenises it once into a cache file, and
//! maps that file ever after. Nothing here knows of devices or prints anything.

pub mod batch;
mod build;
mod build_labels;
pub mod clusters;
pub mod dataset;
pub mod document;
mod features;
mod holdout;
mod json;
pub mod labels;
pub mod layout;
pub mod open;
pub mod progress;
pub mod read_jsonl;
pub mod read_lf;
pub mod read_lines;
pub mod read_matrix;
pub mod split;
pub mod summary;
pub mod synth;
pub mod texts;
mod token_cache;
pub mod tokenizer;
mod train_bpe;
pub mod train_tokenizer;

pub use batch::{Batch, MaxSizes, MicroBatch, epoch_order, max_sizes};
pub use clusters::{LabelClusters, text_clusters};
pub use dataset::{DataOptions, Dataset, Splits};
pub use document::TextField;
pub use features::{FEATURES, FeatureTable};
pub use holdout::held_out_count;
pub use labels::{LabelMap, LabelOrder};
pub use layout::{DataFiles, Layout, SplitName};
pub use progress::{Progress, Stage};
pub use split::{Split, label_frequencies};
pub use summary::{SplitSummary, Summary};
pub use texts::Texts;
pub use tokenizer::{Encoded, Tokenizer, TokenizerSource};
pub use train_tokenizer::{TokenizerKind, TokenizerSpec};
