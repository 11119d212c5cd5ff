//! From a config to an opened data set, with a progress bar and the warnings that a person should see.

use std::path::{Path, PathBuf};

use super::progress::{DataProgress, DownloadProgress};
use super::say;
use crate::config::{Config, EncoderKind, Format, Text};
use crate::data::{
    DataFiles, DataOptions, Dataset, FeatureTable, LabelMap, Layout, Split, SplitName, SplitSummary, Splits,
    TextField, TokenizerSource, TokenizerSpec,
};
use crate::error::{Error, Result};
use crate::train::{EncoderSource, special_tokens};

/// Which data, and how it is read.
pub(super) fn data_options(config: &Config, tokenizer: TokenizerSource) -> Result<DataOptions> {
    let data = &config.data;
    if data.path.is_empty() {
        return Err(Error::config("data.path", "names no folder; give one in the config or with --data DIR"));
    }
    Ok(DataOptions {
        path: PathBuf::from(&data.path),
        format: match data.format {
            Format::Auto => None,
            Format::Jsonl => Some(Layout::Jsonl),
            Format::Matrix => Some(Layout::Matrix),
            Format::Lines => Some(Layout::Lines),
            Format::Lf => Some(Layout::Lf),
        },
        text_field: match data.text {
            Text::Title => TextField::Title,
            Text::Content => TextField::Content,
            Text::TitleContent => TextField::TitleContent,
        },
        augment: data.augment,
        max_tokens: data.max_tokens,
        special_tokens: special_tokens(config),
        tokenizer,
        cache_dir: config.cache_folder(),
        fixed_labels: None,
        splits: Splits::All,
    })
}

/// What the encoder is made of; a download shows its progress.
pub(super) fn encoder_source(config: &Config) -> Result<EncoderSource> {
    let bar = DownloadProgress::new();
    let source = EncoderSource::find(config, &mut |download| {
        bar.report(download.file, download.done, download.total);
        Ok(())
    });
    bar.finish();
    source
}

/// The data set of a training run.
pub(super) fn training_data(config: &Config, source: &EncoderSource) -> Result<Dataset> {
    let encoder = &config.encoder;
    let tokenizer = if let (Some(path), "") = (source.tokenizer(), &encoder.tokenizer[..]) {
        TokenizerSource::File(path.to_path_buf())
    } else if encoder.tokenizer.is_empty() {
        TokenizerSource::Train(TokenizerSpec {
            kind: encoder.tokenizer_kind,
            vocab_size: encoder.vocabulary,
            lowercase: encoder.lowercase,
        })
    } else {
        TokenizerSource::File(PathBuf::from(&encoder.tokenizer))
    };
    let mut dataset = with_features(open(&data_options(config, tokenizer)?)?, config)?;
    let held_out = dataset.hold_out(config.train.holdout, config.train.seed)?;
    if held_out == 0 && config.train.holdout > 0.0 {
        say("train.holdout is not used: the data set has a dev split");
    }
    Ok(dataset)
}

/// Gives each split that was read its precomputed features, if the encoder takes such.
fn with_features(mut dataset: Dataset, config: &Config) -> Result<Dataset> {
    if config.encoder.kind != EncoderKind::Features {
        return Ok(dataset);
    }
    let folder = Path::new(&config.encoder.features);
    let attach = |split: Split, name: &str| {
        let missing = || {
            let message = format!("{} has no {name}.safetensors or {name}.npy", folder.display());
            Error::config("encoder.features", message)
        };
        split.with_features(FeatureTable::find(folder, name)?.ok_or_else(missing)?, name)
    };
    if !dataset.train.is_empty() {
        dataset.train = attach(dataset.train, "train")?;
    }
    dataset.dev = dataset.dev.map(|split| attach(split, "dev")).transpose()?;
    dataset.test = dataset.test.map(|split| attach(split, "test")).transpose()?;
    Ok(dataset)
}

/// A split to evaluate a model on; labels that the model lacks get higher numbers. Where the run held out documents of
/// train, these are dev, and train is without them.
pub(super) fn evaluation_data(
    config: &Config,
    model: &Path,
    labels: LabelMap,
    split: SplitName,
) -> Result<Dataset> {
    let tokenizer = TokenizerSource::File(model.join("tokenizer.json"));
    let mut options = data_options(config, tokenizer)?;
    // A model is measured on documents.
    options.augment = false;
    options.fixed_labels = Some(labels);
    let parted = config.train.holdout > 0.0
        && split != SplitName::Test
        && DataFiles::find(&options.path, options.format)?.splits[SplitName::Dev as usize].is_none();
    options.splits = Splits::Only(vec![if parted { SplitName::Train } else { split }]);
    let mut dataset = with_features(open(&options)?, config)?;
    if parted {
        dataset.hold_out(config.train.holdout, config.train.seed)?;
    }
    Ok(dataset)
}

fn open(options: &DataOptions) -> Result<Dataset> {
    let progress = DataProgress::new();
    let dataset = Dataset::open(options, &|report| progress.report(report));
    progress.finish();
    let dataset = dataset?;
    for warning in &dataset.warnings {
        say(&format!("warning: {warning}"));
    }
    Ok(dataset)
}

/// Lines that tell what was read.
pub(super) fn describe(dataset: &Dataset) -> Vec<String> {
    let summary = &dataset.summary;
    let mut lines = vec![format!(
        "{} labels ({} in train, {} only elsewhere), vocabulary {}, layout {}",
        summary.labels,
        summary.labels_in_train,
        summary.labels_only_elsewhere,
        summary.vocabulary,
        summary.layout,
    )];
    let splits = [("train", &summary.train), ("dev", &summary.dev), ("test", &summary.test)];
    for (name, split) in splits {
        if let Some(split) = split {
            lines.push(describe_split(name, split));
        }
    }
    if dataset.held_out > 0 {
        let (held_out, left) = (dataset.held_out, dataset.train.len());
        lines.push(format!("dev (held out): {held_out} of the training documents; {left} are trained on"));
    }
    lines
}

fn describe_split(name: &str, split: &SplitSummary) -> String {
    let tokens = split.tokens as f64 / split.documents.max(1) as f64;
    let mut line = format!(
        "{name}: {} documents, {:.1} labels and {tokens:.1} tokens each",
        split.documents,
        split.labels_per_document(),
    );
    let counts = [
        (split.label_texts, "of them label texts"),
        (split.without_labels, "without labels"),
        (split.empty_texts, "with empty text"),
        (split.truncated, "truncated"),
        (split.duplicate_labels, "labels named twice"),
    ];
    for (count, what) in counts.iter().filter(|(count, _)| *count > 0) {
        line += &format!(", {count} {what}");
    }
    line
}
