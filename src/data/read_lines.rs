//! Layout `lines`: a text a line in one file, its labels separated by white space in the same line of another.

use std::path::Path;

use super::document::{RawDocument, RawLabels};
use super::open::FileLines;
use crate::error::{Error, Result};

/// Streams a pair of files.
pub struct LinesReader {
    texts: FileLines,
    labels: FileLines,
}

impl LinesReader {
    /// Opens both files.
    ///
    /// # Errors
    /// [`Error::Io`] if one cannot be opened.
    pub fn open(texts: &Path, labels: &Path) -> Result<Self> {
        Ok(Self { texts: FileLines::open(texts)?, labels: FileLines::open(labels)? })
    }

    pub(super) fn next_document(&mut self) -> Result<Option<RawDocument>> {
        match (self.texts.next_line()?, self.labels.next_line()?) {
            (Some(text), Some(labels)) => Ok(Some(RawDocument {
                text: text.trim().to_owned(),
                labels: RawLabels::Names(labels.split_ascii_whitespace().map(str::to_owned).collect()),
            })),
            (None, None) => Ok(None),
            _ => {
                // Count both to the end: the difference tells the user what went wrong.
                let texts = count_rest(&mut self.texts)?;
                let labels = count_rest(&mut self.labels)?;
                Err(Error::data(
                    self.texts.path(),
                    format!(
                        "has {texts} lines but {} has {labels}; line i of both must be the same document",
                        self.labels.path().display()
                    ),
                ))
            }
        }
    }

    pub(super) fn bytes_taken(&self) -> u64 {
        self.texts.bytes_taken() + self.labels.bytes_taken()
    }
}

/// Reads to the end and gives the number of lines of the whole file.
pub(super) fn count_rest(lines: &mut FileLines) -> Result<u64> {
    while lines.next_line()?.is_some() {}
    Ok(lines.line())
}
