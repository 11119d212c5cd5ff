//! A pretrained model in a folder, wherever it came from.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::architecture::Architecture;
use super::folder::{self, CONFIG, INDEX, Layout, Pooling, SENTENCE_CONFIG, SINGLE, TOKENIZER};
use super::hub::{self, Download, HubSettings};
use super::json;
use crate::error::{Error, Result};

/// The branch that is meant where none is named.
const MAIN: &str = "main";

/// A folder with everything that a pretrained encoder needs.
#[derive(Clone, Debug, PartialEq)]
pub struct PretrainedModel {
    /// The folder with `config.json` and the weights.
    pub folder: PathBuf,
    /// What the encoder looks like.
    pub architecture: Architecture,
    /// Its `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// How sentence-transformers pool it, if the folder says so. A snapshot that other tools put into the cache may
    /// lack that file.
    pub pooling: Option<Pooling>,
    /// The length that sentence-transformers cut texts to, if the folder says so; at most what the positions allow.
    pub max_tokens: Option<usize>,
    /// The commit, if it came from the hub or its cache.
    pub revision: Option<String>,
}

impl PretrainedModel {
    /// Opens a local folder in Hugging Face's or sentence-transformers' layout.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if a file is missing or wrong: the message says how to come by it. [`Error::Io`].
    pub fn open(folder: &Path) -> Result<Self> {
        let layout = Layout::read(folder)?;
        let transformer = if layout.transformer.is_empty() {
            folder.to_path_buf()
        } else {
            folder.join(&layout.transformer)
        };
        let config = transformer.join(CONFIG);
        if !config.is_file() {
            let message = format!("there is no {CONFIG} here; give the folder of a Hugging Face model");
            return Err(Error::data(&transformer, message));
        }
        let architecture = Architecture::read(&config)?;
        if ![SINGLE, INDEX].iter().any(|file| transformer.join(file).is_file()) {
            return Err(folder::no_weights(&transformer));
        }
        let tokenizer = transformer.join(TOKENIZER);
        if !tokenizer.is_file() {
            let here = transformer.display();
            return Err(Error::data(&transformer, folder::make_tokenizer(&here, &here)));
        }
        let optional = |file: Option<PathBuf>| -> Result<Option<Value>> {
            Ok(file.map(|file| json::read_if_there(&file)).transpose()?.flatten())
        };
        let pooling = optional(layout.pooling.map(|file| folder.join(file)))?;
        let cut = optional(Some(transformer.join(SENTENCE_CONFIG)))?;
        let cut = cut.and_then(|config| usize::try_from(config.get("max_seq_length")?.as_u64()?).ok());
        Ok(Self {
            folder: transformer,
            architecture,
            tokenizer,
            pooling: pooling.as_ref().and_then(folder::pooling_of),
            max_tokens: cut.filter(|&cut| cut > 0).map(|cut| cut.min(architecture.max_tokens())),
            revision: None,
        })
    }

    /// Finds a model by name: a local folder; else an id in the Hugging Face cache; else the hub, into that cache.
    /// What the cache has is used without asking the hub for news: a branch stays at the commit it was first fetched
    /// at. `progress` is called after every piece of a download; its errors end it, and the next call resumes.
    ///
    /// # Errors
    ///
    /// As [`PretrainedModel::open`]; [`Error::Usage`] if the name is neither a folder nor an id, or if the model is
    /// not here and must not or cannot be downloaded; [`Error::Download`]; what `progress` returns.
    pub fn find(
        name: &str,
        revision: Option<&str>,
        hub: &HubSettings,
        progress: &mut dyn FnMut(Download<'_>) -> Result<()>,
    ) -> Result<Self> {
        let path = Path::new(name);
        if path.is_dir() {
            if let Some(revision) = revision {
                let message = format!("{name} is a folder, which has no revision {revision}; leave it out");
                return Err(Error::Usage(message));
            }
            return Self::open(path);
        }
        if !hub::is_id(name) {
            let message = format!(
                "there is no folder {name}; give one, or the id of a model on the Hugging Face hub, such as \
                 sentence-transformers/all-MiniLM-L6-v2"
            );
            return Err(Error::Usage(message));
        }
        let wanted = revision.unwrap_or(MAIN);
        if !hub::is_revision(wanted) {
            let message = format!("revision {wanted:?} is no name of a branch or tag and no commit");
            return Err(Error::Usage(message));
        }
        let lacks = match hub.commit_of(name, wanted)? {
            None => None,
            Some(commit) => {
                let snapshot = hub.snapshot(name, &commit);
                let missing = folder::missing(&snapshot)?;
                if missing.is_empty() {
                    return Ok(Self { revision: Some(commit), ..Self::open(&snapshot)? });
                }
                snapshot.is_dir().then_some((snapshot, missing))
            }
        };
        fetch(name, wanted, hub, lacks, progress)
    }
}

/// Downloads what the cache does not have.
#[cfg(feature = "download")]
fn fetch(
    id: &str,
    revision: &str,
    hub: &HubSettings,
    lacks: Option<(PathBuf, Vec<String>)>,
    progress: &mut dyn FnMut(Download<'_>) -> Result<()>,
) -> Result<PretrainedModel> {
    if hub.offline {
        let todo = "HF_HUB_OFFLINE forbids to download it: unset that, or give a folder";
        return Err(not_here(id, revision, hub, lacks, todo));
    }
    let commit = super::download::download(id, revision, hub, progress)?;
    let opened = PretrainedModel::open(&hub.snapshot(id, &commit))?;
    Ok(PretrainedModel { revision: Some(commit), ..opened })
}

/// Says what to do, since this build cannot download.
#[cfg(not(feature = "download"))]
fn fetch(
    id: &str,
    revision: &str,
    hub: &HubSettings,
    lacks: Option<(PathBuf, Vec<String>)>,
    _progress: &mut dyn FnMut(Download<'_>) -> Result<()>,
) -> Result<PretrainedModel> {
    let todo = format!("this regrow was built without downloads: run `hf download {id}`, or give a folder");
    Err(not_here(id, revision, hub, lacks, &todo))
}

/// What to say of a model that the cache does not have, or not whole.
fn not_here(
    id: &str,
    revision: &str,
    hub: &HubSettings,
    lacks: Option<(PathBuf, Vec<String>)>,
    todo: &str,
) -> Error {
    match lacks {
        // Pickled weights are no missing download; `open` knows what to do.
        Some((snapshot, _)) if folder::has_pickle(|file| snapshot.join(file).is_file()) => {
            match PretrainedModel::open(&snapshot) {
                Err(error) => error,
                Ok(_) => Error::data(&snapshot, "is being changed by another program; try again"),
            }
        }
        Some((snapshot, missing)) => {
            Error::Usage(format!("{} lacks {}, and {todo}", snapshot.display(), missing.join(", ")))
        }
        None => Error::Usage(format!(
            "{id} ({revision}) is neither a folder nor in the Hugging Face cache {}, and {todo}",
            hub.cache.display()
        )),
    }
}
