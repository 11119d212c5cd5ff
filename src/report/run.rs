//! A run folder, read for the page. What a run has not written is missing, not an error; what is damaged is one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::classifier::Classifier;
use super::log::Log;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::train::RunFolder;

/// Names up to this length stand in the charts themselves; longer ones would cover lines and are replaced by letters.
const SHORT: usize = 2;

/// A run.
pub(super) struct Run {
    /// As it was given.
    pub(super) folder: PathBuf,
    /// The folder's own name.
    pub(super) name: String,
    /// The name in charts: the run's, or a letter.
    pub(super) tag: String,
    /// What it did.
    pub(super) config: Config,
    /// Where it ran.
    pub(super) device: Option<String>,
    /// What it logged.
    pub(super) log: Log,
    /// What it planned to take.
    pub(super) plan: Option<Plan>,
    /// What it took.
    pub(super) memory: Option<Memory>,
    /// The sizes of its model.
    pub(super) model: Option<Model>,
    /// The numbers of the model that `regrow evaluate` uses.
    pub(super) classifier: Option<Classifier>,
    /// Whether that is the best model on dev, not the last one.
    pub(super) is_best: bool,
    /// When config and log were written last.
    pub(super) written: Option<(SystemTime, SystemTime)>,
}

/// `plan.json`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Plan {
    pub(super) purposes: Vec<Purpose>,
    pub(super) memory: PlannedMemory,
    /// Of the classifier's device, where it is another.
    classifier_device: Option<Box<Plan>>,
}

impl Plan {
    /// The plan of all devices together.
    fn together(mut self) -> Self {
        if let Some(second) = self.classifier_device.take() {
            self.purposes.iter_mut().zip(&second.purposes).for_each(|(all, more)| all.bytes += more.bytes);
            self.memory.peak_bytes += second.memory.peak_bytes;
        }
        self
    }
}

/// Bytes of a kind.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Purpose {
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// All buffers together.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PlannedMemory {
    pub(super) peak_bytes: u64,
}

/// `memory.json`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Memory {
    pub(super) buffers_peak_bytes: u64,
    pub(super) process_peak_bytes: Option<u64>,
}

/// What the page needs of a model folder's `config.json`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Model {
    pub(super) classifier: Sizes,
    pub(super) train_documents: u64,
}

/// Sizes of the classifier.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Sizes {
    pub(super) labels: u64,
    /// Of a label that is not dense.
    pub(super) fan_in: u64,
    pub(super) features: u64,
    /// The most frequent so many are dense, and their weights a tensor of their own.
    #[serde(default)]
    pub(super) dense_labels: u64,
    /// Features that are theirs alone.
    #[serde(default)]
    dense_features: u64,
}

impl Sizes {
    /// Features that connections choose from.
    fn wired_features(&self) -> usize {
        self.features.saturating_sub(self.dense_features) as usize
    }
}

/// `device.json`.
#[derive(Deserialize)]
struct DeviceFile {
    device: String,
    /// Where it is another.
    classifier_device: Option<String>,
}

impl DeviceFile {
    fn name(self) -> String {
        match self.classifier_device {
            Some(second) => format!("{}, the classifier on {second}", self.device),
            None => self.device,
        }
    }
}

impl Run {
    /// Reads a run folder.
    ///
    /// # Errors
    /// [`Error::Artefact`] for a folder that is no run and for damaged files; [`Error::Line`]; [`Error::Io`].
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let files = RunFolder::existing(folder)?;
        let config = files.config().map_err(|error| match error {
            Error::Config { key, message } => {
                Error::artefact(folder.join("config.toml"), format!("config {key}: {message}"))
            }
            other => other,
        })?;
        let log_path = folder.join("metrics.jsonl");
        let model: Option<Model> =
            read_json(&files.last_model().join("config.json"), "description of a model")?;
        let name = name_of(folder);
        Ok(Self {
            tag: name.clone(),
            name,
            config,
            device: read_json(&folder.join("device.json"), "description of a device")?.map(DeviceFile::name),
            log: Log::read(&log_path)?,
            plan: read_json(&folder.join("plan.json"), "memory plan")?.map(Plan::together),
            memory: read_json(&folder.join("memory.json"), "measurement of memory")?,
            classifier: match &model {
                Some(model) => Classifier::read(&files.model(), model.classifier.wired_features())?,
                None => None,
            },
            model,
            is_best: files.best_model().is_dir(),
            written: modified(&folder.join("config.toml")).zip(modified(&log_path)),
            folder: folder.to_path_buf(),
        })
    }

    /// Connections of the classifier, F of each label that is not dense.
    pub(super) fn connections(&self) -> Option<u64> {
        let sizes = &self.model.as_ref()?.classifier;
        Some(sizes.labels.saturating_sub(sizes.dense_labels) * sizes.fan_in)
    }

    /// Optimizer steps in an epoch, once one is over.
    pub(super) fn steps_per_epoch(&self) -> Option<u64> {
        self.log.epochs.first().map(|epoch| epoch.step / epoch.epoch.max(1)).filter(|steps| *steps > 0)
    }
}

/// Gives every run its name in the charts: its own if all are short, else a letter.
pub(super) fn name_in_charts(runs: &mut [Run]) {
    if runs.len() > 1 && runs.iter().any(|run| run.name.chars().count() > SHORT) {
        runs.iter_mut().enumerate().for_each(|(place, run)| run.tag = letters(place));
    }
}

/// A, B, … Z, AA, AB, …
fn letters(place: usize) -> String {
    let letter = char::from(b'A' + (place % 26) as u8);
    if place < 26 { letter.to_string() } else { letters(place / 26 - 1) + &letter.to_string() }
}

/// The name of a folder, also of `.` and `..`.
fn name_of(folder: &Path) -> String {
    let whole = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf());
    whole.file_name().unwrap_or(whole.as_os_str()).to_string_lossy().into_owned()
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

/// A JSON file that the run may have written.
fn read_json<T: DeserializeOwned>(path: &Path, what: &str) -> Result<Option<T>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("reading", path))?,
    };
    let parsed = serde_json::from_slice(&text);
    parsed.map(Some).map_err(|error| Error::artefact(path, format!("is no {what}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_go_on_after_z() {
        assert_eq!([0, 25, 26, 51, 52, 701, 702].map(letters), ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]);
    }

    #[test]
    fn missing_is_none_and_damaged_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        assert!(read_json::<Plan>(&path, "memory plan").unwrap().is_none());
        fs::write(&path, "{\"purposes\":[{\"name\":\"a\",\"bytes\":3}],\"memory\":{\"peak_bytes\":4}}")
            .unwrap();
        let plan = read_json::<Plan>(&path, "memory plan").unwrap().unwrap();
        assert_eq!((plan.purposes[0].bytes, plan.memory.peak_bytes), (3, 4));
        fs::write(&path, "{\"purposes\":").unwrap();
        let error = read_json::<Plan>(&path, "memory plan").unwrap_err().to_string();
        assert!(error.contains("plan.json: is no memory plan: EOF"), "{error}");
    }
}
