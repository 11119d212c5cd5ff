//! Layout `lf`: JSON lines with `uid`, `title`, `content`, `target_ind`, `target_rel`; labels are rows of `lbl.json`.

use std::borrow::Cow;
use std::path::Path;

use serde::Deserialize;

use super::document::{RawDocument, RawLabels, TextField};
use super::json::{INDICES, JsonLabel, Keys, NUMBERS, STRING, explain, indices};
use super::labels::{LabelMap, LabelOrder};
use super::open::FileLines;
use crate::error::{Error, Result};

const KEYS: Keys = &[
    ("target_ind", INDICES, true),
    ("target_rel", NUMBERS, false),
    ("title", STRING, false),
    ("content", STRING, false),
];

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    title: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content: Option<Cow<'a, str>>,
    #[serde(deserialize_with = "indices")]
    target_ind: Vec<u32>,
    target_rel: Option<Vec<f64>>,
}

/// Streams `trn.json`, `val.json` or `tst.json`. Lines of white space only are skipped.
pub struct LfReader {
    lines: FileLines,
    field: TextField,
    columns: Option<u32>,
}

impl LfReader {
    /// Opens the file; `columns` is the number of rows of `lbl.json`, if it is there.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened.
    pub fn open(path: &Path, field: TextField, columns: Option<u32>) -> Result<Self> {
        Ok(Self { lines: FileLines::open(path)?, field, columns })
    }

    pub(super) fn next_document(&mut self) -> Result<Option<RawDocument>> {
        loop {
            let parsed = match self.lines.next_line()? {
                None => return Ok(None),
                Some(line) if line.trim().is_empty() => continue,
                Some(line) => match serde_json::from_str::<Row<'_>>(line) {
                    Ok(row) => document(row, self.field, self.columns),
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

fn document(row: Row<'_>, field: TextField, columns: Option<u32>) -> Result<RawDocument, String> {
    let text = text_of(row.title.as_deref(), row.content.as_deref(), field)?;
    let limit = columns.unwrap_or(u32::MAX - 1);
    if let Some(label) = row.target_ind.iter().find(|&&label| label >= limit) {
        return Err(format!("label number {label} is outside the {limit} labels of lbl.json (from 0)"));
    }
    let labels = match row.target_rel {
        None => row.target_ind,
        Some(relevance) if relevance.len() == row.target_ind.len() => {
            // A relevance of 0 is no label, as in the matrix layout.
            row.target_ind
                .into_iter()
                .zip(relevance)
                .filter(|(_, r)| *r != 0.0)
                .map(|(label, _)| label)
                .collect()
        }
        Some(relevance) => {
            return Err(format!(
                "target_ind has {} entries but target_rel has {}",
                row.target_ind.len(),
                relevance.len()
            ));
        }
    };
    Ok(RawDocument { text, labels: RawLabels::Columns(labels) })
}

fn text_of(title: Option<&str>, content: Option<&str>, field: TextField) -> Result<String, String> {
    let missing = |key: &str| format!("key \"{key}\" is missing; it should hold {STRING}");
    match field {
        TextField::Title => title.map(|t| t.trim().to_owned()).ok_or_else(|| missing("title")),
        TextField::Content => content.map(|t| t.trim().to_owned()).ok_or_else(|| missing("content")),
        TextField::TitleContent if title.is_none() && content.is_none() => Err(missing("title")),
        TextField::TitleContent => {
            let parts = [title, content].map(|part| part.unwrap_or_default().trim());
            Ok(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" "))
        }
    }
}

/// Keys of a line of `lbl.json` that is a training document.
const LABEL_KEYS: Keys = &[("title", STRING, true)];

#[derive(Deserialize)]
struct LabelText<'a> {
    #[serde(borrow)]
    title: Cow<'a, str>,
}

/// Streams `lbl.json` as documents: the title of row i, whose one label is i (SPARTEX's augmentation). Lines of white
/// space only are skipped.
pub struct LabelTexts {
    lines: FileLines,
    row: u32,
}

impl LabelTexts {
    /// Opens the file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { lines: FileLines::open(path)?, row: 0 })
    }

    pub(super) fn next_document(&mut self) -> Result<Option<RawDocument>> {
        loop {
            let parsed = match self.lines.next_line()? {
                None => return Ok(None),
                Some(line) if line.trim().is_empty() => continue,
                Some(line) => match serde_json::from_str::<LabelText<'_>>(line) {
                    Ok(label) => Ok(label.title.trim().to_owned()),
                    Err(error) => Err(explain(line, LABEL_KEYS, &error)),
                },
            };
            let text = parsed.map_err(|message| self.lines.error(message))?;
            let labels = RawLabels::Columns(vec![self.row]);
            self.row += 1;
            return Ok(Some(RawDocument { text, labels }));
        }
    }

    pub(super) fn bytes_taken(&self) -> u64 {
        self.lines.bytes_taken()
    }
}

#[derive(Deserialize)]
struct LabelRow {
    uid: Option<JsonLabel>,
}

/// Reads the names of the labels from `lbl.json`: the uids, or the row numbers (with a warning) if a uid is missing or
/// stands twice, because half of each could collide.
///
/// # Errors
/// [`Error::Line`] if a line is not a JSON object; [`Error::Data`] if there is no label at all.
pub fn read_label_names(path: &Path, warnings: &mut Vec<String>) -> Result<LabelMap> {
    let mut lines = FileLines::open(path)?;
    let mut names = LabelMap::new(LabelOrder::Column);
    let mut rows = 0;
    let mut trouble = None;
    loop {
        let row = match lines.next_line()? {
            None => break,
            Some(line) if line.trim().is_empty() => continue,
            Some(line) => serde_json::from_str::<LabelRow>(line).map_err(|error| explain(line, &[], &error)),
        };
        let row = row.map_err(|message| lines.error(message))?;
        rows += 1;
        match row.uid {
            _ if trouble.is_some() => {}
            None => trouble = Some(format!("line {} has no uid", lines.line())),
            Some(uid) if names.id(&uid.0).is_some() => {
                trouble = Some(format!("uid `{}` stands twice (line {})", uid.0, lines.line()));
            }
            Some(uid) => {
                names.insert(&uid.0);
            }
        }
        if rows == u32::MAX {
            return Err(Error::data(path, format!("more labels than {} are not supported", u32::MAX - 1)));
        }
    }
    if rows == 0 {
        return Err(Error::data(path, "holds no label; it should have one JSON object a line"));
    }
    if let Some(trouble) = trouble {
        warnings.push(format!("{}: {trouble}; labels are named by their row number", path.display()));
        names = LabelMap::numbers(rows);
    }
    Ok(names)
}
