//! `regrow demo`.

use std::path::PathBuf;

use clap::Args;

use super::train::{report, run_training};
use super::{DeviceArgs, print, say, synth};
use crate::config::Config;
use crate::data::synth::SynthOptions;
use crate::error::Result;
use crate::train::Start;

/// The config of the demo; `configs/demo.toml` is this file.
const CONFIG: &str = include_str!("../../configs/demo.toml");

/// Labels and training documents of the demo's data.
const LABELS: u64 = 10_000;
const DOCUMENTS: u64 = 60_000;

/// Make a small long-tailed data set, train on it, print P@1/3/5, and name the next command. Needs nothing installed.
#[derive(Args)]
pub(super) struct DemoArgs {
    /// Folder for data and run
    #[arg(long, default_value = "runs/demo")]
    dir: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

impl DemoArgs {
    pub(super) fn run(&self) -> Result<()> {
        let data = self.dir.join("data");
        say(&format!("writing {LABELS} labels and {DOCUMENTS} training documents to {}", data.display()));
        synth::write(&data, &SynthOptions::new(LABELS, DOCUMENTS, 1))?;
        let mut config = Config::parse(CONFIG, "configs/demo.toml".as_ref(), &[])?;
        config.data.path = data.to_string_lossy().into_owned();
        let run = self.dir.join("run");
        // The demo's run is its own: each demo starts it anew.
        let finished = run_training(&mut config, &run, Start::Fresh, &self.device)?;
        report(&finished, &run)?;
        let program = std::env::args().next().unwrap_or_else(|| "regrow".into());
        let input = data.join("test.jsonl");
        print(&format!("next: {program} predict {} --input {} --top 3", run.display(), input.display()))
    }
}
