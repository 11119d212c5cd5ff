//! `regrow train --dry-run`.

use clap::Args;
use serde_json::json;

use super::{DeviceArgs, open, print};
use crate::config::{Config, EncoderKind};
use crate::error::{Error, Result};
use crate::train::{
    DryRun, EncoderSizes, ModelSizes, Plan, held_out_documents, label_texts, megabytes, model_sizes,
    sizes_without_data,
};

/// Labels of a document where the data are not there to tell; they decide the size of the inputs alone.
const LABELS_PER_DOCUMENT: usize = 16;

/// What to look at and what to be told.
#[derive(Args)]
pub(super) struct DryRunArgs {
    /// Check config, data, weights and, if --device names one, memory; print the schedule and the number of parameters;
    /// change nothing but the token cache
    #[arg(long)]
    dry_run: bool,
    /// Dry run without data: training documents
    #[arg(long, requires_all = ["dry_run", "labels"], conflicts_with = "data")]
    docs: Option<usize>,
    /// Dry run without data: labels
    #[arg(long, requires_all = ["dry_run", "docs"])]
    labels: Option<usize>,
    /// Dry run without data: features of a transformer or a file that is not looked for
    #[arg(long, requires = "docs", value_name = "WIDTH")]
    features: Option<usize>,
    /// Dry run: print one JSON object
    #[arg(long, requires = "dry_run")]
    json: bool,
}

impl DryRunArgs {
    pub(super) fn wanted(&self) -> bool {
        self.dry_run
    }

    pub(super) fn run(&self, config: &Config, device: &DeviceArgs) -> Result<()> {
        let (run, sizes) = match (self.docs, self.labels) {
            (Some(documents), Some(labels)) => self.without_data(config, documents, labels)?,
            _ => on_data(config)?,
        };
        let plan = || {
            let devices = device.open_both(
                &config.classifier.device,
                "classifier.device",
                config.train.matmul_precision,
            )?;
            Plan::new(devices.get(), config, sizes)
        };
        let plan = device.named().then(plan).transpose()?;
        // Where the data are there, this is the run itself: it must not be called good if training would refuse it.
        if let (Some(plan), None) = (&plan, self.docs) {
            plan.check()?;
        }
        if self.json {
            let mut object = serde_json::to_value(&run).unwrap_or_default();
            if let Some(plan) = &plan {
                object["memory"] = json!({
                    "device": plan.device, "peak_bytes": plan.peak_bytes(),
                    "with_encoder": run.parameters.encoder.is_some(),
                });
            }
            print(&object.to_string())?;
            return plan.map_or(Ok(()), |plan| plan.check());
        }
        run.lines().iter().try_for_each(|line| print(line))?;
        let Some(plan) = plan else { return Ok(()) };
        let without = if run.parameters.encoder.is_some() { "" } else { ", without the encoder" };
        let fits = plan.check();
        let peak =
            |plan: &Plan| format!("{} of buffers on {}", megabytes(plan.memory.peak_bytes), plan.device);
        let second = plan.classifier_device.as_ref().map_or_else(String::new, |p| format!(", {}", peak(p)));
        let verdict = if fits.is_ok() { "fits" } else { "does not fit" };
        print(&format!("memory         {}{second}{without}; {verdict}", peak(&plan)))?;
        fits
    }

    fn without_data(&self, config: &Config, documents: usize, labels: usize) -> Result<(DryRun, ModelSizes)> {
        for (name, size) in [("--docs", documents), ("--labels", labels)] {
            if !(1..1 << 31).contains(&size) {
                return Err(Error::Usage(format!("{name}: must be from 1 to 2147483647, is {size}")));
            }
        }
        let encoder = match self.features {
            Some(_) if config.encoder.kind == EncoderKind::Bag => {
                let message = "--features: the encoder is a bag of tokens, whose width the config says";
                return Err(Error::Usage(message.into()));
            }
            Some(width) if !(1..=65_536).contains(&width) => {
                return Err(Error::Usage(format!("--features: must be from 1 to 65536, is {width}")));
            }
            Some(width) => EncoderSizes::Features(width),
            None => open::encoder_source(config)?.sizes(config, None)?,
        };
        let run = DryRun::without_data(config, encoder, self.features.is_none(), documents, labels)?;
        let documents = documents - held_out_documents(config, documents) + label_texts(config, labels);
        Ok((run, sizes_without_data(config, encoder, labels, documents, LABELS_PER_DOCUMENT)?))
    }
}

fn on_data(config: &Config) -> Result<(DryRun, ModelSizes)> {
    let source = open::encoder_source(config)?;
    let dataset = open::training_data(config, &source)?;
    let sizes = model_sizes(config, &source, &dataset, 0)?;
    source.check_weights(config)?;
    Ok((DryRun::on_data(config, &dataset, sizes)?, sizes))
}
