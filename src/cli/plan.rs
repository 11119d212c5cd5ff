//! `regrow plan`.

use std::path::PathBuf;

use clap::Args;

use super::{DeviceArgs, open, print};
use crate::config::Config;
use crate::error::Result;
use crate::train::{HostSizes, Plan, held_out_documents, label_texts, model_sizes, sizes_without_data};

/// Show what a run will take: every buffer with its bytes, totals by purpose, what the host holds beside them, bytes a
/// label, and what to change when it does not fit, which ends with exit code 3. Takes no memory itself.
#[derive(Args)]
pub(super) struct PlanArgs {
    /// The config, TOML
    config: PathBuf,
    /// Folder with the data set, instead of data.path
    #[arg(long)]
    data: Option<PathBuf>,
    /// Plan without data, for this number of labels
    #[arg(long)]
    labels: Option<usize>,
    /// Without data: training documents, of which train.holdout takes its share; with data.augment the labels come on top
    #[arg(long, default_value_t = 1_000_000)]
    docs: usize,
    /// Without data: tokens of the vocabulary [default: encoder.vocabulary, or what the pretrained model has]
    #[arg(long)]
    vocabulary: Option<usize>,
    /// Without data: labels of a document, which decide the size of the inputs
    #[arg(long, default_value_t = 16)]
    labels_per_doc: usize,
    /// Change a key of the config; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    settings: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

impl PlanArgs {
    pub(super) fn run(&self) -> Result<()> {
        let mut config = Config::load(&self.config, &self.settings)?;
        if let Some(data) = &self.data {
            config.data.path = data.to_string_lossy().into_owned();
        }
        let devices = self.device.open_both(
            &config.classifier.device,
            "classifier.device",
            config.train.matmul_precision,
        )?;
        let source = open::encoder_source(&config)?;
        let (sizes, host) = match self.labels {
            Some(labels) => {
                let encoder = source.sizes(&config, self.vocabulary)?;
                let read = self.docs.max(1);
                let trained = read - held_out_documents(&config, read) + label_texts(&config, labels);
                let sizes = sizes_without_data(&config, encoder, labels, trained, self.labels_per_doc)?;
                (sizes, HostSizes::without_data(&config, labels, read, self.labels_per_doc))
            }
            None => {
                let dataset = open::training_data(&config, &source)?;
                let sizes = model_sizes(&config, &source, &dataset, 0)?;
                (sizes, HostSizes::of_dataset(&config, &dataset)?)
            }
        };
        let plan = Plan::new(devices.get(), &config, sizes)?.with_host(&config, host);
        let fits = plan.check();
        if self.json {
            print(&serde_json::to_string(&plan).unwrap_or_default())?;
        } else {
            plan.lines().iter().try_for_each(|line| print(line))?;
            print(if fits.is_ok() { "fits" } else { "does not fit" })?;
        }
        fits
    }
}
