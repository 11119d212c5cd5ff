//! `regrow evaluate`.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::json;

use super::{DeviceArgs, SplitArg, check_target, open, per_label, print, progress, say};
use crate::config::EncoderKind;
use crate::data::SplitName;
use crate::error::{Error, Result};
use crate::evaluate::Filter;
use crate::kernels::products::MatmulPrecision;
use crate::train::{FeedSizes, RunFolder, judge, load_model, micro_batch, model_labels, propensities};

/// Measure a trained model on a split of a data set: precision, nDCG, recall and their propensity-scored forms, averages
/// over labels, and how the labels fare that are frequent or rare in training.
#[derive(Args)]
pub(super) struct EvaluateArgs {
    /// Run folder
    run: PathBuf,
    /// Folder with the data set, instead of the one the run was trained on
    #[arg(long)]
    data: Option<PathBuf>,
    /// Split to measure on
    #[arg(long, value_enum, default_value = "test")]
    split: SplitArg,
    /// The model after the last epoch, also where dev chose a better one
    #[arg(long)]
    last: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Write what happened to each label: a table with tabs, a line a label
    #[arg(long, value_name = "FILE.tsv")]
    per_label: Option<PathBuf>,
    /// Another device for the classifier, named as in --device
    #[arg(long, value_name = "cpu|NAME|INDEX", value_parser = NonEmptyStringValueParser::new())]
    classifier_device: Option<String>,
    #[command(flatten)]
    device: DeviceArgs,
}

impl EvaluateArgs {
    pub(super) fn run(&self) -> Result<()> {
        let folder = RunFolder::existing(&self.run)?;
        self.per_label.as_deref().map_or(Ok(()), |path| check_target("--per-label", path))?;
        let model_folder = if self.last { folder.last_model() } else { folder.model() };
        let classifier = self.classifier_device.as_deref().unwrap_or_default();
        let opened = self.device.open_both(classifier, "--classifier-device", MatmulPrecision::High)?;
        let devices = opened.get();
        let mut config = folder.config()?;
        if let Some(data) = &self.data {
            config.data.path = data.to_string_lossy().into_owned();
        }
        let split_name = match self.split {
            SplitArg::Train => SplitName::Train,
            SplitArg::Dev => SplitName::Dev,
            SplitArg::Test => SplitName::Test,
        };
        // The labels first: the data set is read with them, and the feed's sizes come from the data set.
        let labels = model_labels(&model_folder)?;
        let dataset = open::evaluation_data(&config, &model_folder, labels, split_name)?;
        let missing = || Error::data(&config.data.path, format!("has no {split_name} split"));
        let split = dataset.split(split_name).ok_or_else(missing)?;
        let batch_size = config.evaluate.batch_size.min(split.len().max(1));
        let loaded = load_model(&model_folder, devices, |config, _| {
            let sizes = FeedSizes::of_split(split, batch_size, micro_batch(config));
            Ok(FeedSizes { filtered: dataset.filter.len(), ..sizes })
        })?;
        if config.encoder.kind == EncoderKind::Features {
            split.check_features(loaded.model.encoder.features(), &split_name.to_string())?;
        }
        let filter = match split_name {
            SplitName::Test if config.evaluate.filter => Filter::new(dataset.filter.clone()),
            _ => Filter::default(),
        };
        let e = &config.evaluate;
        let info = &loaded.info;
        let propensities =
            propensities(info.train_frequency.clone(), info.train_documents, e.propensity_a, e.propensity_b);
        let began = Instant::now();
        let bar = progress::bar(split.len() as u64, "evaluating {bar:30} {pos}/{len} {per_sec} {eta}");
        let ranking = judge(devices, &loaded.model, split, &filter, batch_size, &propensities, &mut |done| {
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        let ranking = ranking?;
        let metrics = ranking.finish();
        let seconds = began.elapsed().as_secs_f64();
        if let Some(path) = &self.per_label {
            per_label::write(path, &dataset.labels, &info.train_frequency, ranking.label_counts())?;
        }
        if self.json {
            let mut object = metrics.json_object();
            object.insert("split".into(), json!(split_name.to_string()));
            object.insert("documents".into(), json!(split.len()));
            object.insert("labels".into(), json!(info.labels.len()));
            object.insert("labels_unknown_to_the_model".into(), json!(dataset.summary.labels_added));
            object.insert("seconds".into(), json!(seconds));
            object.insert("device".into(), json!(devices.name()));
            return print(&serde_json::Value::Object(object).to_string());
        }
        if dataset.summary.labels_added > 0 {
            say(&format!("{} labels of the data are unknown to the model", dataset.summary.labels_added));
        }
        print(&format!(
            "{split_name}: {} documents ({} without labels), {} labels, {seconds:.1} s on {}; percent",
            split.len(),
            metrics.documents_without_labels,
            info.labels.len(),
            devices.name()
        ))?;
        print(&metrics.table())?;
        if let Some(slices) = metrics.slice_table() {
            print(&format!(
                "\nby training frequency; P: what the labels add to it, R: the share of their pairs found\n{slices}"
            ))?;
        }
        self.per_label.as_ref().map_or(Ok(()), |path| print(&format!("\nlabels: {}", path.display())))
    }
}
