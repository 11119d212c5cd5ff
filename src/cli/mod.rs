//! Floor 4: verbs, flags, progress bars and exit codes; one file a verb.

mod bench;
mod clusters;
mod demo;
mod devices;
mod dry_run;
mod encode;
mod evaluate;
mod open;
mod per_label;
mod plan;
mod predict;
mod progress;
mod report;
mod shaders;
mod synth;
mod train;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::device::{Device, DeviceKind, DeviceOptions};
use crate::error::{Error, Result};
use crate::kernels::products::MatmulPrecision;
use crate::train::Devices;

/// Train classifiers with millions of labels on the GPU you already have.
///
/// Start with `regrow demo`: it makes data, trains on it, and names the next command.
#[derive(Parser)]
#[command(version, max_term_width = 110, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 2 wrong command line, config or data; 3 device; 4 the loss diverged; 5 files that cannot be read,
written or trusted; 130 interrupted (the run is saved: go on with --resume).";

#[derive(Subcommand)]
enum Verb {
    /// Make a small data set, train on it, and show what regrow does; needs nothing installed
    Demo(demo::DemoArgs),
    /// List the CPU and the GPU adapters, what they can do and what regrow uses
    Devices(devices::DevicesArgs),
    /// Write long-tailed, learnable synthetic text of any size
    Synth(synth::SynthArgs),
    /// Put labels into clusters of equal size, by the texts of their documents or at random
    Clusters(clusters::ClustersArgs),
    /// Train a classifier as a config says
    Train(train::TrainArgs),
    /// Show what a run will take in memory, before it takes it
    Plan(plan::PlanArgs),
    /// Measure a trained model on a split of a data set
    Evaluate(evaluate::EvaluateArgs),
    /// Rank the labels of texts: lines or JSON lines in, JSON lines out
    Predict(predict::PredictArgs),
    /// Write the features of texts, so that a classifier alone can be trained on them
    Encode(encode::EncodeArgs),
    /// Measure this device's limits and how near to them training comes
    Bench(bench::BenchArgs),
    /// Write one HTML page about one or several runs, with charts
    Report(report::ReportArgs),
    /// Write every shader in every variant as complete WGSL
    Shaders(shaders::ShadersArgs),
}

/// Flags of every verb that computes.
#[derive(Args, Clone, Debug)]
struct DeviceArgs {
    /// Where to run: cpu, an adapter's number or a part of its name (`regrow devices` lists them), cuda:NUMBER in builds
    /// with CUDA (the classifier alone), or auto: a real GPU if there is one, else the CPU
    #[arg(long, default_value = "auto", value_name = "cpu|NAME|INDEX")]
    device: String,
    /// CPU threads; 0: all. Results do not depend on it
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Guard every access and loop of the shaders; slower
    #[arg(long)]
    checked: bool,
}

impl DeviceArgs {
    /// Whether the user said which.
    fn named(&self) -> bool {
        self.device != "auto"
    }

    fn open(&self, precision: MatmulPrecision) -> Result<Device> {
        self.open_named(&self.device, precision)
    }

    /// Opens the device of the encoder, and that which `classifier` names: none where it is empty or names the same.
    /// `key`: the setting that gave the name, for messages.
    fn open_both(&self, classifier: &str, key: &str, precision: MatmulPrecision) -> Result<OpenDevices> {
        let encoder = self.open(precision)?;
        if classifier.is_empty() || classifier.eq_ignore_ascii_case(&self.device) {
            return Ok(OpenDevices { encoder, classifier: None });
        }
        let second = self.open_named(classifier, precision).map_err(|error| match error {
            Error::Device(message) => Error::Device(format!("{key}: {message}")),
            other => other,
        })?;
        let same = [encoder.kind(), second.kind()] == [DeviceKind::Cpu; 2];
        Ok(OpenDevices { encoder, classifier: (!same).then_some(second) })
    }

    fn open_named(&self, name: &str, precision: MatmulPrecision) -> Result<Device> {
        let options = DeviceOptions {
            checked: self.checked,
            bf16_products: precision == MatmulPrecision::Medium,
            threads: self.threads,
            ..DeviceOptions::default()
        };
        let device = Device::open(Some(name), options)?;
        if device.kind() == DeviceKind::SoftwareGpu {
            say(
                "warning: this adapter is software: it computes on the processor, many times slower than --device cpu",
            );
        }
        Ok(device)
    }
}

/// The devices of a model, opened.
struct OpenDevices {
    encoder: Device,
    /// None: the encoder's.
    classifier: Option<Device>,
}

impl OpenDevices {
    fn get(&self) -> Devices<'_> {
        Devices { encoder: &self.encoder, classifier: self.classifier.as_ref().unwrap_or(&self.encoder) }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SplitArg {
    Train,
    Dev,
    Test,
}

/// The program: parses the command line, runs the verb, turns an error into one line and an exit code.
#[must_use]
pub fn run() -> ExitCode {
    crate::device::quiet_drivers();
    match Cli::parse().verb.run() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has had enough: `regrow predict … | head`.
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("regrow: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

impl Verb {
    fn run(&self) -> Result<()> {
        match self {
            Self::Demo(args) => args.run(),
            Self::Devices(args) => args.run(),
            Self::Synth(args) => args.run(),
            Self::Clusters(args) => args.run(),
            Self::Train(args) => args.run(),
            Self::Plan(args) => args.run(),
            Self::Evaluate(args) => args.run(),
            Self::Predict(args) => args.run(),
            Self::Encode(args) => args.run(),
            Self::Bench(args) => args.run(),
            Self::Report(args) => args.run(),
            Self::Shaders(args) => args.run(),
        }
    }
}

/// Whether the file that `flag` names has a folder to lie in: before the work is done, not after.
fn check_target(flag: &str, path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => {
            Err(Error::Usage(format!("{flag} {}: no such folder: {}", path.display(), folder.display())))
        }
        None => Ok(()),
    }
}

/// A line for the person at the terminal, on standard error.
fn say(line: &str) {
    // A closed standard error leaves nobody to tell.
    let _ = writeln!(io::stderr(), "{line}");
}

/// A line of the result, on standard output.
fn print(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .map_err(Error::io("writing", PathBuf::from("standard output")))
}
