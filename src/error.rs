//! What can go wrong, said once: every message names what is wrong, where, and what to do next.

use std::io;
use std::path::{Path, PathBuf};

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every error that this library returns. `Display` is one line, ready for a terminal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing failed; `action` is a verb phrase such as `reading`.
    #[error("{action} {}: {source}{}", path.display(), hint_for(source))]
    Io {
        /// What was being done: `reading`, `writing`, `creating folder` …
        action: &'static str,
        /// The file or folder concerned.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A line of an input file is not what its format promises.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file, as the user named it.
        path: PathBuf,
        /// Line number, from 1.
        line: u64,
        /// What is wrong and what is expected.
        message: String,
    },
    /// A data folder or file as a whole cannot be used.
    #[error("{}: {message}", path.display())]
    Data {
        /// The file or folder, as the user named it.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A config key is unknown, has the wrong type, or a value that cannot work.
    #[error("config {key}: {message}")]
    Config {
        /// Full key, `section.name`.
        key: String,
        /// What is wrong and what is allowed.
        message: String,
    },
    /// What was asked for on the command line cannot be done as asked.
    #[error("{0}")]
    Usage(String),
    /// The device (adapter, driver, memory) failed or does not exist.
    #[error("device: {0}")]
    Device(String),
    /// The device was lost or failed in the middle of its work: what it held is gone, what was saved is not.
    #[error("device: {0}")]
    DeviceLost(String),
    /// A file that regrow wrote itself (checkpoint, model, cache) is damaged or of another kind.
    #[error("{}: {message}", path.display())]
    Artefact {
        /// The damaged file or the folder that is no run.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// A file could not be fetched from the network.
    #[error("downloading {url}: {message}")]
    Download {
        /// What was asked for.
        url: String,
        /// What went wrong and what to do.
        message: String,
    },
    /// The loss became NaN or infinite.
    #[error("{0}")]
    Diverged(String),
    /// The user pressed Ctrl-C, or the system asked the program to end; the run was saved and can be resumed.
    #[error("{0}")]
    Interrupted(String),
}

impl Error {
    /// Wraps an I/O error with what was being done to which path.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// A [`Error::Line`].
    pub fn line(path: impl AsRef<Path>, line: u64, message: impl Into<String>) -> Self {
        Self::Line { path: path.as_ref().to_path_buf(), line, message: message.into() }
    }

    /// A [`Error::Data`].
    pub fn data(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Data { path: path.as_ref().to_path_buf(), message: message.into() }
    }

    /// A [`Error::Config`].
    pub fn config(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config { key: key.into(), message: message.into() }
    }

    /// A [`Error::Artefact`].
    pub fn artefact(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Artefact { path: path.as_ref().to_path_buf(), message: message.into() }
    }

    /// The exit code of the program: 2 what the user wrote (command line, config, data), 3 the device,
    /// 4 a diverged loss, 5 files that cannot be read, written, downloaded or trusted, 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Line { .. } | Self::Data { .. } | Self::Config { .. } | Self::Usage(_) => 2,
            Self::Device(_) | Self::DeviceLost(_) => 3,
            Self::Diverged(_) => 4,
            Self::Io { .. } | Self::Artefact { .. } | Self::Download { .. } => 5,
            Self::Interrupted(_) => 130,
        }
    }
}

/// What to do about the I/O errors that users meet most.
fn hint_for(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::FileTooLarge | io::ErrorKind::QuotaExceeded => {
            "; free some space or choose another place; what was saved before is untouched"
        }
        io::ErrorKind::NotFound => "; check the path",
        io::ErrorKind::PermissionDenied => "; choose a place that you may write to",
        _ => "",
    }
}
