//! Writing safetensors files as a stream.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{DATA_SUM_AT, HEADER_SUM_AT, METADATA, NO_SUM, SUM_KEYS, TensorSpec};
use crate::error::{Error, Result};
use crate::files::atomic::write_file_atomically;

/// Writes a safetensors file, atomically and without holding a tensor in memory.
///
/// `fill(i, w)` is called once for each spec, in order, and must write exactly the little-endian bytes of tensor i.
/// Entries `xxh3` and `xxh3_header` of `metadata` (left from another file) are ignored: this file gets its own.
///
/// # Errors
///
/// [`Error::Artefact`] if names repeat or `fill` writes more or fewer bytes than promised; [`Error::Io`]; or what
/// `fill` returns. The file that stood there before is then untouched.
pub fn write_tensors(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    specs: &[TensorSpec],
    fill: &mut dyn FnMut(usize, &mut dyn Write) -> Result<()>,
) -> Result<()> {
    let (header, sizes) = header_of(path, metadata, specs)?;
    let failed = || Error::io("writing", path);
    write_file_atomically(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed())?;
        file.write_all(header.as_bytes()).map_err(failed())?;
        let mut data = Data { file, sum: Xxh3::new(), left: 0, overrun: false };
        for (i, (spec, &size)) in specs.iter().zip(&sizes).enumerate() {
            data.left = size;
            let filled = fill(i, &mut data);
            // An overrun shows in `fill` as a failed write; what went wrong is said better here.
            let wrong = |how| {
                let message =
                    format!("tensor {} got {how} its {size} bytes; this is a bug in regrow", spec.name);
                Err(Error::artefact(path, message))
            };
            if data.overrun {
                return wrong("more than");
            }
            filled?;
            if data.left > 0 {
                return wrong("fewer than");
            }
        }
        let data_sum = data.sum.digest();
        let sums = [(DATA_SUM_AT, data_sum), (HEADER_SUM_AT, xxh3_64(header.as_bytes()))];
        for (at, sum) in sums {
            file.seek(SeekFrom::Start((8 + at) as u64)).map_err(failed())?;
            file.write_all(format!("{sum:016x}").as_bytes()).map_err(failed())?;
        }
        Ok(())
    })
}

/// The header with both checksums still zero, and the bytes of each tensor.
fn header_of(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    specs: &[TensorSpec],
) -> Result<(String, Vec<usize>)> {
    let mut own = Map::new();
    for key in SUM_KEYS {
        own.insert(key.into(), NO_SUM.into());
    }
    for (key, value) in metadata.iter().filter(|(key, _)| !SUM_KEYS.contains(&key.as_str())) {
        own.insert(key.clone(), value.clone().into());
    }
    let mut header = Map::new();
    header.insert(METADATA.into(), own.into());
    let (mut begin, mut sizes) = (0usize, Vec::new());
    for spec in specs {
        let wrong = |what| Error::artefact(path, format!("tensor {} {what}", spec.name));
        let size = spec.dtype.tensor_bytes(&spec.shape).ok_or_else(|| wrong("is too large to be stored"))?;
        let end = begin.checked_add(size).ok_or_else(|| wrong("makes the file too large"))?;
        let entry = json!({"dtype": spec.dtype.name(), "shape": spec.shape, "data_offsets": [begin, end]});
        if header.insert(spec.name.clone(), entry).is_some() {
            return Err(wrong("cannot be stored: the name is taken"));
        }
        begin = end;
        sizes.push(size);
    }
    let mut header = Value::Object(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    debug_assert!(header[HEADER_SUM_AT..].starts_with(NO_SUM));
    Ok((header, sizes))
}

/// The data section: passes on what `fill` writes, counts it down and sums it up.
struct Data<'a> {
    file: &'a mut BufWriter<File>,
    sum: Xxh3,
    left: usize,
    overrun: bool,
}

impl Write for Data<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.left {
            self.overrun = true;
            return Err(io::Error::other("more bytes than the tensor has"));
        }
        let written = self.file.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.left -= written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
