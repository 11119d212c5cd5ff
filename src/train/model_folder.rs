//! The model folder: weights, tokenizer, label map and description, readable without regrow (docs/model.md).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::devices::Devices;
use super::encoder_source::{check_tokenizer, special_tokens};
use super::feed::FeedSizes;
use super::model::Model;
use super::row_order::RowOrder;
use super::sizes::{EncoderSizes, ModelSizes};
use super::stored::{Content, tensors};
use crate::classifier::{FanIn, FanInOptions, Head};
use crate::config::{Config, IntermediateActivation, Pattern};
use crate::data::{LabelMap, Tokenizer};
use crate::error::{Error, Result};
use crate::files::{Dtype, TensorFile, TensorSpec, write_atomically, write_tensors};

/// File with the tensors.
pub(super) const MODEL_FILE: &str = "model.safetensors";
/// Tensor with the label of each row of the classifier, where labels share rows of indices or some are dense.
/// \[L\] u32
pub(super) const LABEL_OF_ROW: &str = "classifier.label_of_row";
/// Tensor with the training documents of each label. \[L\] u32
const TRAIN_FREQUENCY: &str = "labels.train_frequency";

/// What belongs to a model besides its tensors.
#[derive(Clone)]
pub struct ModelInfo {
    /// The resolved config of its run.
    pub config: Config,
    /// The labels.
    pub labels: LabelMap,
    /// `tokenizer.json`, as a text.
    pub tokenizer: String,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Training documents of each label, as the propensities count them.
    pub train_frequency: Arc<[u32]>,
    /// Training documents, likewise.
    pub train_documents: u64,
}

/// `config.json` of a model folder.
#[derive(Serialize, Deserialize)]
struct Description {
    format: String,
    encoder: serde_json::Value,
    /// None: the classifier sees the encoder's features.
    #[serde(default)]
    intermediate: Option<IntermediateDescription>,
    classifier: ClassifierDescription,
    tokenizer: TokenizerDescription,
    train_documents: u64,
    /// The config of the run, as TOML.
    config: String,
}

#[derive(Serialize, Deserialize)]
struct IntermediateDescription {
    width: usize,
    activation: IntermediateActivation,
}

#[derive(Serialize, Deserialize)]
struct ClassifierDescription {
    labels: usize,
    /// Connections of a label; all features where there are no indices.
    fan_in: usize,
    /// Consecutive rows that share a row of indices.
    #[serde(default = "one")]
    group: usize,
    /// Where its connections may look; none: it is dense.
    #[serde(default)]
    pattern: Option<Pattern>,
    /// What it sees: the features of the encoder, or the outputs of the intermediate layer.
    features: usize,
    /// Labels of the first rows, which are dense and have no indices.
    #[serde(default)]
    dense_labels: usize,
    /// The first so many features are for these labels alone, and the others for the rest; 0: all are for all.
    #[serde(default)]
    dense_features: usize,
}

fn one() -> usize {
    1
}

#[derive(Serialize, Deserialize)]
struct TokenizerDescription {
    max_tokens: usize,
    special_tokens: bool,
}

const FORMAT: &str = "regrow-model-1";

/// Writes what does not change during a run: label map, tokenizer, description.
pub(super) fn write_description(folder: &Path, model: &Model, info: &ModelInfo) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io("creating folder", folder))?;
    let description = Description {
        format: FORMAT.into(),
        encoder: model.encoder.describe(),
        intermediate: model.intermediate.as_ref().map(|layer| IntermediateDescription {
            width: layer.width(),
            activation: info.config.intermediate.activation,
        }),
        classifier: ClassifierDescription {
            labels: info.labels.len(),
            fan_in: model.classifier.connections(),
            group: model.classifier.group(),
            pattern: model.classifier.fan_in().map(|_| info.config.classifier.pattern),
            features: model.classifier.features(),
            dense_labels: info.config.dense_labels(info.labels.len()),
            dense_features: info.config.classifier.dense_features,
        },
        tokenizer: TokenizerDescription {
            max_tokens: info.config.data.max_tokens,
            special_tokens: special_tokens(&info.config),
        },
        train_documents: info.train_documents,
        config: info.config.to_toml(),
    };
    let text = serde_json::to_string_pretty(&description).unwrap_or_default() + "\n";
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        write_atomically(&path, |out| out.write_all(text.as_bytes()).map_err(Error::io("writing", &path)))
    };
    write("config.json", &text)?;
    write("tokenizer.json", &info.tokenizer)?;
    let path = folder.join("labels.txt");
    write_atomically(&path, |out| info.labels.to_writer(out).map_err(Error::io("writing", &path)))
}

/// Writes the tensors, beside the file that is there, and puts them in its place.
pub(super) fn write_weights(
    folder: &Path,
    devices: Devices<'_>,
    model: &Model,
    info: &ModelInfo,
) -> Result<()> {
    let path = folder.join(MODEL_FILE);
    let stored = tensors(devices, model, Content::Model);
    let mut specs: Vec<TensorSpec> = stored.iter().map(|(_, tensor)| tensor.spec.clone()).collect();
    let mut of_labels = vec![(TRAIN_FREQUENCY, &info.train_frequency[..])];
    if let Some(order) = &model.row_order {
        of_labels.push((LABEL_OF_ROW, order.label_of_row()));
    }
    let of_label = |(name, numbers): &(&str, &[u32])| TensorSpec::new(*name, Dtype::U32, vec![numbers.len()]);
    specs.extend(of_labels.iter().map(of_label));
    let metadata = BTreeMap::from([("format".to_owned(), FORMAT.to_owned())]);
    write_tensors(&path, &metadata, &specs, &mut |i, out| match stored.get(i) {
        Some((device, tensor)) => tensor.write(device, &path, out),
        None => {
            let (_, numbers) = of_labels[i - stored.len()];
            out.write_all(bytemuck::cast_slice(numbers)).map_err(Error::io("writing", &path))
        }
    })
}

/// A model folder whose description, tokenizer and tensors were found sound.
pub(super) struct Described {
    pub(super) config: Config,
    pub(super) encoder: EncoderSizes,
    pub(super) tokenizer: Tokenizer,
    pub(super) file: TensorFile,
    train_documents: u64,
    /// Labels of the classifier.
    labels: usize,
}

impl Described {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let description = Description::read(folder)?;
        let TokenizerDescription { max_tokens, special_tokens } = description.tokenizer;
        let tokenizer = Tokenizer::from_file(&folder.join("tokenizer.json"), max_tokens, special_tokens)?;
        let file = TensorFile::open(&folder.join(MODEL_FILE))?;
        file.verify()?;
        let config = Config::parse(&description.config, &path, &[])?;
        check_tokenizer(&config, &tokenizer)?;
        Ok(Self {
            config,
            encoder: EncoderSizes::described(&description.encoder, &path, tokenizer.vocabulary() as usize)?,
            tokenizer,
            file,
            train_documents: description.train_documents,
            labels: description.classifier.labels,
        })
    }
}

impl Description {
    /// That of a model folder.
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        if path.is_file() && !folder.join(MODEL_FILE).is_file() {
            return Err(Error::artefact(
                folder,
                "holds no model yet: its run stopped before the first epoch ended; go on with `regrow train` and --resume",
            ));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Error::artefact(folder, format!("is no model folder: config.json cannot be read ({error})"))
        })?;
        let wrong = |error: &dyn std::fmt::Display| {
            Error::artefact(&path, format!("is no description of a regrow model: {error}"))
        };
        let description: Description = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
        if description.format != FORMAT {
            return Err(wrong(&format!("format {} is not {FORMAT}", description.format)));
        }
        Ok(description)
    }
}

/// The labels of a model folder, in the order of the classifier's outputs.
///
/// # Errors
/// [`Error::Artefact`] when a file is missing or damaged, or its labels are not as many as the model's.
pub fn model_labels(folder: &Path) -> Result<LabelMap> {
    labels_beside(folder, Description::read(folder)?.classifier.labels)
}

fn labels_beside(folder: &Path, described: usize) -> Result<LabelMap> {
    let path = folder.join("labels.txt");
    let labels = LabelMap::from_file(&path)?;
    if labels.len() != described {
        let message = format!(
            "names {} labels, but the model beside it has {described}; put back the file that was written with it",
            labels.len()
        );
        return Err(Error::artefact(path, message));
    }
    Ok(labels)
}

/// The same config with optimizers that keep no states.
pub(super) fn without_states(config: &Config) -> Config {
    let mut lean = config.clone();
    let o = &mut lean.optimizer;
    for optimizer in [&mut o.encoder, &mut o.intermediate, &mut o.classifier] {
        optimizer.kind = crate::config::OptimizerKind::Sgd;
        optimizer.momentum = 0.0;
    }
    lean
}

/// A model read from its folder.
pub struct LoadedModel {
    /// The model.
    pub model: Model,
    /// What belongs to it.
    pub info: ModelInfo,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
}

/// Reads a model folder for ranking batches of up to `batch_size` documents. `sizes` gives the feed's sizes once the
/// config is known.
///
/// # Errors
/// [`Error::Artefact`] when a file is missing, damaged or of another kind; [`Error::Device`] when it does not fit.
pub fn load_model<'d>(
    folder: &Path,
    devices: impl Into<Devices<'d>>,
    sizes: impl FnOnce(&Config, &Tokenizer) -> Result<FeedSizes>,
) -> Result<LoadedModel> {
    let devices = devices.into();
    let Described { config, encoder, tokenizer, file, train_documents, labels } = Described::open(folder)?;
    let labels = labels_beside(folder, labels)?;
    let vocabulary = tokenizer.vocabulary() as usize;
    let sizes = ModelSizes {
        encoder,
        labels: labels.len(),
        auxiliary: None,
        train_batch: 0,
        feed: sizes(&config, &tokenizer)?,
        bias_init: 0.0,
        max_block_rows: 0,
    };
    // Ranking needs no states: without them a model takes a third of the memory of its training.
    let mut model = Model::allocate(devices, &without_states(&config), sizes)?;
    for (device, tensor) in tensors(devices, &model, Content::Model) {
        tensor.load(device, &file, &folder.join(MODEL_FILE))?;
    }
    if let Some(layer) = model.classifier.fan_in() {
        check_indices(&file, folder, layer)?;
    }
    model.row_order = read_row_order(&file, &folder.join(MODEL_FILE), &model.classifier)?;
    let train_frequency = file.u32s(TRAIN_FREQUENCY, &[labels.len()])?;
    let info = ModelInfo {
        config,
        tokenizer: tokenizer.json().to_owned(),
        vocabulary,
        train_frequency: train_frequency.into(),
        train_documents,
        labels,
    };
    Ok(LoadedModel { model, info, tokenizer })
}

/// The order of the rows, from a model or a checkpoint; none where it does not matter.
pub(super) fn read_row_order(file: &TensorFile, path: &Path, classifier: &Head) -> Result<Option<RowOrder>> {
    if !classifier.has_row_order() {
        return Ok(None);
    }
    let label_of_row = file.u32s(LABEL_OF_ROW, &[classifier.labels()])?;
    RowOrder::new(label_of_row)
        .map(Some)
        .map_err(|error| Error::artefact(path, format!("tensor {LABEL_OF_ROW}: {error}")))
}

/// Kernels trust indices; a file from elsewhere may hold any.
fn check_indices(file: &TensorFile, folder: &Path, layer: &FanIn) -> Result<()> {
    let FanInOptions { labels, fan_in, group, features, .. } = layer.options;
    let indices = file.u16s("classifier.indices", &[labels.div_ceil(group), fan_in])?;
    match indices.iter().find(|index| usize::from(**index) >= features) {
        Some(index) => Err(Error::artefact(
            folder.join(MODEL_FILE),
            format!("tensor classifier.indices holds {index}, but there are only {features} features"),
        )),
        None => Ok(()),
    }
}
