//! `regrow demo`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::train::{report, run_training, say_how_to_go_on};
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
        let program = std::env::args().next().unwrap_or_else(|| "regrow".into());
        let finished = run_training(&mut config, &run, Start::Fresh, &self.device)
            .map_err(|error| say_how_to_go_on(error, &self.resume_command(&program, &run)))?;
        report(&finished, &run)?;
        let input = data.join("test.jsonl");
        print(&format!("next: {program} predict {} --input {} --top 3", run.display(), input.display()))
    }

    /// What goes on with an interrupted demo: another `regrow demo` would delete the run, so it is `regrow train`.
    fn resume_command(&self, program: &str, run: &Path) -> String {
        let device =
            if self.device.named() { format!(" --device {}", self.device.device) } else { String::new() };
        let config = run.join("config.toml");
        format!("{program} train {} --out {} --resume{device}", config.display(), run.display())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::error::Error;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        demo: DemoArgs,
    }

    #[test]
    fn an_interrupted_demo_goes_on_with_train() {
        let message = |arguments: &[&str], error: Error| {
            let demo = Line::parse_from([&["demo", "--dir", "d"], arguments].concat()).demo;
            say_how_to_go_on(error, &demo.resume_command("regrow", &demo.dir.join("run"))).to_string()
        };
        let stopped = || Error::Interrupted("stopped".into());
        let command = "go on with regrow train d/run/config.toml --out d/run --resume";
        assert_eq!(message(&[], stopped()), format!("stopped: {command}"));
        assert_eq!(message(&["--device", "cpu"], stopped()), format!("stopped: {command} --device cpu"));
        let lost = message(&[], Error::DeviceLost("the GPU was lost".into()));
        assert_eq!(lost, format!("device: the GPU was lost; the last checkpoint is untouched: {command}"));
    }
}
