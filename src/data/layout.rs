//! The four folder layouts: which files each needs, and which of them a folder holds.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How a data set lies in its folder. Every file may also end in `.gz` or `.zst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `train.jsonl`, `dev.jsonl`, `test.jsonl`: `{"text": "…", "labels": ["…", …]}` a line.
    Jsonl,
    /// `trn.raw.txt`, `val.raw.txt`, `tst.raw.txt`: a text a line; `Y.trn.txt` (or `trn_X_Y.txt`) …: sparse label
    /// matrix; optional `labels.txt`: the name of column i in line i.
    Matrix,
    /// `train_raw_texts.txt` + `train_labels.txt` …: a text a line, its labels separated by white space.
    Lines,
    /// `trn.json`, `tst.json`, `lbl.json`: JSON lines with `uid`, `title`, `content`, `target_ind`.
    Lf,
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitName {
    /// What is learnt from.
    Train,
    /// What decisions (best epoch, early stop) are made on.
    Dev,
    /// What is reported.
    Test,
}

impl SplitName {
    /// All splits, in the order in which they are read.
    pub const ALL: [Self; 3] = [Self::Train, Self::Dev, Self::Test];

    /// `train`, `dev` or `test`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        ["train", "dev", "test"][self as usize]
    }
}

impl fmt::Display for SplitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Layout {
    /// All layouts.
    pub const ALL: [Self; 4] = [Self::Jsonl, Self::Matrix, Self::Lines, Self::Lf];

    /// `jsonl`, `matrix`, `lines` or `lf`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        ["jsonl", "matrix", "lines", "lf"][self as usize]
    }

    /// The files that hold the documents of a split; the first one found counts.
    fn document_names(self, split: SplitName) -> &'static [&'static str] {
        match (self, split) {
            (Self::Jsonl, SplitName::Train) => &["train.jsonl"],
            (Self::Jsonl, SplitName::Dev) => &["dev.jsonl"],
            (Self::Jsonl, SplitName::Test) => &["test.jsonl"],
            (Self::Matrix, SplitName::Train) => &["trn.raw.txt"],
            (Self::Matrix, SplitName::Dev) => &["val.raw.txt"],
            (Self::Matrix, SplitName::Test) => &["tst.raw.txt"],
            (Self::Lines, SplitName::Train) => &["train_raw_texts.txt"],
            (Self::Lines, SplitName::Dev) => &["dev_raw_texts.txt"],
            (Self::Lines, SplitName::Test) => &["test_raw_texts.txt"],
            (Self::Lf, SplitName::Train) => &["trn.json"],
            (Self::Lf, SplitName::Dev) => &["val.json"],
            (Self::Lf, SplitName::Test) => &["tst.json"],
        }
    }

    /// The files that hold the labels of a split, where they stand apart from the texts.
    fn label_names(self, split: SplitName) -> &'static [&'static str] {
        match (self, split) {
            (Self::Jsonl | Self::Lf, _) => &[],
            (Self::Matrix, SplitName::Train) => &["Y.trn.txt", "trn_X_Y.txt"],
            (Self::Matrix, SplitName::Dev) => &["Y.val.txt", "val_X_Y.txt"],
            (Self::Matrix, SplitName::Test) => &["Y.tst.txt", "tst_X_Y.txt"],
            (Self::Lines, SplitName::Train) => &["train_labels.txt"],
            (Self::Lines, SplitName::Dev) => &["dev_labels.txt"],
            (Self::Lines, SplitName::Test) => &["test_labels.txt"],
        }
    }

    fn needs(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl: train.jsonl [dev.jsonl, test.jsonl]",
            Self::Matrix => {
                "matrix: trn.raw.txt + Y.trn.txt or trn_X_Y.txt [tst.raw.txt + Y.tst.txt, labels.txt]"
            }
            Self::Lines => {
                "lines: train_raw_texts.txt + train_labels.txt [test_raw_texts.txt + test_labels.txt]"
            }
            Self::Lf => "lf: trn.json [tst.json, lbl.json, filter_labels_test.txt]",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Layout {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|l| l.as_str() == name).ok_or_else(|| {
            Error::Usage(format!("`{name}` is not a data layout; choose jsonl, matrix, lines or lf"))
        })
    }
}

/// The files of one split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitFiles {
    /// Texts, or texts and labels.
    pub documents: PathBuf,
    /// Labels, where they stand apart.
    pub labels: Option<PathBuf>,
}

/// The files of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFiles {
    /// The folder, as the user named it.
    pub folder: PathBuf,
    /// How the folder is laid out.
    pub layout: Layout,
    /// Files of train, dev and test, where present.
    pub splits: [Option<SplitFiles>; 3],
    /// `labels.txt` (matrix) or `lbl.json` (lf).
    pub labels: Option<PathBuf>,
    /// `filter_labels_test.txt` (matrix, lf).
    pub filter: Option<PathBuf>,
}

impl DataFiles {
    /// Finds the files of the data set in `folder`; with `layout` none, the layout is found from their names.
    ///
    /// # Errors
    /// [`Error::Data`] if the folder is missing, empty, fits no layout or several, a text file lacks its label file,
    /// or a file is there both plain and compressed.
    pub fn find(folder: &Path, layout: Option<Layout>) -> Result<Self> {
        let present = list(folder)?;
        let fits = |layout: Layout| {
            SplitName::ALL
                .iter()
                .any(|&s| layout.document_names(s).iter().any(|n| variants(n).any(|v| present.contains(&v))))
        };
        let layout = match layout {
            Some(layout) if fits(layout) => layout,
            Some(layout) => {
                return Err(Error::data(
                    folder,
                    format!(
                        "no text file of layout {layout} here; it needs {}; {}",
                        layout.needs(),
                        found(&present)
                    ),
                ));
            }
            None => match Layout::ALL.into_iter().filter(|&l| fits(l)).collect::<Vec<_>>()[..] {
                [one] => one,
                [] => {
                    let needs = Layout::ALL.map(Layout::needs).join("; ");
                    return Err(Error::data(
                        folder,
                        format!(
                            "no data set found; the layouts are {needs} (each file may end in .gz or .zst); {}",
                            found(&present)
                        ),
                    ));
                }
                ref several => {
                    let names = several.iter().map(|l| l.as_str()).collect::<Vec<_>>().join(" and ");
                    let needs = several.iter().map(|l| l.needs()).collect::<Vec<_>>().join("; ");
                    return Err(Error::data(
                        folder,
                        format!(
                            "fits the layouts {names}; name the one that is meant ({needs}); {}",
                            found(&present)
                        ),
                    ));
                }
            },
        };
        let pick = |names: &[&str]| pick(folder, &present, names);
        let mut splits = [const { None }; 3];
        for split in SplitName::ALL {
            let Some(documents) = pick(layout.document_names(split))? else { continue };
            let label_names = layout.label_names(split);
            let labels = pick(label_names)?;
            if labels.is_none() && !label_names.is_empty() {
                return Err(Error::data(
                    documents,
                    format!(
                        "the labels of these texts are missing: {} is not there",
                        label_names.join(" or ")
                    ),
                ));
            }
            splits[split as usize] = Some(SplitFiles { documents, labels });
        }
        let (labels, filter) = match layout {
            Layout::Matrix => (pick(&["labels.txt"])?, pick(&["filter_labels_test.txt"])?),
            Layout::Lf => (pick(&["lbl.json"])?, pick(&["filter_labels_test.txt"])?),
            Layout::Jsonl | Layout::Lines => (None, None),
        };
        Ok(Self { folder: folder.to_path_buf(), layout, splits, labels, filter })
    }

    /// The file whose lines are the labels' texts.
    ///
    /// # Errors
    /// [`Error::Config`] if the layout has none or the file is not there: `data.augment` asks for them.
    pub fn label_texts(&self) -> Result<&Path> {
        let missing = |why: String| Error::config("data.augment", why);
        if self.layout != Layout::Lf {
            let layout = self.layout;
            return Err(missing(format!(
                "needs the labels' texts of layout lf, but {} has layout {layout}; set it to false",
                self.folder.display()
            )));
        }
        self.labels.as_deref().ok_or_else(|| {
            let folder = self.folder.display();
            missing(format!(
                "needs the labels' texts, but {folder} has no lbl.json; add it or set it to false"
            ))
        })
    }

    /// The files of a split, or an error that names what is missing.
    ///
    /// # Errors
    /// [`Error::Data`] if the split is not in the folder.
    pub fn split(&self, split: SplitName) -> Result<&SplitFiles> {
        self.splits[split as usize].as_ref().ok_or_else(|| {
            let needed = self.layout.document_names(split).join(" or ");
            Error::data(
                &self.folder,
                format!("no {split} split here: {needed} (layout {}) is missing", self.layout),
            )
        })
    }
}

/// `name`, `name.gz`, `name.zst`.
fn variants(name: &str) -> impl Iterator<Item = String> {
    ["", ".gz", ".zst"].map(|end| format!("{name}{end}")).into_iter()
}

fn pick(folder: &Path, present: &[String], names: &[&str]) -> Result<Option<PathBuf>> {
    let hits: Vec<String> = names.iter().flat_map(|n| variants(n)).filter(|v| present.contains(v)).collect();
    match &hits[..] {
        [] => Ok(None),
        [one] => Ok(Some(folder.join(one))),
        several => Err(Error::data(
            folder,
            format!("{} hold the same part of the data; keep one of them", several.join(" and ")),
        )),
    }
}

fn list(folder: &Path) -> Result<Vec<String>> {
    if folder.is_file() {
        return Err(Error::data(folder, "is a file; name the folder that holds the data set"));
    }
    if !folder.exists() {
        return Err(Error::data(folder, "no such folder; check the path of the data set"));
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("reading", folder))? {
        let entry = entry.map_err(Error::io("reading", folder))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    if names.is_empty() {
        return Err(Error::data(folder, "the folder is empty; put the files of the data set there"));
    }
    names.sort_unstable();
    Ok(names)
}

fn found(present: &[String]) -> String {
    const SHOWN: usize = 12;
    let more =
        if present.len() > SHOWN { format!(" and {} more", present.len() - SHOWN) } else { String::new() };
    format!("found {}{more}", present[..present.len().min(SHOWN)].join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        folder
    }

    #[test]
    fn each_layout_is_known_by_its_files() {
        for (names, layout) in [
            (&["train.jsonl.gz"][..], Layout::Jsonl),
            (&["trn.raw.txt", "trn_X_Y.txt.zst"], Layout::Matrix),
            (&["test_raw_texts.txt", "test_labels.txt"], Layout::Lines),
            (&["trn.json.gz", "lbl.json.gz"], Layout::Lf),
        ] {
            assert_eq!(DataFiles::find(folder(names).path(), None).unwrap().layout, layout);
            assert_eq!(layout.as_str().parse::<Layout>().unwrap(), layout);
        }
        assert!("csv".parse::<Layout>().is_err());
    }

    #[test]
    fn what_does_not_fit_is_said() {
        let message =
            |names: &[&str], layout| DataFiles::find(folder(names).path(), layout).unwrap_err().to_string();
        assert!(message(&[], None).contains("empty"));
        let none = message(&["tst_X_Y.txt"], None);
        assert!(none.contains("jsonl: train.jsonl") && none.contains("found tst_X_Y.txt"), "{none}");
        let both = message(&["train.jsonl", "trn.json"], None);
        assert!(both.contains("jsonl and lf"), "{both}");
        assert!(message(&["train.jsonl"], Some(Layout::Lf)).contains("layout lf"));
        assert!(message(&["train.jsonl", "train.jsonl.gz"], None).contains("keep one"));
        assert!(message(&["trn.raw.txt"], None).contains("Y.trn.txt or trn_X_Y.txt"));
        assert!(
            DataFiles::find(Path::new("/no/such"), None).unwrap_err().to_string().contains("no such folder")
        );
        let test_only = folder(&["test.jsonl"]);
        let files = DataFiles::find(test_only.path(), None).unwrap();
        assert!(files.split(SplitName::Train).unwrap_err().to_string().contains("train.jsonl"));
    }
}
