//! Checkpoints: everything that training needs to go on as if it had not stopped.

use std::collections::BTreeMap;
use std::path::Path;

use super::devices::Devices;
use super::model::Model;
use super::model_folder::{LABEL_OF_ROW, read_row_order};
use super::selection::Selection;
use super::stored::{Content, tensors};
use crate::error::{Error, Result};
use crate::files::{Dtype, TensorFile, TensorSpec, write_tensors};

/// The numbers of a run that are not tensors.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Progress {
    /// Optimizer steps done.
    pub(super) step: u64,
    /// Sum of the losses of this epoch's steps, times their documents.
    pub(super) loss_sum: f64,
    /// The same of the auxiliary losses.
    #[serde(default)]
    pub(super) auxiliary_loss_sum: f64,
    /// Documents of this epoch's steps.
    pub(super) documents: u64,
    /// Rewirings, pruned slots and slots pruned again in this epoch.
    pub(super) rewired: [u64; 3],
    /// What dev has chosen so far.
    pub(super) selection: Selection,
    /// Lines of `metrics.jsonl`.
    pub(super) log_lines: u64,
    /// What the run was trained on: labels, training documents, vocabulary.
    pub(super) data: String,
}

const KEY: &str = "progress";

/// Writes a checkpoint beside the one that is there and puts it in its place.
pub(super) fn save(path: &Path, devices: Devices<'_>, model: &Model, progress: &Progress) -> Result<()> {
    let stored = tensors(devices, model, Content::Checkpoint);
    let mut specs: Vec<TensorSpec> = stored.iter().map(|(_, tensor)| tensor.spec.clone()).collect();
    let labels = model.row_order.as_ref().map_or(&[][..], |order| order.label_of_row());
    if model.row_order.is_some() {
        specs.push(TensorSpec::new(LABEL_OF_ROW, Dtype::U32, vec![labels.len()]));
    }
    let text = serde_json::to_string(progress).unwrap_or_default();
    let metadata = BTreeMap::from([(KEY.to_owned(), text)]);
    write_tensors(path, &metadata, &specs, &mut |i, out| match stored.get(i) {
        Some((device, tensor)) => tensor.write(device, path, out),
        None => out.write_all(bytemuck::cast_slice(labels)).map_err(Error::io("writing", path)),
    })
}

/// Reads a checkpoint into the model.
pub(super) fn load(path: &Path, devices: Devices<'_>, model: &mut Model, data: &str) -> Result<Progress> {
    let anew = |error| match error {
        Error::Artefact { path, message } => {
            Error::Artefact { path, message: message + ", or start anew with --fresh" }
        }
        other => other,
    };
    let file = TensorFile::open(path).map_err(anew)?;
    file.verify().map_err(anew)?;
    let damaged = |why: &str| Error::artefact(path, format!("is no checkpoint of regrow: {why}"));
    let text = file.metadata().get(KEY).ok_or_else(|| damaged("it says nothing of its progress"))?;
    let progress: Progress = serde_json::from_str(text).map_err(|error| damaged(&error.to_string()))?;
    if progress.data != data {
        return Err(Error::artefact(
            path,
            format!(
                "belongs to other data ({}) than there is now ({data}); start anew with --fresh",
                progress.data
            ),
        ));
    }
    for (device, tensor) in tensors(devices, model, Content::Checkpoint) {
        tensor.load(device, &file, path)?;
    }
    model.row_order = read_row_order(&file, path, &model.classifier)?;
    model.classifier.loaded(devices.classifier)?;
    Ok(progress)
}
