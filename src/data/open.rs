//! Line by line through a plain, gzip or zstd file, without holding more than one line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Bytes of buffer before and after the decompressor.
const BUFFER: usize = 1 << 17;

/// What a gzip file begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A file as it lies on disk, counting the bytes taken from it, so that progress is known for compressed files too.
struct Counted {
    file: File,
    taken: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.taken.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// The lines of a file, with their numbers.
pub type FileLines = LineReader<Box<dyn BufRead + Send>>;

/// Reads UTF-8 lines from any buffered reader; errors name the file and the line.
pub struct LineReader<R> {
    reader: R,
    path: PathBuf,
    line: u64,
    buffer: Vec<u8>,
    taken: Arc<AtomicU64>,
}

impl FileLines {
    /// Opens `path`; a name that ends in `.gz` or `.zst` is decompressed on the way.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be opened, [`Error::Data`] if its name ends in `.gz` and it is no gzip file.
    pub fn open(path: &Path) -> Result<Self> {
        let taken = Arc::new(AtomicU64::new(0));
        let file = File::open(path).map_err(Error::io("reading", path))?;
        let file = Counted { file, taken: Arc::clone(&taken) };
        let reader: Box<dyn BufRead + Send> = match path.extension().and_then(|e| e.to_str()) {
            Some("gz") => {
                let mut file = BufReader::with_capacity(BUFFER, file);
                let start = file.fill_buf().map_err(Error::io("reading", path))?;
                // The decompressor takes a short text for a gzip file that ends early.
                if !GZIP.starts_with(&start[..start.len().min(GZIP.len())]) {
                    let message = "is not gzip although its name ends in .gz; rename or compress it";
                    return Err(Error::data(path, message));
                }
                Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(file)))
            }
            Some("zst") => {
                let file = BufReader::with_capacity(BUFFER, file);
                let decoder =
                    zstd::stream::read::Decoder::with_buffer(file).map_err(Error::io("reading", path))?;
                Box::new(BufReader::with_capacity(BUFFER, decoder))
            }
            _ => Box::new(BufReader::with_capacity(BUFFER, file)),
        };
        Ok(Self { taken, ..Self::new(reader, path) })
    }
}

impl<R: BufRead> LineReader<R> {
    /// Reads lines from `reader`; `name` stands in error messages.
    pub fn new(reader: R, name: impl AsRef<Path>) -> Self {
        Self {
            reader,
            path: name.as_ref().to_path_buf(),
            line: 0,
            buffer: Vec::new(),
            taken: Arc::new(AtomicU64::new(0)),
        }
    }

    /// The next line without its line break (`\n` or `\r\n`), or `None` at the end. A byte order mark at the very
    /// start is dropped.
    ///
    /// # Errors
    /// [`Error::Line`] if the line is not UTF-8, [`Error::Data`] if compressed data ends early or is damaged,
    /// [`Error::Io`] if reading fails otherwise.
    pub fn next_line(&mut self) -> Result<Option<&str>> {
        self.buffer.clear();
        let n = match self.reader.read_until(b'\n', &mut self.buffer) {
            Ok(n) => n,
            Err(source) => return Err(self.broken(source)),
        };
        if n == 0 {
            return Ok(None);
        }
        self.line += 1;
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
            if self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
            }
        }
        match std::str::from_utf8(&self.buffer) {
            Ok(text) if self.line == 1 => Ok(Some(text.strip_prefix('\u{feff}').unwrap_or(text))),
            Ok(text) => Ok(Some(text)),
            Err(e) => Err(Error::line(
                &self.path,
                self.line,
                format!("byte {} of the line is not UTF-8; convert the file to UTF-8", e.valid_up_to() + 1),
            )),
        }
    }

    /// Number of the line read last, from 1; 0 before the first.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The file, as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes taken from the file on disk so far (compressed bytes for a compressed file).
    pub fn bytes_taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// An [`Error::Line`] at the line read last.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::line(&self.path, self.line, message)
    }

    fn broken(&self, source: io::Error) -> Error {
        let compressed = matches!(self.path.extension().and_then(|e| e.to_str()), Some("gz" | "zst"));
        if !compressed || source.raw_os_error().is_some_and(|_| source.kind() != io::ErrorKind::UnexpectedEof)
        {
            return Error::io("reading", &self.path)(source);
        }
        let what = match source.kind() {
            io::ErrorKind::UnexpectedEof => "the compressed data ends early".to_owned(),
            _ => format!("the compressed data is damaged ({source})"),
        };
        Error::data(&self.path, format!("{what} after line {}; copy or download the file again", self.line))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn all(path: &Path) -> Result<Vec<String>> {
        let mut lines = FileLines::open(path)?;
        let mut found = Vec::new();
        while let Some(line) = lines.next_line()? {
            found.push(line.to_owned());
        }
        Ok(found)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_same_lines_plain_and_compressed() {
        let folder = tempfile::tempdir().unwrap();
        let text = "\u{feff}one\r\n\ntwo\u{2028}still two\nlast".as_bytes();
        let want = ["one", "", "two\u{2028}still two", "last"];
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a"), text).unwrap();
        std::fs::write(at("a.gz"), gzip(text)).unwrap();
        std::fs::write(at("a.zst"), zstd::encode_all(text, 1).unwrap()).unwrap();
        for name in ["a", "a.gz", "a.zst"] {
            assert_eq!(all(&at(name)).unwrap(), want, "{name}");
        }
    }

    #[test]
    fn truncated_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let text: String = (0..5000).map(|i| format!("line {i} {}\n", i * 7919 % 1013)).collect();
        for (name, bytes) in
            [("cut.gz", gzip(text.as_bytes())), ("cut.zst", zstd::encode_all(text.as_bytes(), 1).unwrap())]
        {
            let path = folder.path().join(name);
            std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            let message = all(&path).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains("ends early"), "{message}");
        }
        let path = folder.path().join("not.gz");
        for text in ["plain text", "x\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(all(&path).unwrap_err().to_string().contains("not gzip"), "{text}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_located() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.txt");
        std::fs::write(&path, b"fine\nab\xff\n").unwrap();
        let message = all(&path).unwrap_err().to_string();
        assert!(message.contains("x.txt:2: byte 3"), "{message}");
    }
}
