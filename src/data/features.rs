//! Precomputed features of documents: a matrix in a `.npy` or `.safetensors` file, mapped, read a batch at a time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

use crate::device::map_file;
use crate::error::{Error, Result};
use crate::files::{Dtype, TensorFile};

/// Name of the tensor in a safetensors file that `regrow encode` writes.
pub const FEATURES: &str = "features";

/// N rows of D numbers, f32. Cheap to clone.
#[derive(Clone)]
pub struct FeatureTable {
    source: Arc<Source>,
    rows: usize,
    width: usize,
}

enum Source {
    Tensor(TensorFile, String),
    Array { map: Mmap, begin: usize },
}

impl std::fmt::Debug for FeatureTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "features [{}, {}]", self.rows, self.width)
    }
}

impl FeatureTable {
    /// The table of a split: `NAME.safetensors` or `NAME.npy` in `folder`, if it is there.
    ///
    /// # Errors
    /// As [`FeatureTable::open`].
    pub fn find(folder: &Path, name: &str) -> Result<Option<Self>> {
        let candidates: [PathBuf; 2] = ["safetensors", "npy"].map(|end| folder.join(format!("{name}.{end}")));
        candidates.iter().find(|path| path.is_file()).map(|path| Self::open(path)).transpose()
    }

    /// Opens a file: `.npy` (version 1 to 3, C order, little-endian f4, two dimensions), or safetensors with one f32
    /// matrix, or one named `features`. Every number is looked at once.
    ///
    /// # Errors
    /// [`Error::Artefact`] for another layout, a file that is too short, or a number that is not finite; [`Error::Io`].
    pub fn open(path: &Path) -> Result<Self> {
        let table = if path.extension().is_some_and(|end| end == "npy") {
            Self::open_array(path)?
        } else {
            Self::open_tensor(path)?
        };
        if table.width == 0 || table.width > usize::from(u16::MAX) + 1 {
            let message = format!("has rows of {} numbers; from 1 to 65536 can be features", table.width);
            return Err(Error::artefact(path, message));
        }
        let (numbers, _) = table.bytes().as_chunks::<4>();
        match numbers.iter().position(|bytes| !f32::from_le_bytes(*bytes).is_finite()) {
            Some(at) => {
                let (row, column) = (at / table.width, at % table.width);
                Err(Error::artefact(path, format!("row {row}, column {column} is not a finite number")))
            }
            None => Ok(table),
        }
    }

    fn open_tensor(path: &Path) -> Result<Self> {
        let file = TensorFile::open(path)?;
        let only = || file.names().next().filter(|_| file.names().count() == 1).map(str::to_owned);
        let named = file.names().find(|name| *name == FEATURES).map(str::to_owned);
        let name = named.or_else(only).ok_or_else(|| {
            Error::artefact(
                path,
                format!("has several tensors and none named {FEATURES}: name the matrix so"),
            )
        })?;
        let view = file.get(&name)?;
        let (Dtype::F32, [rows, width]) = (view.dtype, &view.shape[..]) else {
            let message = format!(
                "tensor {name} is {} {:?}; a matrix of f32 is needed, a row a document",
                view.dtype.name(),
                view.shape
            );
            return Err(Error::artefact(path, message));
        };
        let (rows, width) = (*rows, *width);
        Ok(Self { source: Arc::new(Source::Tensor(file, name)), rows, width })
    }

    fn open_array(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("reading", path))?;
        let map = map_file(&file).map_err(Error::io("reading", path))?;
        let (begin, [rows, width]) = array_header(&map).map_err(|what| Error::artefact(path, what))?;
        let bytes = rows.checked_mul(width).and_then(|count| count.checked_mul(4));
        if bytes.and_then(|bytes| bytes.checked_add(begin)).is_none_or(|end| end > map.len()) {
            let message =
                format!("is cut short: [{rows}, {width}] numbers do not fit into {} bytes", map.len());
            return Err(Error::artefact(path, message));
        }
        Ok(Self { source: Arc::new(Source::Array { map, begin }), rows, width })
    }

    /// All numbers, little-endian, row after row.
    pub(super) fn bytes(&self) -> &[u8] {
        match &*self.source {
            Source::Tensor(file, name) => {
                file.get(name).expect("it was there when the file was opened").bytes
            }
            Source::Array { map, begin } => &map[*begin..begin + self.rows * self.width * 4],
        }
    }

    /// Number of rows, N.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Numbers in a row, D.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Appends a row to `out`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn append_row(&self, row: usize, out: &mut Vec<f32>) {
        let (numbers, _) = self.bytes()[row * self.width * 4..][..self.width * 4].as_chunks::<4>();
        out.extend(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    }
}

/// Where the numbers of a `.npy` file begin, and its two extents.
fn array_header(file: &[u8]) -> Result<(usize, [usize; 2]), String> {
    let short = || "is no .npy file: it ends in its header".to_owned();
    if file.get(..6).ok_or_else(short)? != b"\x93NUMPY" {
        return Err("is no .npy file".into());
    }
    let (length, begin) = match *file.get(6).ok_or_else(short)? {
        1 => {
            let bytes = file.get(8..10).ok_or_else(short)?;
            (usize::from(u16::from_le_bytes([bytes[0], bytes[1]])), 10)
        }
        2 | 3 => {
            let bytes = file.get(8..12).ok_or_else(short)?;
            (u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize, 12)
        }
        version => return Err(format!("is of .npy version {version}, which regrow does not know")),
    };
    let header = file.get(begin..begin + length).ok_or_else(short)?;
    let header = std::str::from_utf8(header).map_err(|_| "has a header that is no text".to_owned())?;
    let value = |key: &str| header.split(&format!("'{key}':")).nth(1).map(str::trim_start).ok_or_else(short);
    if !value("descr")?.starts_with("'<f4'") {
        return Err(format!(
            "does not hold little-endian f4: convert it with numpy's .astype('<f4') (header {})",
            header.trim_end()
        ));
    }
    if !value("fortran_order")?.starts_with("False") {
        return Err("is in Fortran order: save numpy.ascontiguousarray(x)".into());
    }
    let shape = value("shape")?;
    let extents = shape.strip_prefix('(').and_then(|rest| rest.split(')').next()).ok_or_else(short)?;
    let extents: Option<Vec<usize>> = extents
        .split(',')
        .map(str::trim)
        .filter(|extent| !extent.is_empty())
        .map(|extent| extent.parse().ok())
        .collect();
    match extents.as_deref() {
        Some(&[rows, width]) => Ok((begin + length, [rows, width])),
        _ => Err("is no matrix: two dimensions are needed, a row a document".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(descr: &str, order: &str, shape: &str, numbers: &[f32]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(bytemuck::cast_slice::<f32, u8>(numbers));
        file
    }

    fn open(name: &str, bytes: &[u8]) -> Result<FeatureTable> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        FeatureTable::open(&path)
    }

    #[test]
    fn an_array_is_read() {
        let table = open("x.npy", &npy("<f4", "False", "(2, 3)", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.5])).unwrap();
        assert_eq!((table.len(), table.width()), (2, 3));
        let mut row = vec![0.5];
        table.append_row(1, &mut row);
        assert_eq!(row, [0.5, 4.0, 5.0, 6.5]);
    }

    #[test]
    fn safetensors_are_read() {
        let numbers = [1.0_f32, -2.0];
        let bytes: &[u8] = bytemuck::cast_slice(&numbers);
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2, 1], bytes).unwrap();
        let one = safetensors::serialize([("x", view.clone())], None).unwrap();
        assert_eq!(open("x.safetensors", &one).unwrap().len(), 2);
        let two = safetensors::serialize([("x", view.clone()), ("y", view)], None).unwrap();
        let error = open("x.safetensors", &two).unwrap_err().to_string();
        assert!(error.contains("none named features"), "{error}");
    }

    #[test]
    fn what_cannot_be_features_is_named() {
        let cases = [
            (npy("<f8", "False", "(1, 1)", &[1.0, 1.0]), "astype"),
            (npy("<f4", "True", "(1, 1)", &[1.0]), "Fortran"),
            (npy("<f4", "False", "(3,)", &[1.0; 3]), "no matrix"),
            (npy("<f4", "False", "(2, 2)", &[1.0; 3]), "cut short"),
            (npy("<f4", "False", "(9999999999999, 9999999999999)", &[1.0; 3]), "cut short"),
            (npy("<f4", "False", "(1, 2)", &[1.0, f32::NAN]), "row 0, column 1"),
            (npy("<f4", "False", "(1, 0)", &[]), "rows of 0 numbers"),
            (b"\x93NUMPY\x01\x00\xff\xff{".to_vec(), "ends in its header"),
            (b"PK\x03\x04 and more".to_vec(), "is no .npy file"),
        ];
        for (bytes, expected) in cases {
            let error = open("x.npy", &bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} should say {expected}");
        }
    }
}
