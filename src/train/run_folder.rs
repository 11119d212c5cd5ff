//! The run folder: resolved config, metrics, checkpoint and models, and what may be done to one that exists.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::devices::Devices;
use super::model::Model;
use super::plan::Plan;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::write_atomically;

/// How a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// In a new or empty folder.
    New,
    /// Where the folder's run stopped.
    Resume,
    /// From the beginning, deleting the folder's run.
    Fresh,
}

/// A run folder.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Held by whoever trains into the folder, for as long as it does.
    lock: Option<Arc<File>>,
}

/// What makes a folder a run.
const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
/// What else a run writes: with the two above, all that [`Start::Fresh`] replaces or deletes.
const CHECKPOINT: &str = "checkpoint.safetensors";
const MEMORY: &str = "memory.json";
/// An empty file that a training run holds a lock of. It stays: a lock on a deleted file keeps nobody out.
const LOCK: &str = "run.lock";
const FOLDERS: [&str; 2] = ["model", "best"];

impl RunFolder {
    /// Opens the folder for a run with `config`.
    ///
    /// # Errors
    /// [`Error::Usage`] when the folder holds something that is no run, holds a run and neither resume nor fresh was
    /// said, is to be resumed with another config (the keys are named), or another process trains into it;
    /// [`Error::Io`].
    pub fn open(path: &Path, start: Start, config: &Config) -> Result<Self> {
        let mut folder = Self { path: path.to_path_buf(), lock: None };
        // What is refused is not touched; and what another process made of the folder shows once it is locked.
        folder.examine(start, config)?;
        fs::create_dir_all(path).map_err(Error::io("creating folder", path))?;
        folder.lock = lock(path)?.map(Arc::new);
        match folder.examine(start, config)? {
            Found::Nothing => folder.create(config)?,
            Found::Run if start == Start::Fresh => {
                folder.delete_run()?;
                folder.create(config)?;
            }
            Found::Run => {}
        }
        Ok(folder)
    }

    /// What the folder holds, if a run may begin there so.
    fn examine(&self, start: Start, config: &Config) -> Result<Found> {
        let path = &self.path;
        let here = path.display();
        let empty = match fs::read_dir(path) {
            Ok(entries) => entries.flatten().all(|entry| is_remnant(&entry)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) => return Err(Error::io("reading folder", path)(error)),
        };
        let is_run = self.config_path().is_file() && self.metrics_path().is_file();
        match (start, empty, is_run) {
            (_, true, _) => Ok(Found::Nothing),
            (_, false, false) => Err(Error::Usage(format!(
                "{here} holds files but no run (config.toml and metrics.jsonl); name another folder with --out"
            ))),
            (Start::New, false, true) => Err(Error::Usage(format!(
                "{here} holds a run already; go on with --resume, or delete it and start anew with --fresh"
            ))),
            (Start::Fresh, false, true) => Ok(Found::Run),
            (Start::Resume, false, true) => {
                let before = Config::load(&self.config_path(), &[])?;
                let keys = before.differences(config);
                if !keys.is_empty() {
                    return Err(Error::Usage(format!(
                        "{here} was started with another config; these keys differ: {}; resume with the same values, \
                         or start anew with --fresh",
                        keys.join(", ")
                    )));
                }
                Ok(Found::Run)
            }
        }
    }

    /// An existing run.
    ///
    /// # Errors
    /// [`Error::Artefact`] when the folder is no run.
    pub fn existing(path: &Path) -> Result<Self> {
        let folder = Self { path: path.to_path_buf(), lock: None };
        if folder.config_path().is_file() && folder.metrics_path().is_file() {
            Ok(folder)
        } else {
            Err(Error::artefact(
                path,
                "is no run: it lacks config.toml and metrics.jsonl, which `regrow train` writes",
            ))
        }
    }

    fn create(&self, config: &Config) -> Result<()> {
        // Whoever is killed between the two leaves a remnant, in which the next run may begin.
        File::create(self.metrics_path()).map_err(Error::io("creating", self.metrics_path()))?;
        let path = self.config_path();
        write_atomically(&path, |out| {
            out.write_all(config.to_toml().as_bytes()).map_err(Error::io("writing", &path))
        })
    }

    /// Deletes what the run learnt. Its config and its metrics stay until [`RunFolder::create`] replaces them: whoever is
    /// killed here leaves a run.
    fn delete_run(&self) -> Result<()> {
        for path in [self.checkpoint_path(), self.path.join(MEMORY)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("deleting", &path)(error));
                }
                _ => {}
            }
        }
        for name in FOLDERS {
            let path = self.path.join(name);
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("deleting", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn config_path(&self) -> PathBuf {
        self.path.join(CONFIG)
    }

    fn metrics_path(&self) -> PathBuf {
        self.path.join(METRICS)
    }

    /// The config of the run.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn config(&self) -> Result<Config> {
        Config::load(&self.config_path(), &[])
    }

    /// Writes down where the run goes on, for whoever compares runs: the device and the kernels chosen on it, and those
    /// of the classifier where it lies on another.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written.
    pub fn write_devices(&self, devices: Devices<'_>, model: &Model) -> Result<()> {
        let text = match devices.second() {
            None => serde_json::json!({"device": devices.encoder.name(), "kernels": model.chosen_kernels()}),
            Some(second) => {
                let [encoder, classifier] = model.kernels_of_parts();
                serde_json::json!({
                    "device": devices.encoder.name(), "kernels": encoder,
                    "classifier_device": second.name(), "classifier_kernels": classifier,
                })
            }
        };
        self.write_json("device.json", &text)
    }

    /// Writes down what the run will take: every buffer with its bytes, and bytes by purpose.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written.
    pub fn write_plan(&self, plan: &Plan) -> Result<()> {
        let mut text = serde_json::json!(plan);
        // What else takes memory on this machine at this moment is not the run's.
        for place in ["", "/classifier_device"] {
            if let Some(object) = text.pointer_mut(place).and_then(serde_json::Value::as_object_mut) {
                object.remove("available_bytes");
            }
        }
        self.write_json("plan.json", &text)
    }

    /// Writes down what the run has taken at most since it began or was resumed: the device's buffers, and the whole
    /// process where the system tells it.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be written.
    pub fn write_memory(&self, buffers_peak_bytes: u64, process_peak_bytes: Option<u64>) -> Result<()> {
        let text = serde_json::json!({
            "buffers_peak_bytes": buffers_peak_bytes, "process_peak_bytes": process_peak_bytes,
        });
        self.write_json(MEMORY, &text)
    }

    fn write_json(&self, name: &str, text: &serde_json::Value) -> Result<()> {
        let path = self.path.join(name);
        write_atomically(&path, |out| writeln!(out, "{text:#}").map_err(Error::io("writing", &path)))
    }

    /// Where the checkpoint lies.
    #[must_use]
    pub fn checkpoint_path(&self) -> PathBuf {
        self.path.join(CHECKPOINT)
    }

    /// The model after the last epoch.
    #[must_use]
    pub fn last_model(&self) -> PathBuf {
        self.path.join("model")
    }

    /// The model that was best on dev.
    #[must_use]
    pub fn best_model(&self) -> PathBuf {
        self.path.join("best")
    }

    /// The model to use: the best one where dev chose one, else the last.
    #[must_use]
    pub fn model(&self) -> PathBuf {
        let best = self.best_model();
        if best.is_dir() { best } else { self.last_model() }
    }

    /// Appends a line to `metrics.jsonl`; returns the file's length.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn log(&self, line: &serde_json::Value) -> Result<u64> {
        let path = self.metrics_path();
        let mut file = OpenOptions::new().append(true).open(&path).map_err(Error::io("writing", &path))?;
        file.write_all(format!("{line}\n").as_bytes()).map_err(Error::io("writing", &path))?;
        file.metadata().map(|meta| meta.len()).map_err(Error::io("reading", &path))
    }

    /// Lines of `metrics.jsonl`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn log_lines(&self) -> Result<u64> {
        let path = self.metrics_path();
        let text = fs::read(&path).map_err(Error::io("reading", &path))?;
        Ok(line_ends(&text).count() as u64)
    }

    /// Cuts `metrics.jsonl` back to the lines that a checkpoint knew of. (Its bytes would not do: how many they are
    /// depends on the seconds in them, and a checkpoint must not.)
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn cut_log(&self, lines: u64) -> Result<()> {
        let path = self.metrics_path();
        let text = fs::read(&path).map_err(Error::io("reading", &path))?;
        let length = line_ends(&text).take(lines as usize).last().unwrap_or(0);
        if length == text.len() {
            return Ok(());
        }
        let file = OpenOptions::new().write(true).open(&path).map_err(Error::io("writing", &path))?;
        file.set_len(length as u64).map_err(Error::io("writing", &path))
    }
}

/// What a folder holds in which a run may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Run,
}

/// Locks a folder until the file is closed, also by the end of the process; none where the file system has no locks.
fn lock(folder: &Path) -> Result<Option<File>> {
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(Error::io("creating", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Error::Usage(format!(
            "another process trains into {}; wait until it ends, or name another folder with --out",
            folder.display()
        ))),
        Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::io("locking", &path)(error)),
    }
}

/// Where each line ends, its line break included.
fn line_ends(text: &[u8]) -> impl Iterator<Item = usize> {
    text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1)
}

/// Whether this is what a run leaves that was killed while it began: its lock, an empty log, a config that was never
/// finished.
fn is_remnant(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    let empty = || entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() == 0);
    ((name == METRICS || name == LOCK) && empty()) || name.to_string_lossy().starts_with("config.toml.tmp-")
}
