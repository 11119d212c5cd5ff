//! The Hugging Face hub as this machine sees it: settings, names, and the cache that other tools share.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};

/// Where the hub and its cache are. The environment variables are those of Hugging Face's own tools.
#[derive(Clone)]
pub struct HubSettings {
    /// The cache: `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// The hub: `HF_ENDPOINT`, else `https://huggingface.co`.
    pub endpoint: String,
    /// `HF_HUB_OFFLINE`: the cache must do.
    pub offline: bool,
    /// `HF_TOKEN`: what models that are private or have terms need. Sent to the endpoint only.
    pub token: Option<String>,
    /// Whether `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` are heeded.
    pub environment_proxy: bool,
    /// How long to wait before a broken download is resumed; doubled each time that it fails again at once.
    pub retry_pause: Duration,
}

/// The token is a secret.
impl fmt::Debug for HubSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubSettings")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("offline", &self.offline)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("environment_proxy", &self.environment_proxy)
            .field("retry_pause", &self.retry_pause)
            .finish()
    }
}

/// How far the download of a file is.
#[derive(Clone, Copy, Debug)]
pub struct Download<'a> {
    /// The file, by its name in the model.
    pub file: &'a str,
    /// Bytes that are here.
    pub done: u64,
    /// Bytes that it has, if the server says so.
    pub total: Option<u64>,
}

impl HubSettings {
    /// The settings of this process's environment.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var_os(name), std::env::home_dir())
    }

    /// The settings that an environment with those variables and that home folder gives. Empty variables count as
    /// unset.
    #[must_use]
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
        let home = home.unwrap_or_default();
        let folder = |name: &str| {
            let path = PathBuf::from(variable(name)?);
            Some(path.strip_prefix("~").map(|below| home.join(below)).unwrap_or(path.clone()))
        };
        let cache =
            folder("HF_HUB_CACHE").or_else(|| Some(folder("HF_HOME")?.join("hub"))).unwrap_or_else(|| {
                let caches = folder("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
                caches.join("huggingface").join("hub")
            });
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_string());
        let is_on = |value: String| matches!(value.to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE");
        Self {
            cache,
            endpoint: endpoint.trim_end_matches('/').to_string(),
            offline: text("HF_HUB_OFFLINE").is_some_and(is_on),
            token: text("HF_TOKEN").map(|token| token.trim().to_string()).filter(|token| !token.is_empty()),
            environment_proxy: true,
            retry_pause: Duration::from_secs(1),
        }
    }

    /// The folder of a model in the cache.
    pub(super) fn folder_of(&self, id: &str) -> PathBuf {
        self.cache.join(folder_name(id))
    }

    /// The file that is locked while a model is downloaded, where other tools of the hub have theirs.
    #[cfg(feature = "download")]
    pub(super) fn lock_of(&self, id: &str) -> PathBuf {
        self.cache.join(".locks").join(folder_name(id)).join("regrow.lock")
    }

    /// The commit that a revision meant when it was last downloaded, if the cache knows.
    pub(super) fn commit_of(&self, id: &str, revision: &str) -> Result<Option<String>> {
        if is_commit(revision) {
            return Ok(Some(revision.to_string()));
        }
        let path = self.folder_of(id).join("refs").join(revision);
        if !path.is_file() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(Error::io("reading", &path))?;
        let commit = text.trim();
        if is_commit(commit) {
            return Ok(Some(commit.to_string()));
        }
        Err(Error::data(&path, "holds no commit; remove this file, so that it is downloaded again"))
    }

    /// Where a commit of a model is or would be in the cache.
    pub(super) fn snapshot(&self, id: &str, commit: &str) -> PathBuf {
        self.folder_of(id).join("snapshots").join(commit)
    }
}

fn folder_name(id: &str) -> String {
    format!("models--{}", id.replace('/', "--"))
}

/// Whether this can be the name of a model on the hub: `name` or `owner/name`.
pub(super) fn is_id(name: &str) -> bool {
    let is_part = |part: &str| {
        part.len() <= 96
            && part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            && !part.contains("..")
            && !part.contains("--")
    };
    name.split('/').count() <= 2 && name.split('/').all(is_part)
}

/// Whether this is a full commit hash.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether this can be the name of a branch, tag, commit or pull request.
pub(super) fn is_revision(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-+".contains(c))
    };
    text.len() <= 256 && text.split('/').all(is_part)
}
