//! What a run will do, counted without doing it: its schedule and its parameters.

use serde::Serialize;

use super::build_encoder::build_encoder;
use super::calendar::Calendar;
use super::parameter_counts::{ParameterCounts, parameter_counts};
use super::plan::sizes_without_data;
use super::sizes::evaluated_split;
use super::sizes::{EncoderSizes, ModelSizes};
use crate::classifier::Prune;
use crate::config::{Config, EvaluateOn, HeadKind, OptimizerSection};
use crate::data::Dataset;
use crate::device::{Device, DeviceOptions};
use crate::encoder::Parameter;
use crate::error::Result;

/// The schedule and the parameters of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DryRun {
    /// Training documents, N, label texts included.
    pub documents: usize,
    /// Label texts among them (`data.augment`).
    pub label_texts: usize,
    /// Labels, L.
    pub labels: usize,
    /// Epochs.
    pub epochs: u32,
    /// Documents of an optimizer step; the last one of an epoch may have fewer.
    pub step_documents: usize,
    /// Optimizer steps in an epoch.
    pub steps_per_epoch: u64,
    /// Optimizer steps of the run.
    pub steps: u64,
    /// Learning rate of the encoder.
    pub encoder_rate: RateCourse,
    /// Learning rate of the classifier.
    pub classifier_rate: RateCourse,
    /// The auxiliary objective, if there is one.
    pub auxiliary: Option<AuxiliaryCourse>,
    /// Rewirings; none where there are none.
    pub rewiring: Option<RewiringCourse>,
    /// After so many first epochs connections follow the labels' documents (`rewire.by_documents`).
    pub by_documents: u32,
    /// Evaluations.
    pub evaluation: EvaluationCourse,
    /// Trained numbers.
    pub parameters: Parameters,
}

/// How a learning rate goes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RateCourse {
    /// The largest of the schedule.
    pub peak: f64,
    /// Optimizer steps of linear rise.
    pub warmup_steps: u64,
    /// That of the last step.
    pub last: f64,
}

/// The auxiliary objective.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AuxiliaryCourse {
    /// Clusters of labels.
    pub clusters: usize,
    /// Its share of the loss at the first step.
    pub weight: f64,
    /// Optimizer steps until it ends.
    pub steps: u64,
}

/// When connections are rewired, and by what rule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RewiringCourse {
    /// Rewirings.
    pub count: u64,
    /// Optimizer steps between them.
    pub interval: u64,
    /// Epochs in which there are any.
    pub epochs: u32,
    /// Steps done at the first.
    pub first_step: u64,
    /// Steps done at the last.
    pub last_step: u64,
    /// `threshold`, `fraction` or `fraction_per_row`.
    pub rule: &'static str,
    /// Its value at the first.
    pub first_value: f64,
    /// Its value at the last.
    pub last_value: f64,
}

/// When the model is measured during training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvaluationCourse {
    /// On what; `dev or test` where the data are not there to tell, none where nothing is measured.
    pub split: Option<&'static str>,
    /// Epochs at whose end it is, from 1.
    pub after_epochs: Vec<u32>,
}

/// Numbers that training changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Parameters {
    /// Of the encoder, frozen ones included; none where its files were not looked at.
    pub encoder: Option<usize>,
    /// Features that the encoder gives, D.
    pub features: usize,
    /// Of classifier, intermediate layer and auxiliary head.
    #[serde(flatten)]
    pub heads: ParameterCounts,
    /// What a dense classifier on the encoder's features would have.
    pub classifier_if_dense: u64,
}

/// The config with a dense classifier on the encoder's features.
fn dense_head(config: &Config) -> Config {
    let mut dense = config.clone();
    dense.classifier.head = HeadKind::Dense;
    dense.classifier.dense_labels = 0.0;
    dense.classifier.dense_features = 0;
    dense.intermediate.width = 0;
    dense
}

/// Training documents that are label texts, of a data set of `labels` labels that is not there.
#[must_use]
pub fn label_texts(config: &Config, labels: usize) -> usize {
    if config.data.augment { labels } else { 0 }
}

/// Documents that a data set without a dev split gives to one (`train.holdout`), of `documents` that are no label texts.
#[must_use]
pub fn held_out_documents(config: &Config, documents: usize) -> usize {
    crate::data::held_out_count(documents, config.train.holdout)
}

/// `threshold`, `fraction` or `fraction_per_row`, and its value.
#[must_use]
pub fn prune_rule(prune: Prune) -> (&'static str, f64) {
    match prune {
        Prune::Threshold(threshold) => ("threshold", threshold),
        Prune::Fraction(fraction) => ("fraction", fraction),
        Prune::FractionPerRow(fraction) => ("fraction_per_row", fraction),
    }
}

impl DryRun {
    /// The run on a data set that is there.
    ///
    /// # Errors
    /// As `super::model_sizes`; [`crate::Error::Device`] never, since nothing is allocated.
    pub fn on_data(config: &Config, dataset: &Dataset, sizes: ModelSizes) -> Result<Self> {
        let texts = dataset.summary.train.as_ref().map_or(0, |train| train.label_texts) as usize;
        let split = evaluated_split(config, dataset)?.map(|(_, name)| name);
        Self::count(config, sizes, [dataset.train.len(), texts], split, true)
    }

    /// The run on `documents` documents and `labels` labels; with `data.augment` the labels' texts come on top.
    ///
    /// `encoder_known` false: `encoder` gives the features alone, and stands for an encoder whose files are not here.
    ///
    /// # Errors
    /// [`crate::Error::Config`] when the fan-in is more than the features.
    pub fn without_data(
        config: &Config,
        encoder: EncoderSizes,
        encoder_known: bool,
        documents: usize,
        labels: usize,
    ) -> Result<Self> {
        let texts = label_texts(config, labels);
        let split = match config.train.evaluate_on {
            EvaluateOn::None => None,
            EvaluateOn::Auto => Some("dev or test"),
            EvaluateOn::Dev => Some("dev"),
            EvaluateOn::Test => Some("test"),
            EvaluateOn::Train => Some("train"),
        };
        let documents = documents - held_out_documents(config, documents) + texts;
        let sizes = sizes_without_data(config, encoder, labels, documents, 1)?;
        Self::count(config, sizes, [documents, texts], split, encoder_known)
    }

    fn count(
        config: &Config,
        sizes: ModelSizes,
        [documents, label_texts]: [usize; 2],
        split: Option<&'static str>,
        encoder_known: bool,
    ) -> Result<Self> {
        let calendar = Calendar::new(config, documents);
        let planning = Device::cpu(DeviceOptions::default())?.planning();
        let encoder = build_encoder(&planning, config, sizes)?;
        let features = encoder.features();
        config.check_fan_in(features)?;
        config.check_dense_labels(sizes.labels)?;
        let counts =
            parameter_counts(config, sizes.labels, features, sizes.auxiliary.map_or(0, |head| head.clusters));
        let own = encoder.parameters().iter().map(Parameter::len).sum();
        let steps = calendar.total_steps();
        Ok(Self {
            documents,
            label_texts,
            labels: sizes.labels,
            epochs: calendar.epochs,
            step_documents: calendar.step_documents,
            steps_per_epoch: calendar.steps_per_epoch,
            steps,
            encoder_rate: rate_course(&config.optimizer.encoder, steps),
            classifier_rate: rate_course(&config.optimizer.classifier, steps),
            auxiliary: auxiliary_course(config, &calendar, &sizes),
            rewiring: rewiring_course(config, &calendar),
            by_documents: config.rewire.by_documents,
            evaluation: EvaluationCourse { split, after_epochs: evaluated_epochs(config, split) },
            parameters: Parameters {
                encoder: encoder_known.then_some(own),
                features,
                heads: counts,
                classifier_if_dense: parameter_counts(&dense_head(config), sizes.labels, features, 0)
                    .classifier,
            },
        })
    }

    /// Lines for a terminal.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let texts = match self.label_texts {
            0 => String::new(),
            texts => format!(", {texts} of them label texts"),
        };
        let rate = |name: &str, rate: &RateCourse| {
            let RateCourse { peak, warmup_steps, last } = rate;
            format!("{name}  up to {peak:e} in {warmup_steps} steps, {last:.3e} at the last step")
        };
        let auxiliary = self.auxiliary.map_or_else(
            || "none".to_owned(),
            |a| {
                format!(
                    "{} clusters; weight {} at the first step, zero after {} steps",
                    a.clusters, a.weight, a.steps
                )
            },
        );
        let rewiring = self.rewiring.map_or_else(
            || "none".to_owned(),
            |r| {
                format!(
                    "{} times, every {} steps from {} to {}, in {} of the epochs; {} {:.5} at the first, {:.5} at the last",
                    r.count, r.interval, r.first_step, r.last_step, r.epochs, r.rule, r.first_value, r.last_value
                )
            },
        );
        let evaluation = match (self.evaluation.split, &self.evaluation.after_epochs[..]) {
            (Some(split), [first, .., last]) => {
                let count = self.evaluation.after_epochs.len();
                format!("{count} times on {split}, after epochs {first} to {last}")
            }
            (Some(split), _) => format!("on {split} after the last epoch"),
            (None, _) => "none".to_owned(),
        };
        let p = &self.parameters;
        let encoder = p.encoder.map_or("not looked at".to_owned(), |count| count.to_string());
        vec![
            format!("documents      {}{texts}; {} labels", self.documents, self.labels),
            format!(
                "steps          {} an epoch of up to {} documents, {} epochs: {}",
                self.steps_per_epoch, self.step_documents, self.epochs, self.steps
            ),
            rate("encoder lr   ", &self.encoder_rate),
            rate("classifier lr", &self.classifier_rate),
            format!("auxiliary      {auxiliary}"),
            format!("rewiring       {rewiring}{}", by_documents(self.by_documents)),
            format!("evaluation     {evaluation}"),
            format!("parameters     encoder {encoder}, {} features", p.features),
            format!("               classifier {} (dense: {})", p.heads.classifier, p.classifier_if_dense),
            format!("               intermediate {}, auxiliary {}", p.heads.intermediate, p.heads.auxiliary),
        ]
    }
}

fn rate_course(section: &OptimizerSection, steps: u64) -> RateCourse {
    let optimizer = section.optimizer(steps);
    RateCourse {
        peak: section.lr,
        warmup_steps: section.warmup_steps,
        last: optimizer.learning_rate_at(steps.saturating_sub(1)),
    }
}

fn auxiliary_course(config: &Config, calendar: &Calendar, sizes: &ModelSizes) -> Option<AuxiliaryCourse> {
    let steps = calendar.steps_per_epoch * u64::from(config.auxiliary.cutoff_epoch);
    sizes.auxiliary.map(|head| AuxiliaryCourse {
        clusters: head.clusters,
        weight: config.auxiliary.weight,
        steps,
    })
}

/// What the plan says of connections that follow the labels' documents after the first `epochs`.
fn by_documents(epochs: u32) -> String {
    match epochs {
        0 => String::new(),
        1 => "; by documents after epoch 1".to_owned(),
        _ => format!("; by documents after epochs 1 to {epochs}"),
    }
}

fn rewiring_course(config: &Config, calendar: &Calendar) -> Option<RewiringCourse> {
    let (count, interval) = (calendar.rewirings(), calendar.rewire_interval);
    let (first_step, last_step) = (interval, count * interval);
    let (rule, first_value) = prune_rule(calendar.prune_after(first_step, config)?);
    let (_, last_value) = prune_rule(calendar.prune_after(last_step, config)?);
    let epochs = calendar.rewire_epochs;
    Some(RewiringCourse { count, interval, epochs, first_step, last_step, rule, first_value, last_value })
}

fn evaluated_epochs(config: &Config, split: Option<&'static str>) -> Vec<u32> {
    let (epochs, every) = (config.train.epochs, config.train.evaluate_every);
    let due = |epoch: &u32| *epoch == epochs || (every > 0 && epoch.is_multiple_of(every));
    if split.is_none() { Vec::new() } else { (1..=epochs).filter(due).collect() }
}
