//! Safetensors files with checksums: written as a stream, read through a memory map.
//!
//! Layout: 8 bytes little-endian length of the header, the header in JSON padded with spaces to a multiple of 8, then
//! the tensors one after another, little-endian. Any safetensors reader opens the files. Two entries of the
//! metadata guard against silent damage: `xxh3` is the XXH3-64 of all tensor bytes, `xxh3_header` that of the header
//! with the digits of both replaced by zeros. They come first, so their place in the file is known.

mod read;
mod write;

use crate::kernels::storage::Storage;

pub use read::{TensorFile, TensorView};
pub use write::write_tensors;

/// What the header starts with; each checksum is 16 hexadecimal digits.
const BEFORE_DATA_SUM: &str = "{\"__metadata__\":{\"xxh3\":\"";
const BETWEEN_SUMS: &str = "\",\"xxh3_header\":\"";
const NO_SUM: &str = "0000000000000000";
const SUM_DIGITS: usize = NO_SUM.len();
/// Where the digits stand in the header.
const DATA_SUM_AT: usize = BEFORE_DATA_SUM.len();
const HEADER_SUM_AT: usize = DATA_SUM_AT + SUM_DIGITS + BETWEEN_SUMS.len();
const SUM_KEYS: [&str; 2] = ["xxh3", "xxh3_header"];
/// The key of the header under which the metadata stand, not a tensor.
const METADATA: &str = "__metadata__";

/// The number formats that regrow reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// 16-bit brain float.
    BF16,
    /// 8-bit float with 4 bits of exponent and 3 of fraction, without infinities.
    F8E4M3,
    /// 16-bit unsigned integer.
    U16,
    /// 32-bit unsigned integer.
    U32,
    /// 32-bit signed integer.
    I32,
    /// 64-bit signed integer.
    I64,
    /// Byte.
    U8,
}

impl Dtype {
    const ALL: [Self; 9] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::F8E4M3,
        Self::U16,
        Self::U32,
        Self::I32,
        Self::I64,
        Self::U8,
    ];

    /// The type of numbers that are stored so.
    #[must_use]
    pub fn of(storage: Storage) -> Self {
        match storage {
            Storage::F32 => Self::F32,
            Storage::F16 => Self::F16,
            Storage::Bf16 => Self::BF16,
            Storage::Fp8 => Self::F8E4M3,
        }
    }

    /// How numbers of this type are stored; none for integers.
    #[must_use]
    pub fn storage(self) -> Option<Storage> {
        Storage::ALL.into_iter().find(|storage| Self::of(*storage) == self)
    }

    /// Bytes of one number.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::I64 => 8,
            Self::F32 | Self::U32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::U16 => 2,
            Self::U8 | Self::F8E4M3 => 1,
        }
    }

    /// The name in a safetensors header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::F8E4M3 => "F8_E4M3",
            Self::U16 => "U16",
            Self::U32 => "U32",
            Self::I32 => "I32",
            Self::I64 => "I64",
            Self::U8 => "U8",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// Bytes of a tensor of this shape, unless they cannot be counted.
    fn tensor_bytes(self, shape: &[usize]) -> Option<usize> {
        shape.iter().try_fold(self.bytes(), |bytes, &extent| bytes.checked_mul(extent))
    }
}

/// A tensor to be written.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    /// Its name, unique in the file.
    pub name: String,
    /// Its number format.
    pub dtype: Dtype,
    /// Its extents, outermost first; row-major.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// A tensor of that name, format and shape.
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: impl Into<Vec<usize>>) -> Self {
        Self { name: name.into(), dtype, shape: shape.into() }
    }
}

#[cfg(test)]
mod tests;
