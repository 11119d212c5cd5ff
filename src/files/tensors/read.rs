//! Reading safetensors files through a memory map.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_64;

use super::{BEFORE_DATA_SUM, BETWEEN_SUMS, DATA_SUM_AT, Dtype, HEADER_SUM_AT, METADATA, NO_SUM, SUM_DIGITS};
use crate::device::map_file;
use crate::error::{Error, Result};

/// JSON takes up to sixteen times its size when parsed; the header of a thousand tensors has some 150 kB.
const HEADER_LIMIT: usize = 16 << 20;

/// An open safetensors file, mapped into memory: opening reads only the header.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
    /// Where the tensors start in the file.
    data_at: usize,
    metadata: BTreeMap<String, String>,
    entries: BTreeMap<String, Entry>,
}

/// A tensor as the header describes it, checked against the file.
#[derive(Debug)]
struct Entry {
    /// As written, since files of others may hold formats that regrow does not read.
    dtype: String,
    shape: Vec<usize>,
    /// Bytes in the data section.
    range: std::ops::Range<usize>,
}

/// A tensor of a [`TensorFile`].
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    /// Its number format.
    pub dtype: Dtype,
    /// Its extents, outermost first; row-major.
    pub shape: Vec<usize>,
    /// Its bytes, little-endian, possibly not aligned to the number format.
    pub bytes: &'a [u8],
}

impl TensorFile {
    /// Opens a safetensors file, of regrow or of others, and checks its header against its size.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read; [`Error::Artefact`] if it is truncated, damaged or something else.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("reading", path))?;
        let map = map_file(&file).map_err(Error::io("reading", path))?;
        let (data_at, metadata, entries) = parse(&map).map_err(|what| {
            let message = format!(
                "this is no intact safetensors file: {what}; restore it, or write or download it again"
            );
            Error::artefact(path, message)
        })?;
        Ok(Self { path: path.to_path_buf(), map, data_at, metadata, entries })
    }

    /// Compares the whole file with its checksums.
    ///
    /// # Errors
    ///
    /// [`Error::Artefact`] if a byte has changed since it was written, or if the file has no checksums.
    pub fn verify(&self) -> Result<()> {
        let mut header = self.map[8..self.data_at].to_vec();
        let layout = [(0, BEFORE_DATA_SUM), (DATA_SUM_AT + SUM_DIGITS, BETWEEN_SUMS)];
        let has_sums = header.len() > HEADER_SUM_AT + SUM_DIGITS
            && layout.iter().all(|&(at, text)| header[at..].starts_with(text.as_bytes()));
        if !has_sums {
            let message = "this file has no checksums, so regrow did not write it or it is damaged; \
                           use a file that regrow wrote";
            return Err(Error::artefact(&self.path, message));
        }
        let mut differs = None;
        for (at, what) in [(DATA_SUM_AT, "tensors"), (HEADER_SUM_AT, "header")] {
            let digits = &mut header[at..at + SUM_DIGITS];
            let promised = digits.to_vec();
            digits.copy_from_slice(NO_SUM.as_bytes());
            let sum = match what {
                "tensors" => xxh3_64(&self.map[self.data_at..]),
                _ => xxh3_64(&header), // both digits are zeroed by now
            };
            if promised != format!("{sum:016x}").as_bytes() {
                differs = differs.or(Some(what));
            }
        }
        match differs {
            None => Ok(()),
            Some(what) => {
                let message = format!(
                    "the file is damaged (checksum differs) in its {what}; restore it or write it again"
                );
                Err(Error::artefact(&self.path, message))
            }
        }
    }

    /// The metadata of the header, the checksums included.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The names of all tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a tensor of that name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// One tensor.
    ///
    /// # Errors
    ///
    /// [`Error::Artefact`] if there is none of that name or its number format is not a [`Dtype`].
    pub fn get(&self, name: &str) -> Result<TensorView<'_>> {
        let Some(entry) = self.entries.get(name) else {
            return Err(Error::artefact(&self.path, self.missing(name)));
        };
        let Some(dtype) = Dtype::named(&entry.dtype) else {
            let known = Dtype::ALL.map(Dtype::name).join(", ");
            let message = format!("tensor {name} has dtype {}; regrow reads {known}", entry.dtype);
            return Err(Error::artefact(&self.path, message));
        };
        let bytes = &self.map[self.data_at..][entry.range.clone()];
        Ok(TensorView { dtype, shape: entry.shape.clone(), bytes })
    }

    /// A float32 tensor of that shape.
    ///
    /// # Errors
    ///
    /// [`Error::Artefact`] if it is missing or has another shape or number format.
    pub fn f32s(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.numbers(name, Dtype::F32, shape, f32::from_le_bytes)
    }

    /// An unsigned 16-bit tensor of that shape.
    ///
    /// # Errors
    ///
    /// [`Error::Artefact`] if it is missing or has another shape or number format.
    pub fn u16s(&self, name: &str, shape: &[usize]) -> Result<Vec<u16>> {
        self.numbers(name, Dtype::U16, shape, u16::from_le_bytes)
    }

    /// An unsigned 32-bit tensor of that shape.
    ///
    /// # Errors
    ///
    /// [`Error::Artefact`] if it is missing or has another shape or number format.
    pub fn u32s(&self, name: &str, shape: &[usize]) -> Result<Vec<u32>> {
        self.numbers(name, Dtype::U32, shape, u32::from_le_bytes)
    }

    fn numbers<T, const N: usize>(
        &self,
        name: &str,
        dtype: Dtype,
        shape: &[usize],
        number: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>> {
        let view = self.get(name)?;
        if view.dtype != dtype || view.shape != shape {
            let message = format!(
                "tensor {name} is {} {:?}, but {} {shape:?} is expected; the file belongs to another model or setup",
                view.dtype.name(),
                view.shape,
                dtype.name(),
            );
            return Err(Error::artefact(&self.path, message));
        }
        let (numbers, _) = view.bytes.as_chunks::<N>();
        Ok(numbers.iter().map(|&bytes| number(bytes)).collect())
    }

    /// What to say about a tensor that is not there.
    fn missing(&self, name: &str) -> String {
        const SHOWN: usize = 12;
        let mut names: Vec<&str> = self.names().take(SHOWN).collect();
        if self.entries.len() > SHOWN {
            names.push("…");
        }
        let names = if names.is_empty() { "nothing".to_string() } else { names.join(", ") };
        format!("tensor {name} is wanted, but the file holds {names}; it belongs to another model or setup")
    }
}

type Parsed = (usize, BTreeMap<String, String>, BTreeMap<String, Entry>);

/// Reads the header of a whole file. Nothing is sized by what the header claims: every number is compared with the
/// size of the file first.
fn parse(file: &[u8]) -> Result<Parsed, String> {
    let (length, rest) = file.split_first_chunk::<8>().ok_or("it is shorter than 8 bytes")?;
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    let header =
        header.ok_or_else(|| format!("its header should have {length} bytes, the file has fewer"))?;
    if header.len() > HEADER_LIMIT {
        return Err(format!("its header has {length} bytes, more than any model needs"));
    }
    let data_bytes = rest.len() - header.len();
    let header: Map<String, Value> =
        serde_json::from_slice(header).map_err(|error| format!("its header is not JSON ({error})"))?;

    let (mut metadata, mut entries) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in header {
        if name == METADATA {
            metadata = serde_json::from_value(value)
                .map_err(|error| format!("its metadata are not strings ({error})"))?;
            continue;
        }
        let entry = parse_entry(&value)
            .filter(|entry| entry.range.end <= data_bytes)
            .ok_or_else(|| format!("its header is wrong about tensor {name} or the file was cut short"))?;
        entries.insert(name, entry);
    }

    let mut ranges: Vec<_> =
        entries.values().map(|entry: &Entry| (entry.range.start, entry.range.end)).collect();
    ranges.sort_unstable();
    let mut end = 0;
    for (from, to) in ranges {
        if from != end {
            return Err("its tensors overlap or leave gaps".into());
        }
        end = to;
    }
    if end != data_bytes {
        return Err(format!("its tensors should have {end} bytes, it has {data_bytes}"));
    }
    Ok((file.len() - data_bytes, metadata, entries))
}

/// One tensor of the header, if its bytes fit its shape.
fn parse_entry(value: &Value) -> Option<Entry> {
    let extents = |key: &str| -> Option<Vec<usize>> {
        value.get(key)?.as_array()?.iter().map(|n| usize::try_from(n.as_u64()?).ok()).collect()
    };
    let dtype = value.get("dtype")?.as_str()?.to_string();
    let shape = extents("shape")?;
    let [begin, end] = *extents("data_offsets")?.as_slice() else { return None };
    let size = end.checked_sub(begin)?;
    // The size of a number is known only for our own formats; of the others only the bounds are checked.
    if Dtype::named(&dtype).is_some_and(|dtype| dtype.tensor_bytes(&shape) != Some(size)) {
        return None;
    }
    Some(Entry { dtype, shape, range: begin..end })
}
