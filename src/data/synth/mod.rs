//! Synthetic text with any number of labels: long-tailed, learnable, streamed to disk.
//!
//! Nothing is remembered from one document to the next but one bit a label: popularity, names and words are all
//! computed from the counter-based generator, so 8.6 million labels need no tables, and the same options give the
//! same bytes on every machine (only +, −, ·, / and √ are used on floats).
//!
//! **Labels** have a *rank*, 0 the most popular. The share of rank r falls like (r + 1)^(−3/4), which is close to
//! what product and encyclopedia data show. Names are scattered over the ranks, so that neighbouring names say
//! nothing. Eight ranks in a row are a *family*: they occur together more often and share a word.
//!
//! **Texts** mix the words of a label (one of its family, three of its own) with common words. Own words come from a
//! vocabulary that grows only with √labels, so a single word points to many labels and two or three together to one.
//! Words are dropped, and words of other labels strewn in, so that no classifier can be perfect.
//!
//! **Every label occurs in training**: beside the popular ones, the training documents go through all labels once. With
//! `used_labels` only so many do, scattered over all; the others are columns of a label matrix that no document has. So a
//! few documents are enough for a layer of millions of labels.

mod world;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::error::{Error, Result};
use crate::files::write_atomically;
use world::{Text, World};

/// Says that a folder was made here and may be written over.
const MARKER: &str = "synth.json";
const WRITTEN_BY: &str = "regrow synth";

/// What to synthesize.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SynthOptions {
    /// Labels, each of which occurs in the training documents unless `used_labels` says otherwise.
    pub labels: u64,
    /// So many of the labels occur in documents. The files are then those of layout `matrix`, whose header tells the
    /// number of labels; else those of layout `jsonl`.
    pub used_labels: Option<u64>,
    /// Training documents (`train.jsonl`).
    pub documents: u64,
    /// Documents of `dev.jsonl`; 0 writes none.
    pub dev_documents: u64,
    /// Documents of `test.jsonl`; 0 writes none.
    pub test_documents: u64,
    /// Words of a document on average; more where its labels need more.
    pub words_per_document: u32,
    /// Other seeds give other data.
    pub seed: u64,
}

impl SynthOptions {
    /// The usual choices for the rest: a tenth of the training documents, at most 10,000, for dev and test each;
    /// 24 words.
    #[must_use]
    pub fn new(labels: u64, documents: u64, seed: u64) -> Self {
        let held_out = (documents / 10).clamp(1, 10_000);
        Self {
            labels,
            used_labels: None,
            documents,
            dev_documents: held_out,
            test_documents: held_out,
            words_per_document: 24,
            seed,
        }
    }
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SynthSummary {
    /// Different labels in the training documents.
    pub labels: u64,
    /// Documents of train, dev and test.
    pub documents: [u64; 3],
    /// Labels of all training documents together.
    pub train_label_occurrences: u64,
    /// Bytes of all files together.
    pub bytes: u64,
}

/// Files of train, dev and test in layout `jsonl`.
const LINES: [&str; 3] = ["train.jsonl", "dev.jsonl", "test.jsonl"];
/// Files of train, dev and test in layout `matrix`: the texts, and the labels.
const MATRIX: [[&str; 2]; 3] =
    [["trn.raw.txt", "Y.trn.txt"], ["val.raw.txt", "Y.val.txt"], ["tst.raw.txt", "Y.tst.txt"]];

/// Writes `train.jsonl`, `dev.jsonl` and `test.jsonl` with lines `{"text":"…","labels":["topic-0012",…]}` to `dir`, or
/// with [`SynthOptions::used_labels`] texts and label matrices, each file atomically. Names of labels have the same width,
/// so their order as text is that of their numbers.
///
/// `progress` hears `(documents written, documents in total)` now and then, and at the end.
///
/// # Errors
///
/// [`Error::Usage`] if the options cannot work or `dir` holds something else than a former output; [`Error::Io`].
pub fn synthesize(
    dir: &Path,
    options: &SynthOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<SynthSummary> {
    let world = World::new(options)?;
    prepare(dir)?;
    write_marker(dir, options, false)?;

    let documents = [options.documents, options.dev_documents, options.test_documents];
    let total = documents.iter().sum();
    let summary = SynthSummary { documents, ..Default::default() };
    let seen = vec![0; options.used_labels.unwrap_or(options.labels).div_ceil(64) as usize];
    let mut run = Run { world, summary, seen, done: 0, total, progress };
    for (split, documents) in documents.into_iter().enumerate() {
        let is_matrix = options.used_labels.is_some();
        // Of a former output.
        for name in [LINES[split]].into_iter().filter(|_| documents == 0 || is_matrix) {
            remove_if_there(&dir.join(name))?;
        }
        for name in MATRIX[split].into_iter().filter(|_| documents == 0 || !is_matrix) {
            remove_if_there(&dir.join(name))?;
        }
        match (documents, is_matrix) {
            (0, _) => {}
            (_, false) => run.write_lines(&dir.join(LINES[split]), split, documents)?,
            (_, true) => run.write_matrix(MATRIX[split].map(|name| dir.join(name)), split, documents)?,
        }
    }
    (run.progress)(total, total);
    let mut summary = run.summary;
    summary.labels = run.seen.iter().map(|bits| u64::from(bits.count_ones())).sum();
    write_marker(dir, options, true)?;
    Ok(summary)
}

/// What is being written.
struct Run<'a> {
    world: World,
    summary: SynthSummary,
    /// A bit for each rank that a training document has.
    seen: Vec<u64>,
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

/// Writes a document, given the ranks of its labels and its words; gives the bytes it wrote.
type WriteDocument<'a> = dyn FnMut(&World, &[u32], &Text) -> Result<u64> + 'a;

impl Run<'_> {
    fn write_lines(&mut self, path: &Path, split: usize, documents: u64) -> Result<()> {
        let mut line = String::new();
        write_atomically(path, |out| {
            self.each_document(split, documents, &mut |world, labels, text| {
                world.format_line(labels, text, &mut line);
                out.write_all(line.as_bytes()).map_err(Error::io("writing", path))?;
                Ok(line.len() as u64)
            })
        })
    }

    fn write_matrix(&mut self, [texts, labels]: [PathBuf; 2], split: usize, documents: u64) -> Result<()> {
        let (mut line, mut row) = (String::new(), String::new());
        write_atomically(&texts, |text_out| {
            write_atomically(&labels, |label_out| {
                let header = format!("{documents} {}\n", self.world.labels());
                label_out.write_all(header.as_bytes()).map_err(Error::io("writing", &labels))?;
                self.summary.bytes += header.len() as u64;
                self.each_document(split, documents, &mut |world, ranks, text| {
                    world.format_row(ranks, text, [&mut line, &mut row]);
                    text_out.write_all(line.as_bytes()).map_err(Error::io("writing", &texts))?;
                    label_out.write_all(row.as_bytes()).map_err(Error::io("writing", &labels))?;
                    Ok((line.len() + row.len()) as u64)
                })
            })
        })
    }

    /// Calls `write` for each document of a split.
    fn each_document(&mut self, split: usize, documents: u64, write: &mut WriteDocument<'_>) -> Result<()> {
        let mut text = Text::default();
        for document in 0..documents {
            let labels = self.world.labels_of(split, document);
            self.world.write_words(split, document, &labels, &mut text);
            self.summary.bytes += write(&self.world, &labels, &text)?;
            if split == 0 {
                self.summary.train_label_occurrences += labels.len() as u64;
                labels.iter().for_each(|rank| self.seen[*rank as usize / 64] |= 1 << (rank % 64));
            }
            self.done += 1;
            if self.done.is_multiple_of(4096) {
                (self.progress)(self.done, self.total);
            }
        }
        Ok(())
    }
}

/// Creates the folder, or makes sure that nothing of the user's is written over.
fn prepare(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(Error::io("creating folder", dir))?;
    let empty = fs::read_dir(dir).map_err(Error::io("reading", dir))?.next().is_none();
    if empty {
        return Ok(());
    }
    let marker = fs::read(dir.join(MARKER)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if marker.is_some_and(|marker: serde_json::Value| marker["written_by"] == WRITTEN_BY) {
        return Ok(());
    }
    let dir = dir.display();
    Err(Error::Usage(format!("{dir} is not empty and was not made by `{WRITTEN_BY}`: name a new folder")))
}

/// Written first, so that the folder of an interrupted run is known, and again at the end.
fn write_marker(dir: &Path, options: &SynthOptions, finished: bool) -> Result<()> {
    let path = dir.join(MARKER);
    let marker = json!({
        "written_by": WRITTEN_BY,
        "finished": finished,
        "labels": options.labels,
        "used_labels": options.used_labels,
        "documents": options.documents,
        "dev_documents": options.dev_documents,
        "test_documents": options.test_documents,
        "words_per_document": options.words_per_document,
        "seed": options.seed,
    });
    write_atomically(&path, |w| writeln!(w, "{marker:#}").map_err(Error::io("writing", &path)))
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
