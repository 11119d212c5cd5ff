//! Layout `matrix`: texts a line each, and a sparse label matrix with header `N L` and rows `label:value …`.

use std::path::Path;

use super::document::{RawDocument, RawLabels};
use super::labels::{LabelMap, LabelOrder};
use super::open::FileLines;
use super::read_lines::count_rest;
use crate::error::{Error, Result};

/// A sparse label matrix in the format of the extreme-classification repository, row by row.
pub struct LabelMatrix {
    lines: FileLines,
    rows: u64,
    columns: u32,
    read: u64,
}

impl LabelMatrix {
    /// Opens the file and reads its header.
    ///
    /// # Errors
    /// [`Error::Line`] if the header is not two integers.
    pub fn open(path: &Path) -> Result<Self> {
        let mut lines = FileLines::open(path)?;
        let header = lines.next_line()?.map(str::to_owned).unwrap_or_default();
        let mut parts = header.split_ascii_whitespace().map(str::parse::<u64>);
        let (Some(Ok(rows)), Some(Ok(columns)), None) = (parts.next(), parts.next(), parts.next()) else {
            let shown: String = header.chars().take(40).collect();
            return Err(Error::line(
                path,
                1,
                format!("expected the header `documents labels` (two integers), found `{shown}`"),
            ));
        };
        // As many as a classifier takes.
        let columns = u32::try_from(columns).ok().filter(|&c| c < 1 << 31);
        let Some(columns) = columns else {
            return Err(Error::line(path, 1, format!("more labels than {} are not supported", i32::MAX)));
        };
        Ok(Self { lines, rows, columns, read: 0 })
    }

    /// Number of rows that the header promises.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Number of labels L that the header promises.
    pub fn columns(&self) -> u32 {
        self.columns
    }

    /// The label numbers of the next row, in file order, entries of value 0 left out; `None` after the last.
    ///
    /// # Errors
    /// [`Error::Line`] if an entry is not `label:value` or its label is L or more; [`Error::Data`] if the number of
    /// rows is not what the header says.
    pub fn next_row(&mut self) -> Result<Option<Vec<u32>>> {
        let columns = self.columns;
        let row: Result<Vec<u32>, String> = match self.lines.next_line()? {
            Some(line) => line
                .split_ascii_whitespace()
                .filter_map(|entry| parse_entry(entry, columns).transpose())
                .collect(),
            None if self.read == self.rows => return Ok(None),
            None => return Err(self.wrong_count(self.read)),
        };
        self.read += 1;
        if self.read > self.rows {
            let found = count_rest(&mut self.lines)? - 1;
            return Err(self.wrong_count(found));
        }
        match row {
            Ok(row) => Ok(Some(row)),
            Err(message) => Err(self.lines.error(message)),
        }
    }

    fn wrong_count(&self, found: u64) -> Error {
        Error::data(
            self.lines.path(),
            format!("the header promises {} rows but {found} follow; the file is cut or mixed up", self.rows),
        )
    }
}

/// `label:value`, or `None` if the value is 0.
fn parse_entry(entry: &str, columns: u32) -> Result<Option<u32>, String> {
    let parsed = entry.split_once(':').and_then(|(label, value)| {
        Some((label.parse::<u64>().ok()?, value.parse::<f64>().ok().filter(|v| v.is_finite())?))
    });
    match parsed {
        None => {
            Err(format!("expected `label:value`, found `{}`", entry.chars().take(40).collect::<String>()))
        }
        Some((label, _)) if label >= u64::from(columns) => Err(format!(
            "label {label} is outside the header's {columns} labels (0 to {})",
            i64::from(columns) - 1
        )),
        Some((_, 0.0)) => Ok(None),
        Some((label, _)) => Ok(Some(label as u32)),
    }
}

/// Streams texts and label rows side by side.
pub struct MatrixReader {
    texts: FileLines,
    matrix: LabelMatrix,
}

impl MatrixReader {
    /// Opens both files; `columns` is the number of labels that other files of the data set promise.
    ///
    /// # Errors
    /// As [`LabelMatrix::open`]; [`Error::Line`] if its header disagrees with `columns`.
    pub fn open(texts: &Path, labels: &Path, columns: Option<u32>) -> Result<Self> {
        let matrix = LabelMatrix::open(labels)?;
        if let Some(expected) = columns
            && expected != matrix.columns
        {
            return Err(Error::line(
                labels,
                1,
                format!(
                    "the header says {} labels, the other files of the data set say {expected}",
                    matrix.columns
                ),
            ));
        }
        Ok(Self { texts: FileLines::open(texts)?, matrix })
    }

    pub(super) fn next_document(&mut self) -> Result<Option<RawDocument>> {
        let text = self.texts.next_line()?.map(|text| text.trim().to_owned());
        match (text, self.matrix.next_row()?) {
            (Some(text), Some(row)) => Ok(Some(RawDocument { text, labels: RawLabels::Columns(row) })),
            (None, None) => Ok(None),
            _ => {
                let texts = count_rest(&mut self.texts)?;
                Err(Error::data(
                    self.texts.path(),
                    format!(
                        "has {texts} lines but {} has {} rows; line i must be the text of row i",
                        self.matrix.lines.path().display(),
                        self.matrix.rows
                    ),
                ))
            }
        }
    }

    pub(super) fn bytes_taken(&self) -> u64 {
        self.texts.bytes_taken() + self.matrix.lines.bytes_taken()
    }
}

/// Reads the names of `columns` label columns, one a line.
///
/// # Errors
/// [`Error::Line`] if a name is empty or stands twice; [`Error::Data`] if there are more or fewer than `columns`.
pub fn read_column_names(path: &Path, columns: u32) -> Result<LabelMap> {
    let mut lines = FileLines::open(path)?;
    let mut names = LabelMap::new(LabelOrder::Column);
    loop {
        let name = match lines.next_line()? {
            None => break,
            Some(line) => line.trim().to_owned(),
        };
        if name.is_empty() {
            return Err(lines.error("an empty label name; line i must name column i"));
        }
        if let Some(first) = names.id(&name) {
            return Err(lines.error(format!("label `{name}` stands in line {} already", first + 1)));
        }
        names.insert(&name);
    }
    if names.len() != columns as usize {
        return Err(Error::data(
            path,
            format!("names {} labels but the label matrix has {columns} columns", names.len()),
        ));
    }
    Ok(names)
}
