//! The token cache: one file with the token ids and label ids of all splits, the label map and the tokenizer, so that a
//! data set is read and tokenised once. Written under another name and renamed; read by mapping it. A checksum over all
//! of it is compared at every opening, because a wrong cache would be a wrong experiment.
//!
//! Layout (native byte order): the sections, each at a multiple of 8 bytes, then a trailer of 512 bytes (magic, version,
//! key, bytes before the trailer, their checksum, the trailer's checksum, start and length of each section). It stands at
//! the end because the sections are streamed: their lengths are known last.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::labels::{LabelMap, LabelOrder};
use super::layout::SplitName;
use super::split::Split;
use super::summary::Summary;
use crate::device::map_file;
use crate::error::{Error, Result};

/// Changes whenever the file or what is computed into it changes, so that older files are not taken for new ones.
pub(super) const VERSION: u32 = 1;

/// The last letter tells the byte order; a file from a machine of the other order is rebuilt.
const MAGIC: &[u8; 8] = if cfg!(target_endian = "big") { b"regrowTB" } else { b"regrowTL" };
const TRAILER: usize = 512;
const SECTIONS: usize = 17;
const TABLE: usize = 64;

/// What a section holds.
#[derive(Clone, Copy)]
pub(super) enum Section {
    /// [`Meta`] as JSON.
    Meta = 0,
    /// Label names, one after the other.
    LabelText = 1,
    /// Where each label name ends.
    LabelEnds = 2,
    /// (test row, label) pairs, u32.
    Filter = 3,
    /// The `tokenizer.json`.
    Tokenizer = 4,
}

/// Parts of a split, in the order of their sections.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Tokens = 0,
    TokenOffsets = 1,
    Labels = 2,
    LabelOffsets = 3,
}

fn section_of(split: SplitName, part: Part) -> usize {
    5 + 4 * split as usize + part as usize
}

/// Everything about a data set that is not an array.
#[derive(Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) summary: Summary,
    pub(super) warnings: Vec<String>,
    pub(super) order: LabelOrder,
    pub(super) splits: Vec<SplitName>,
}

/// Writes the sections of a cache file one after the other, then its trailer.
pub(super) struct CacheWriter<'a> {
    file: &'a mut dyn Write,
    path: PathBuf,
    key: u128,
    hash: Xxh3,
    position: u64,
    sections: [(u64, u64); SECTIONS],
}

impl<'a> CacheWriter<'a> {
    /// Starts a cache file; `path` stands in error messages.
    pub(super) fn new(file: &'a mut dyn Write, path: &Path, key: u128) -> Self {
        let path = path.to_path_buf();
        Self { file, path, key, hash: Xxh3::new(), position: 0, sections: [(0, 0); SECTIONS] }
    }

    /// Starts the tokens of a split; [`CacheWriter::append_tokens`] fills them.
    pub(super) fn start_tokens(&mut self, split: SplitName) {
        self.sections[section_of(split, Part::Tokens)] = (self.position, 0);
    }

    /// Adds to the tokens of the split that was started last.
    pub(super) fn append_tokens(&mut self, split: SplitName, tokens: &[u32]) -> Result<()> {
        let bytes: &[u8] = bytemuck::cast_slice(tokens);
        self.sections[section_of(split, Part::Tokens)].1 += bytes.len() as u64;
        self.write(bytes)
    }

    /// Pads after the tokens of a split.
    pub(super) fn end_tokens(&mut self) -> Result<()> {
        self.pad()
    }

    pub(super) fn part(&mut self, split: SplitName, part: Part, bytes: &[u8]) -> Result<()> {
        self.whole(section_of(split, part), bytes)
    }

    pub(super) fn section(&mut self, section: Section, bytes: &[u8]) -> Result<()> {
        self.whole(section as usize, bytes)
    }

    fn whole(&mut self, section: usize, bytes: &[u8]) -> Result<()> {
        self.sections[section] = (self.position, bytes.len() as u64);
        self.write(bytes)?;
        self.pad()
    }

    fn pad(&mut self) -> Result<()> {
        let missing = (8 - self.position % 8) % 8;
        self.write(&[0; 8][..missing as usize])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.position += bytes.len() as u64;
        self.file.write_all(bytes).map_err(Error::io("writing", &self.path))
    }

    /// Writes the trailer.
    pub(super) fn finish(self) -> Result<()> {
        let mut trailer = [0_u8; TRAILER];
        trailer[0..8].copy_from_slice(MAGIC);
        trailer[8..12].copy_from_slice(&VERSION.to_ne_bytes());
        trailer[16..32].copy_from_slice(&self.key.to_ne_bytes());
        trailer[32..40].copy_from_slice(&self.position.to_ne_bytes());
        trailer[40..48].copy_from_slice(&self.hash.digest().to_ne_bytes());
        for (i, (start, length)) in self.sections.iter().enumerate() {
            let at = TABLE + 16 * i;
            trailer[at..at + 8].copy_from_slice(&start.to_ne_bytes());
            trailer[at + 8..at + 16].copy_from_slice(&length.to_ne_bytes());
        }
        let sum = xxh3_64(&trailer);
        trailer[48..56].copy_from_slice(&sum.to_ne_bytes());
        self.file.write_all(&trailer).map_err(Error::io("writing", &self.path))
    }
}

/// The contents of a cache file.
pub(super) struct Cached {
    pub(super) meta: Meta,
    pub(super) labels: LabelMap,
    pub(super) filter: Vec<[u32; 2]>,
    pub(super) tokenizer: String,
    pub(super) splits: [Option<Split>; 3],
}

/// What opening a cache file gave.
pub(super) enum Opened {
    /// There is none.
    Missing,
    /// There is one that cannot be trusted, and why.
    Damaged(&'static str),
    /// It is whole.
    Whole(Box<Cached>),
}

/// Checks a cache file and maps it. What is read whole (checksum, label names) is read, not mapped: mapped pages would stay
/// with the process as long as its documents do.
pub(super) fn open(path: &Path, key: u128) -> Result<Opened> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Opened::Missing),
        Err(e) => return Err(Error::io("reading", path)(e)),
    };
    // An empty file cannot be mapped on every system.
    let length = file.metadata().map_err(Error::io("reading", path))?.len();
    if length < TRAILER as u64 {
        return Ok(Opened::Damaged("it is cut"));
    }
    let sum = sum_of(&mut file, length - TRAILER as u64).map_err(Error::io("reading", path))?;
    let map = Arc::new(map_file(&file).map_err(Error::io("reading", path))?);
    let ranges = match check(&map, key, sum) {
        Ok(ranges) => ranges,
        Err(why) => return Ok(Opened::Damaged(why)),
    };
    let mut names = || -> std::io::Result<(Vec<u8>, Vec<u64>)> {
        let [text, ends] = [Section::LabelText, Section::LabelEnds].map(|section| &ranges[section as usize]);
        let (mut bytes, mut numbers) = (vec![0; text.len()], vec![0_u64; ends.len() / 8]);
        read_at(&mut file, text.start, &mut bytes)?;
        read_at(&mut file, ends.start, bytemuck::cast_slice_mut(&mut numbers))?;
        Ok((bytes, numbers))
    };
    let names = names().map_err(Error::io("reading", path))?;
    Ok(match contents(&map, &ranges, names) {
        Some(cached) => Opened::Whole(Box::new(cached)),
        None => Opened::Damaged("its contents do not fit together"),
    })
}

/// The checksum of the first `length` bytes.
fn sum_of(file: &mut File, mut length: u64) -> std::io::Result<u64> {
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; 1 << 20];
    file.rewind()?;
    while length > 0 {
        let piece = &mut buffer[..length.min(1 << 20) as usize];
        file.read_exact(piece)?;
        hash.update(piece);
        length -= piece.len() as u64;
    }
    Ok(hash.digest())
}

fn read_at(file: &mut File, start: usize, out: &mut [u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(start as u64))?;
    file.read_exact(out)
}

/// Where the sections lie, if the trailer is whole and knows the checksum `sum` of what stands before it.
fn check(map: &[u8], key: u128, sum: u64) -> Result<[Range<usize>; SECTIONS], &'static str> {
    let (body, trailer) = map.split_at(map.len() - TRAILER);
    let word = |at: usize| u64::from_ne_bytes(std::array::from_fn(|i| trailer[at + i]));
    if &trailer[0..8] != MAGIC {
        return Err("it is cut or of another kind");
    }
    if trailer[8..12] != VERSION.to_ne_bytes() {
        return Err("it is of another version");
    }
    let mut blank: [u8; TRAILER] = std::array::from_fn(|i| trailer[i]);
    blank[48..56].fill(0);
    if xxh3_64(&blank) != word(48) || trailer[16..32] != key.to_ne_bytes() {
        return Err("its trailer is damaged");
    }
    if word(32) != body.len() as u64 || sum != word(40) {
        return Err("its checksum is wrong");
    }
    let mut ranges = [const { 0..0 }; SECTIONS];
    for (section, range) in ranges.iter_mut().enumerate() {
        let [start, length] = [0, 8].map(|part| usize::try_from(word(TABLE + 16 * section + part)));
        let end = start.ok().zip(length.ok()).and_then(|(start, length)| start.checked_add(length));
        let start = start.unwrap_or(0);
        *range =
            end.filter(|end| *end <= body.len()).map(|end| start..end).ok_or("its sections lie outside")?;
    }
    Ok(ranges)
}

/// What the sections hold. With all checksums right this can only be wrong if it was written wrong; still nothing is taken
/// on trust.
fn contents(
    map: &Arc<Mmap>,
    ranges: &[Range<usize>; SECTIONS],
    (text, ends): (Vec<u8>, Vec<u64>),
) -> Option<Cached> {
    let bytes = |section: Section| &map[ranges[section as usize].clone()];
    let meta: Meta = serde_json::from_slice(bytes(Section::Meta)).ok()?;
    let labels = LabelMap::from_parts(text, ends, meta.order)?;
    let filter: &[[u32; 2]] = bytemuck::try_cast_slice(bytes(Section::Filter)).ok()?;
    let tokenizer = std::str::from_utf8(bytes(Section::Tokenizer)).ok()?.to_owned();
    let mut splits = [const { None }; 3];
    for &split in &meta.splits {
        let part = |part| ranges[section_of(split, part)].clone();
        let at = [Part::Tokens, Part::TokenOffsets, Part::Labels, Part::LabelOffsets].map(part);
        splits[split as usize] = Some(Split::from_map(map, at, labels.len())?);
    }
    Some(Cached { meta, labels, filter: filter.to_vec(), tokenizer, splits })
}
