//! The files of a model folder, in Hugging Face's layout or in that of sentence-transformers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Component, Path};

use serde_json::Value;

use super::json;
use crate::error::{Error, Result};

/// The encoder's description.
pub(super) const CONFIG: &str = "config.json";
/// The tokenizer.
pub(super) const TOKENIZER: &str = "tokenizer.json";
/// All weights in one file.
pub(super) const SINGLE: &str = "model.safetensors";
/// Which of several files holds which weights.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// sentence-transformers: what the model is made of.
pub(super) const MODULES: &str = "modules.json";
/// sentence-transformers: the length that texts were cut to, beside the config.
pub(super) const SENTENCE_CONFIG: &str = "sentence_bert_config.json";
/// Weights as PyTorch pickles them, in one file or several.
const PICKLES: [&str; 2] = ["pytorch_model.bin", "pytorch_model.bin.index.json"];

/// How a sentence-transformers model makes one vector of those of its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// The first one.
    Cls,
    /// Something that regrow does not have: maximum, weighted mean, several at once …
    Other,
}

/// Where the parts lie in a folder, as prefixes of names: empty, or ending in `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Config, weights and tokenizer.
    pub(super) transformer: String,
    /// The config of the pooling, if it is known.
    pub(super) pooling: Option<String>,
}

impl Layout {
    /// The layout that a `modules.json` describes.
    pub(super) fn of(modules: &Value, path: &Path) -> Result<Self> {
        let wrong = |message: &str| Error::data(path, format!("{message}; download the model again"));
        let modules = modules.as_array().ok_or_else(|| wrong("a list of modules is expected"))?;
        let part = |kind: &str| -> Result<Option<String>> {
            let is_kind = |module: &&Value| {
                // Full names of Python classes, which have moved between modules.
                module["type"].as_str().is_some_and(|name| name.rsplit('.').next() == Some(kind))
            };
            let Some(module) = modules.iter().find(is_kind) else { return Ok(None) };
            let path = module["path"].as_str().unwrap_or("");
            if !is_inside(path) {
                return Err(wrong(&format!("path {path:?} of module {kind} leaves the folder")));
            }
            let path = path.trim_end_matches('/');
            Ok(Some(if path.is_empty() { String::new() } else { format!("{path}/") }))
        };
        let transformer = part("Transformer")?;
        let transformer = transformer
            .ok_or_else(|| wrong("no module of type Transformer; regrow reads transformer encoders only"))?;
        Ok(Self { transformer, pooling: part("Pooling")?.map(|folder| format!("{folder}{CONFIG}")) })
    }

    /// The layout of a folder.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MODULES);
        match json::read_if_there(&path)? {
            Some(modules) => Self::of(&modules, &path),
            None => Ok(Self::default()),
        }
    }
}

/// Whether a path with slashes names something below the folder it starts from.
pub(super) fn is_inside(path: &str) -> bool {
    !path.contains('\\') && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// The mode in the config of a pooling.
pub(super) fn pooling_of(config: &Value) -> Option<Pooling> {
    if let Some(mode) = config.get("pooling_mode") {
        return Some(match mode.as_str() {
            Some("mean") => Pooling::Mean,
            Some("cls") => Pooling::Cls,
            _ => Pooling::Other,
        });
    }
    // The older form has a flag for each mode; they can be combined.
    let flags = config.as_object()?.iter();
    let on: Vec<&str> = flags
        .filter(|(key, value)| key.starts_with("pooling_mode_") && **value == Value::Bool(true))
        .map(|(key, _)| key.as_str())
        .collect();
    match on.as_slice() {
        [] => None,
        ["pooling_mode_mean_tokens"] => Some(Pooling::Mean),
        ["pooling_mode_cls_token"] => Some(Pooling::Cls),
        _ => Some(Pooling::Other),
    }
}

/// The file of each tensor in an index of shards.
pub(super) fn shards_of(index: &Value, path: &Path) -> Result<BTreeMap<String, String>> {
    let shard = |file: &Value| {
        let file = file.as_str().filter(|file| is_inside(file) && !file.is_empty() && !file.contains('/'))?;
        Some(file.to_string())
    };
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or_else(|| Error::data(path, "weight_map is missing; download the model again"))?;
    let shards = map.iter().map(|(name, file)| match shard(file) {
        Some(shard) => Ok((name.clone(), shard)),
        None => {
            let message = format!("weight_map gives {file} for {name}, which is no name of a file beside it");
            Err(Error::data(path, message))
        }
    });
    shards.collect()
}

/// What a folder lacks before its model can be used.
pub(super) fn missing(folder: &Path) -> Result<Vec<String>> {
    let transformer = Layout::read(folder)?.transformer;
    let has = |file: &str| folder.join(&transformer).join(file).is_file();
    let mut missing: Vec<String> =
        [CONFIG, TOKENIZER].into_iter().filter(|file| !has(file)).map(str::to_string).collect();
    if has(INDEX) && !has(SINGLE) {
        let path = folder.join(&transformer).join(INDEX);
        let shards: BTreeSet<String> = shards_of(&json::read(&path)?, &path)?.into_values().collect();
        missing.extend(shards.into_iter().filter(|shard| !has(shard)));
    } else if !has(SINGLE) {
        missing.push(SINGLE.to_string());
    }
    Ok(missing)
}

/// Whether a list of names has weights that PyTorch pickled.
pub(super) fn has_pickle(has: impl Fn(&str) -> bool) -> bool {
    PICKLES.iter().any(|file| has(file))
}

/// What to say where there are no weights.
pub(super) fn no_weights(folder: &Path) -> Error {
    if has_pickle(|file| folder.join(file).is_file()) {
        return Error::data(folder, convert_weights(folder.display(), folder.display()));
    }
    let message = format!("neither {SINGLE} nor {INDEX} is here; give the folder of a Hugging Face model");
    Error::data(folder, message)
}

/// How to make safetensors of a pickle.
pub(super) fn convert_weights(from: impl Display, to: impl Display) -> String {
    format!(
        "the weights are only in PyTorch's own format, which regrow does not read (such a file can run programs); \
         convert them: {}",
        save_weights(from, to)
    )
}

/// The command that writes `model.safetensors` and `config.json`.
pub(super) fn save_weights(from: impl Display, to: impl Display) -> String {
    let (from, to) = (from.to_string(), to.to_string());
    format!(
        "python3 -c 'from transformers import AutoModel; AutoModel.from_pretrained({from:?}).save_pretrained({to:?})'"
    )
}

/// How to make a `tokenizer.json`.
pub(super) fn make_tokenizer(from: impl Display, to: impl Display) -> String {
    let (from, to) = (from.to_string(), to.to_string());
    format!(
        "{TOKENIZER} is missing; make it: python3 -c 'from transformers import AutoTokenizer; \
         AutoTokenizer.from_pretrained({from:?}, use_fast=True).save_pretrained({to:?})'"
    )
}
