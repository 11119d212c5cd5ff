//! One document as it is read, and the reader that yields documents whatever the layout.

use std::path::Path;

use super::layout::{DataFiles, Layout, SplitName};
use super::read_jsonl::JsonlReader;
use super::read_lf::{LabelTexts, LfReader};
use super::read_lines::LinesReader;
use super::read_matrix::MatrixReader;
use crate::error::Result;

/// A document before tokenising.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawDocument {
    /// The text, without white space at either end.
    pub text: String,
    /// Its labels, in the order of the file; duplicates still in.
    pub labels: RawLabels,
}

/// Labels as the file says them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RawLabels {
    /// By name (jsonl, lines).
    Names(Vec<String>),
    /// By column number (matrix, lf).
    Columns(Vec<u32>),
}

impl Default for RawLabels {
    fn default() -> Self {
        Self::Names(Vec::new())
    }
}

/// Which part of an `lf` record is the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum TextField {
    /// Title and content with a space between, empty parts dropped.
    #[default]
    #[serde(rename = "title+content")]
    TitleContent,
    /// The title alone.
    #[serde(rename = "title")]
    Title,
    /// The content alone.
    #[serde(rename = "content")]
    Content,
}

impl TextField {
    /// `title+content`, `title` or `content`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        ["title+content", "title", "content"][self as usize]
    }
}

/// Streams the documents of one split.
pub enum DocumentReader {
    /// Layout `jsonl`.
    Jsonl(JsonlReader),
    /// Layout `matrix`.
    Matrix(MatrixReader),
    /// Layout `lines`.
    Lines(LinesReader),
    /// Layout `lf`.
    Lf(LfReader),
    /// The labels of layout `lf`, each a document.
    LabelTexts(LabelTexts),
}

impl DocumentReader {
    /// Opens a split. `columns` is the number of labels where it is known (rows of `lbl.json`, lines of
    /// `labels.txt`), to check the column numbers against.
    ///
    /// # Errors
    /// If a file is missing or cannot be opened, or a header is wrong.
    pub fn open(files: &DataFiles, split: SplitName, field: TextField, columns: Option<u32>) -> Result<Self> {
        let paths = files.split(split)?;
        // `DataFiles::find` has made sure that a layout with separate labels has them.
        let labels = || paths.labels.as_deref().unwrap_or(&paths.documents);
        Ok(match files.layout {
            Layout::Jsonl => Self::Jsonl(JsonlReader::open(&paths.documents)?),
            Layout::Matrix => Self::Matrix(MatrixReader::open(&paths.documents, labels(), columns)?),
            Layout::Lines => Self::Lines(LinesReader::open(&paths.documents, labels())?),
            Layout::Lf => Self::Lf(LfReader::open(&paths.documents, field, columns)?),
        })
    }

    /// Opens the labels' texts of a folder whose [`DataFiles::label_texts`] are there.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open_label_texts(path: &Path) -> Result<Self> {
        Ok(Self::LabelTexts(LabelTexts::open(path)?))
    }

    /// The next document, or `None` at the end.
    ///
    /// # Errors
    /// Whatever is wrong with the next line, or with the counts at the end.
    pub fn next_document(&mut self) -> Result<Option<RawDocument>> {
        match self {
            Self::Jsonl(reader) => reader.next_document(),
            Self::Matrix(reader) => reader.next_document(),
            Self::Lines(reader) => reader.next_document(),
            Self::Lf(reader) => reader.next_document(),
            Self::LabelTexts(reader) => reader.next_document(),
        }
    }

    /// Bytes taken from the split's files on disk so far.
    pub fn bytes_taken(&self) -> u64 {
        match self {
            Self::Jsonl(reader) => reader.bytes_taken(),
            Self::Matrix(reader) => reader.bytes_taken(),
            Self::Lines(reader) => reader.bytes_taken(),
            Self::Lf(reader) => reader.bytes_taken(),
            Self::LabelTexts(reader) => reader.bytes_taken(),
        }
    }
}
