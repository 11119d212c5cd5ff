//! From raw files to a token cache: reads, tokenises and writes in one stream, so that the texts of a corpus are never
//! in memory together. Reading the next chunk overlaps with tokenising the present one.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::document::{DocumentReader, RawLabels, TextField};
use super::labels::{LabelMap, LabelOrder};
use super::layout::{DataFiles, Layout, SplitName};
use super::progress::{Reporter, Stage};
use super::read_lf::read_label_names;
use super::read_matrix::{LabelMatrix, read_column_names};
use super::summary::SplitSummary;
use super::token_cache::{CacheWriter, Meta, Section};
use super::tokenizer::{Encoded, Tokenizer};
use super::train_tokenizer::{TokenizerSpec, WordCounts};
use crate::error::{Error, Result};
use crate::files::write_atomically;

/// Documents read and tokenised at once, at most.
const CHUNK_DOCUMENTS: usize = 8192;
/// Bytes of text read and tokenised at once, give or take one document.
const CHUNK_BYTES: usize = 16 << 20;

/// What to build.
pub(super) struct Build<'a> {
    pub(super) files: &'a DataFiles,
    pub(super) splits: &'a [SplitName],
    pub(super) field: TextField,
    /// The labels' texts, where they are training documents too.
    pub(super) label_texts: Option<&'a Path>,
    pub(super) fixed: Option<&'a LabelMap>,
    pub(super) key: u128,
    pub(super) target: PathBuf,
}

/// The labels of the data: their names so far, and whether more may come.
pub(super) struct Found {
    /// By first appearance (open), or by column.
    pub(super) names: LabelMap,
    /// Names are only known from the documents.
    pub(super) open: bool,
    /// Column numbers are all that is known, and how many there are only shows at the end.
    pub(super) growing: bool,
}

/// Some documents.
#[derive(Default)]
struct Chunk {
    texts: Vec<String>,
    /// Provisional label ids, and how many each document has.
    labels: Vec<u32>,
    counts: Vec<u32>,
    bytes_taken: u64,
}

/// One split before its labels have their final ids.
pub(super) struct Read {
    pub(super) name: SplitName,
    pub(super) token_offsets: Vec<u64>,
    pub(super) labels: Vec<u32>,
    pub(super) counts: Vec<u32>,
    pub(super) summary: SplitSummary,
}

impl Build<'_> {
    /// Reads, tokenises and writes the cache file.
    pub(super) fn run(&self, tokenizer: &Tokenizer, reporter: &Reporter<'_>) -> Result<()> {
        let mut warnings = Vec::new();
        let mut found = self.columns(&mut warnings)?;
        write_atomically(&self.target, |file| {
            let mut writer = CacheWriter::new(file, &self.target, self.key);
            self.write(&mut writer, &mut found, warnings, tokenizer, reporter)?;
            writer.finish()
        })
    }

    fn write(
        &self,
        writer: &mut CacheWriter<'_>,
        found: &mut Found,
        mut warnings: Vec<String>,
        tokenizer: &Tokenizer,
        reporter: &Reporter<'_>,
    ) -> Result<()> {
        let mut splits = Vec::new();
        for &name in self.splits {
            let read = self.read_split(name, tokenizer, found, writer, reporter)?;
            if read.summary.documents == 0 {
                let path = &self.files.split(name)?.documents;
                if name == SplitName::Train || self.splits.len() == 1 {
                    return Err(Error::data(path, "holds no documents"));
                }
                warnings.push(format!("{}: holds no documents; there is no {name} split", path.display()));
                continue;
            }
            if name == SplitName::Train && read.summary.positives == 0 {
                let path = &self.files.split(name)?.documents;
                return Err(Error::data(path, "no document has a label; there is nothing to learn"));
            }
            splits.push(read);
        }
        let (labels, ids) = self.final_labels(found, &splits);
        let filter = self.filter(found, &splits, &ids)?;
        let summary = self.write_labels(writer, &mut splits, &labels, &ids, filter.len(), tokenizer)?;
        let meta = Meta {
            summary,
            warnings,
            order: labels.order(),
            splits: splits.iter().map(|split| split.name).collect(),
        };
        let meta = serde_json::to_vec(&meta)
            .map_err(|e| Error::artefact(&self.target, format!("cannot be written: {e}")))?;
        let (text, ends) = labels.parts();
        writer.section(Section::Meta, &meta)?;
        writer.section(Section::LabelText, text.as_bytes())?;
        writer.section(Section::LabelEnds, bytemuck::cast_slice(ends))?;
        writer.section(Section::Filter, bytemuck::cast_slice(&filter))?;
        writer.section(Section::Tokenizer, tokenizer.json().as_bytes())
    }

    /// What is known of the labels before the documents are read.
    fn columns(&self, warnings: &mut Vec<String>) -> Result<Found> {
        let mut growing = false;
        let names = match self.files.layout {
            Layout::Jsonl | Layout::Lines => LabelMap::new(LabelOrder::FirstSeen),
            Layout::Matrix => {
                let paths = self.files.split(self.splits[0])?;
                let columns = LabelMatrix::open(paths.labels.as_ref().unwrap_or(&paths.documents))?.columns();
                match &self.files.labels {
                    Some(path) => read_column_names(path, columns)?,
                    None => LabelMap::numbers(columns),
                }
            }
            Layout::Lf => match &self.files.labels {
                Some(path) => read_label_names(path, warnings)?,
                None => {
                    growing = true;
                    LabelMap::new(LabelOrder::Column)
                }
            },
        };
        Ok(Found { names, open: matches!(self.files.layout, Layout::Jsonl | Layout::Lines), growing })
    }

    fn read_split(
        &self,
        name: SplitName,
        tokenizer: &Tokenizer,
        found: &mut Found,
        writer: &mut CacheWriter<'_>,
        reporter: &Reporter<'_>,
    ) -> Result<Read> {
        let columns = (!found.open && !found.growing).then_some(found.names.len() as u32);
        let reader = DocumentReader::open(self.files, name, self.field, columns)?;
        let mut read = Read {
            name,
            token_offsets: vec![0],
            labels: Vec::new(),
            counts: Vec::new(),
            summary: SplitSummary::default(),
        };
        writer.start_tokens(name);
        self.read_documents(reader, &mut read, tokenizer, found, (writer, reporter))?;
        if let Some(path) = self.label_texts.filter(|_| name == SplitName::Train) {
            let before = read.summary.documents;
            let reader = DocumentReader::open_label_texts(path)?;
            self.read_documents(reader, &mut read, tokenizer, found, (writer, reporter))?;
            read.summary.label_texts = read.summary.documents - before;
        }
        writer.end_tokens()?;
        if read.counts.len() >= u32::MAX as usize {
            return Err(Error::data(&self.files.folder, "more than 4 billion documents are not supported"));
        }
        Ok(read)
    }

    /// Reads and tokenises to the end of a reader.
    fn read_documents(
        &self,
        mut reader: DocumentReader,
        read: &mut Read,
        tokenizer: &Tokenizer,
        found: &mut Found,
        (writer, reporter): (&mut CacheWriter<'_>, &Reporter<'_>),
    ) -> Result<()> {
        let mut chunk = read_chunk(&mut reader, found)?;
        while !chunk.texts.is_empty() {
            let (encoded, next) = rayon::join(
                || chunk.texts.par_iter().map(|text| tokenizer.encode(text)).collect::<Result<Vec<_>>>(),
                || read_chunk(&mut reader, found),
            );
            read.add(&chunk, encoded?, writer)?;
            reporter.report(Stage::Tokenize, Some(read.name), chunk.bytes_taken);
            chunk = next?;
        }
        reporter.finish_split(Stage::Tokenize, read.name, reader.bytes_taken());
        Ok(())
    }
}

impl Read {
    fn add(&mut self, chunk: &Chunk, encoded: Vec<Encoded>, writer: &mut CacheWriter<'_>) -> Result<()> {
        let mut flat = Vec::new();
        let summary = &mut self.summary;
        let mut end = self.token_offsets.last().copied().unwrap_or(0);
        for (document, text) in encoded.iter().zip(&chunk.texts) {
            flat.extend_from_slice(&document.ids);
            end += document.ids.len() as u64;
            self.token_offsets.push(end);
            summary.longest = summary.longest.max(document.ids.len() as u64);
            summary.truncated += u64::from(document.truncated);
            summary.unknown_tokens += u64::from(document.unknown);
            summary.empty_texts += u64::from(text.is_empty());
        }
        summary.documents += encoded.len() as u64;
        summary.tokens = end;
        summary.without_labels += chunk.counts.iter().filter(|&&count| count == 0).count() as u64;
        // Provisional: duplicates are merged when the final ids are known.
        summary.positives += chunk.labels.len() as u64;
        self.labels.extend_from_slice(&chunk.labels);
        self.counts.extend_from_slice(&chunk.counts);
        writer.append_tokens(self.name, &flat)
    }
}

fn read_chunk(reader: &mut DocumentReader, found: &mut Found) -> Result<Chunk> {
    let mut chunk = Chunk::default();
    let mut bytes = 0;
    while chunk.texts.len() < CHUNK_DOCUMENTS && bytes < CHUNK_BYTES {
        let Some(document) = reader.next_document()? else { break };
        let before = chunk.labels.len();
        match document.labels {
            RawLabels::Names(names) => chunk.labels.extend(names.iter().map(|name| found.names.insert(name))),
            RawLabels::Columns(columns) => chunk.labels.extend(columns),
        }
        chunk.counts.push((chunk.labels.len() - before) as u32);
        bytes += document.text.len();
        chunk.texts.push(document.text);
    }
    chunk.bytes_taken = reader.bytes_taken();
    Ok(chunk)
}

/// Trains a tokenizer on the training texts, the labels' texts among them where they are given; gives its
/// `tokenizer.json`.
pub(super) fn train_tokenizer(
    files: &DataFiles,
    field: TextField,
    label_texts: Option<&Path>,
    spec: &TokenizerSpec,
    reporter: &Reporter<'_>,
) -> Result<String> {
    let mut counts = WordCounts::new(spec)?;
    let path: &Path = &files.split(SplitName::Train)?.documents;
    if count_words(DocumentReader::open(files, SplitName::Train, field, None)?, &mut counts, reporter)? == 0 {
        return Err(Error::data(path, "holds no documents"));
    }
    if let Some(path) = label_texts {
        count_words(DocumentReader::open_label_texts(path)?, &mut counts, reporter)?;
    }
    counts.train(spec, path)
}

/// Counts the words of a reader's documents; gives the number of documents.
fn count_words(
    mut reader: DocumentReader,
    counts: &mut WordCounts,
    reporter: &Reporter<'_>,
) -> Result<usize> {
    // Labels are checked when the documents are read for good; here only the texts count.
    let next = |reader: &mut DocumentReader| -> Result<Vec<String>> {
        let (mut texts, mut bytes) = (Vec::new(), 0);
        while texts.len() < CHUNK_DOCUMENTS && bytes < CHUNK_BYTES {
            let Some(document) = reader.next_document()? else { break };
            bytes += document.text.len();
            texts.push(document.text);
        }
        Ok(texts)
    };
    let mut documents = 0;
    let mut texts = next(&mut reader)?;
    while !texts.is_empty() {
        documents += texts.len();
        let (added, following) = rayon::join(|| counts.add(&texts), || next(&mut reader));
        added?;
        reporter.report(Stage::TrainTokenizer, Some(SplitName::Train), reader.bytes_taken());
        texts = following?;
    }
    reporter.finish_split(Stage::TrainTokenizer, SplitName::Train, reader.bytes_taken());
    Ok(documents)
}
