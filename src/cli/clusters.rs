//! `regrow clusters`.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

use super::{check_target, open, print, progress, say};
use crate::config::Config;
use crate::data::LabelClusters;
use crate::data::clusters::{self, ClusterProgress, ClusterStage, LabelVectors};
use crate::error::{Error, Result};
use crate::train::megabytes;

/// Put the labels of a data set into clusters of equal size, for the auxiliary objective.
///
/// Text clusters hold labels whose training documents speak of the same things (balanced spherical 2-means over TF-IDF,
/// halving by halving); random ones serve as a comparison and where there is no text. The file is a text with a line a
/// cluster, or a safetensors file with the cluster of each label.
#[derive(Args)]
pub(super) struct ClustersArgs {
    /// Folder with the data set, instead of data.path
    #[arg(long)]
    data: Option<PathBuf>,
    /// Config of the run that will use the clusters: its tokenizer, its texts [default: the defaults]
    #[arg(long)]
    config: Option<PathBuf>,
    /// Change a key of the config; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    settings: Vec<String>,
    /// What makes labels neighbours
    #[arg(long, value_enum, default_value = "text")]
    kind: Kind,
    /// Most labels of a cluster
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Another seed starts elsewhere
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Most terms of a label's vector; more take more memory
    #[arg(long, default_value_t = LabelVectors::MAX_TERMS)]
    terms: usize,
    /// Threads; 0: all. Results do not depend on it
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// The file to write, .txt or .safetensors
    #[arg(long)]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Labels whose documents have the same words
    Text,
    /// Any labels
    Random,
}

impl ClustersArgs {
    pub(super) fn run(&self) -> Result<()> {
        clusters::check_target(&self.out)?;
        check_target("--out", &self.out)?;
        for (flag, value) in [("--size", self.size), ("--terms", self.terms)] {
            if value == 0 {
                return Err(Error::Usage(format!("{flag} must be at least 1, is 0")));
            }
        }
        // This verb opens no device, so the process's own threads do the work.
        rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads)
            .build_global()
            .map_err(|error| Error::Usage(format!("--threads {}: {error}", self.threads)))?;
        let mut config = match &self.config {
            Some(path) => Config::load(path, &self.settings)?,
            None => Config::with_settings(&self.settings)?,
        };
        if let Some(data) = &self.data {
            config.data.path = data.to_string_lossy().into_owned();
        }
        let source = open::encoder_source(&config)?;
        let dataset = open::training_data(&config, &source)?;
        let labels = dataset.labels.len();
        let began = Instant::now();
        let planned = LabelVectors::planned_bytes(&dataset.train, labels, self.terms);
        say(&format!("{labels} labels, vectors of at most {}", megabytes(planned)));
        let bars = ClusterBars::default();
        let mut report = |progress| bars.report(progress);
        let vectors = LabelVectors::of_split(&dataset.train, labels, self.terms, &mut report);
        let random = LabelClusters::random(labels, self.size, self.seed);
        let clusters = match self.kind {
            Kind::Text => vectors.clusters(self.size, self.seed, &mut report)?,
            Kind::Random => random.clone(),
        };
        bars.finish();
        let seconds = began.elapsed().as_secs_f64();
        clusters.to_file(&self.out, &dataset.labels)?;
        let (smallest, largest) = clusters.sizes();
        print(&format!(
            "{}: {labels} labels in {} clusters of {smallest} to {largest}, {seconds:.1} s",
            self.out.display(),
            clusters.count()
        ))?;
        print(&format!(
            "mean cosine of a label with the centre of its cluster: {:.4}; of random clusters: {:.4}",
            vectors.mean_cosine(&clusters),
            vectors.mean_cosine(&random)
        ))
    }
}

/// A bar for each stage of clustering.
#[derive(Default)]
pub(super) struct ClusterBars {
    shown: RefCell<Option<(ClusterStage, ProgressBar)>>,
}

impl ClusterBars {
    pub(super) fn report(&self, progress: ClusterProgress) {
        if self.shown.borrow().as_ref().is_none_or(|(stage, _)| *stage != progress.stage) {
            self.finish();
            let template = match progress.stage {
                ClusterStage::LabelVectors => "reading labels {bar:30} {pos}/{len} {per_sec} {eta}",
                ClusterStage::Halving => "halving {bar:30} {pos}/{len} levels",
            };
            *self.shown.borrow_mut() = Some((progress.stage, progress::bar(progress.total, template)));
        }
        if let Some((_, bar)) = &*self.shown.borrow() {
            bar.set_position(progress.done);
        }
    }

    pub(super) fn finish(&self) {
        if let Some((_, bar)) = self.shown.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}
