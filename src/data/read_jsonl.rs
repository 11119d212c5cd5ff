//! Layout `jsonl`: one JSON object a line, `{"text": "…", "labels": ["…" or integer, …]}`.

use std::borrow::Cow;
use std::path::Path;

use serde::Deserialize;

use super::document::{RawDocument, RawLabels};
use super::json::{JsonLabel, Keys, LABELS, STRING, explain};
use super::open::FileLines;
use crate::error::Result;

const KEYS: Keys = &[("text", STRING, true), ("labels", LABELS, true)];

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    labels: Vec<JsonLabel>,
}

/// Streams a `.jsonl` file. Lines of white space only are skipped.
pub struct JsonlReader {
    lines: FileLines,
}

impl JsonlReader {
    /// Opens the file.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`] if it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { lines: FileLines::open(path)? })
    }

    pub(super) fn next_document(&mut self) -> Result<Option<RawDocument>> {
        loop {
            let parsed = match self.lines.next_line()? {
                None => return Ok(None),
                Some(line) if line.trim().is_empty() => continue,
                Some(line) => match serde_json::from_str::<Row<'_>>(line) {
                    Ok(row) => Ok(RawDocument {
                        text: row.text.trim().to_owned(),
                        labels: RawLabels::Names(row.labels.into_iter().map(|l| l.0).collect()),
                    }),
                    Err(error) => Err(explain(line, KEYS, &error)),
                },
            };
            return parsed.map(Some).map_err(|message| self.lines.error(message));
        }
    }

    pub(super) fn bytes_taken(&self) -> u64 {
        self.lines.bytes_taken()
    }
}
