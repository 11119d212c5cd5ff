//! `regrow train`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use clap::Args;

use super::dry_run::DryRunArgs;
use super::progress::TrainProgress;
use super::{DeviceArgs, open, print, say};
use crate::config::{Config, DEFAULTS};
use crate::error::{Error, Result};
use crate::train::{
    Event, Finished, RunFolder, Start, TrainOptions, check_run, megabytes, process_peak, train,
};

/// Train a classifier as a config says.
///
/// The run folder gets the resolved config, metrics.jsonl, a checkpoint, the model after the last epoch (model/) and,
/// where a dev split chooses, the best one (best/). Ctrl-C or SIGTERM saves a checkpoint and stops; --resume goes on, also
/// after a crash, and ends with the same bytes as a run that never stopped.
#[derive(Args)]
pub(super) struct TrainArgs {
    /// The config, TOML; see --print-config for every key
    #[arg(required_unless_present = "print_config")]
    config: Option<PathBuf>,
    /// Folder with the data set, instead of data.path
    #[arg(long)]
    data: Option<PathBuf>,
    /// Run folder [default: runs/<name of the config>]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Change a key of the config; may be repeated
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    settings: Vec<String>,
    /// Go on where the run in the run folder stopped
    #[arg(long, conflicts_with = "fresh")]
    resume: bool,
    /// Delete the run in the run folder and start anew
    #[arg(long)]
    fresh: bool,
    /// Fixed kernels instead of the fastest by measurement, as train.deterministic = true
    #[arg(long)]
    deterministic: bool,
    /// Print every key with its default and what it means, and stop
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    dry_run: DryRunArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

impl TrainArgs {
    pub(super) fn run(&self) -> Result<()> {
        let Some(path) = self.config.as_ref().filter(|_| !self.print_config) else {
            return print(DEFAULTS.trim_end());
        };
        let mut config = Config::load(path, &self.settings)?;
        if let Some(data) = &self.data {
            config.data.path = data.to_string_lossy().into_owned();
        }
        config.train.deterministic |= self.deterministic;
        if self.dry_run.wanted() {
            return self.dry_run.run(&config, &self.device);
        }
        let name = path.file_stem().unwrap_or_default();
        let out = self.out.clone().unwrap_or_else(|| Path::new("runs").join(name));
        let start = match (self.resume, self.fresh) {
            (true, _) => Start::Resume,
            (_, true) => Start::Fresh,
            _ => Start::New,
        };
        let finished = run_training(&mut config, &out, start, &self.device)
            .map_err(|error| say_how_to_go_on(error, "--resume"))?;
        report(&finished, &out)
    }
}

/// Opens device, data and run folder, and trains with a progress bar.
pub(super) fn run_training(
    config: &mut Config,
    out: &Path,
    start: Start,
    device: &DeviceArgs,
) -> Result<Finished> {
    // What is wrong with the device, the data or the weights must not cost the folder's run.
    let opened =
        device.open_both(&config.classifier.device, "classifier.device", config.train.matmul_precision)?;
    let devices = opened.get();
    let source = open::encoder_source(config)?;
    let dataset = open::training_data(config, &source)?;
    check_run(devices, config, &source, &dataset)?;
    // The run must find its data from wherever `regrow evaluate` is called.
    if let Ok(absolute) = std::fs::canonicalize(&config.data.path) {
        config.data.path = absolute.to_string_lossy().into_owned();
    }
    let folder = RunFolder::open(out, start, config)?;
    if start == Start::Resume && !folder.checkpoint_path().is_file() {
        say(&format!("{} has no checkpoint yet: starting from the beginning", out.display()));
    }
    say(&format!("training on {}", devices.name()));
    open::describe(&dataset).iter().for_each(|line| say(line));
    let mut progress = TrainProgress::new();
    let mut planned = [0; 2];
    let options = TrainOptions {
        devices,
        config,
        encoder: &source,
        dataset: &dataset,
        folder: &folder,
        resume: start == Start::Resume,
        stop: stop_on_interrupt()?,
        max_block_rows: 0,
    };
    let finished = train(options, &mut |event| {
        if let Event::Started { planned_bytes, planned_process_bytes, .. } = event {
            planned = [planned_bytes, planned_process_bytes];
        }
        progress.show(event);
    });
    progress.finish();
    if finished.is_ok() {
        let [buffers, of_process] = planned;
        let measured = megabytes(devices.peak_bytes());
        let mut line = format!("peak memory: buffers {measured}, planned {}", megabytes(buffers));
        if let Some(process) = process_peak() {
            line += &format!("; process {}, planned {}", megabytes(process), megabytes(of_process));
        }
        say(&line);
    }
    finished
}

/// Adds to the message of an interrupted run, and of one whose device was lost, what `resume` it goes on with, which differs
/// from verb to verb.
pub(super) fn say_how_to_go_on(error: Error, resume: &str) -> Error {
    match error {
        Error::Interrupted(message) => Error::Interrupted(format!("{message}: go on with {resume}")),
        Error::DeviceLost(message) => {
            Error::DeviceLost(format!("{message}; the last checkpoint is untouched: go on with {resume}"))
        }
        other => other,
    }
}

/// Becomes true at the first Ctrl-C, or when the system asks the program to end (SIGTERM), as batch queues and containers do
/// before they end it; the second one ends the program at once.
fn stop_on_interrupt() -> Result<&'static AtomicBool> {
    static STOP: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if !INSTALLED.swap(true, Ordering::Relaxed) {
        ctrlc::set_handler(|| {
            if STOP.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            say("\nstopping after this step; press Ctrl-C again to quit at once");
        })
        .map_err(|error| Error::Usage(format!("Ctrl-C cannot be caught: {error}")))?;
        #[cfg(unix)]
        stop_on_termination(&STOP)
            .map_err(|error| Error::Usage(format!("SIGTERM cannot be caught: {error}")))?;
    }
    Ok(&STOP)
}

#[cfg(unix)]
fn stop_on_termination(stop: &Arc<AtomicBool>) -> std::io::Result<()> {
    use signal_hook::{consts::SIGTERM, flag};
    // In this order: the first one only sets the flag.
    flag::register_conditional_shutdown(SIGTERM, 128 + SIGTERM, Arc::clone(stop))?;
    flag::register(SIGTERM, Arc::clone(stop)).map(drop)
}

/// What a finished run shows.
pub(super) fn report(finished: &Finished, out: &Path) -> Result<()> {
    match &finished.metrics {
        Some((metrics, split)) => print(&format!("{split}, percent\n{}", metrics.table().trim_end()))?,
        None => print(&format!("finished: {} steps; `regrow evaluate` measures the model", finished.steps))?,
    }
    print(&format!("run: {}", out.display()))
}
