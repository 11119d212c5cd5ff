//! Memory on a device, and ranges of it.

use std::sync::Arc;

use super::ledger::Ledger;
use super::{cpu, gpu};

/// Memory on a device, shared by whoever holds a clone.
#[derive(Clone)]
pub struct Buffer(pub(super) Arc<BufferInner>);

pub(super) struct BufferInner {
    pub(super) bytes: u64,
    pub(super) label: String,
    pub(super) storage: Storage,
    pub(super) ledger: Arc<Ledger>,
}

pub(super) enum Storage {
    Cpu(cpu::Words),
    Gpu(gpu::GpuBuffer),
    #[cfg(feature = "cuda")]
    Cuda(crate::cuda::CudaMemory),
    Planned,
}

impl Drop for BufferInner {
    fn drop(&mut self) {
        self.ledger.remove(&self.label, self.bytes);
    }
}

impl Buffer {
    /// Size in bytes, a multiple of 16.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// What the buffer is for, as messages name it.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// The whole buffer as an argument of a launch.
    #[must_use]
    pub fn whole(&self) -> Slice {
        Slice { buffer: self.clone(), offset: 0, bytes: self.bytes() }
    }

    /// A range in bytes; as a launch's argument its offset must be a multiple of [`SLICE_ALIGNMENT`].
    ///
    /// # Panics
    /// When the range ends beyond the buffer or is not made of whole words.
    #[must_use]
    pub fn range(&self, offset: u64, bytes: u64) -> Slice {
        self.check_range(offset, bytes);
        Slice { buffer: self.clone(), offset, bytes }
    }

    /// The memory, if it is CUDA's.
    #[cfg(feature = "cuda")]
    pub(crate) fn cuda(&self) -> Option<&crate::cuda::CudaMemory> {
        match &self.0.storage {
            Storage::Cuda(memory) => Some(memory),
            _ => None,
        }
    }

    pub(super) fn check_range(&self, offset: u64, bytes: u64) {
        assert!(
            offset.is_multiple_of(4)
                && bytes.is_multiple_of(4)
                && offset.checked_add(bytes).is_some_and(|end| end <= self.bytes()),
            "range {offset}+{bytes} of buffer `{}` of {} bytes",
            self.label(),
            self.bytes()
        );
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.label(), self.bytes())
    }
}

/// Offsets of slices that are bound to kernels are multiples of this (the largest minimum of any adapter).
pub const SLICE_ALIGNMENT: u64 = 256;

/// A range of a buffer.
#[derive(Clone, Debug)]
pub struct Slice {
    pub(crate) buffer: Buffer,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl Slice {
    /// Size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// `bytes` bytes of it, from byte `offset` on; see [`Buffer::range`].
    ///
    /// # Panics
    /// When it ends before, or the range is not made of whole words.
    #[must_use]
    pub fn range(&self, offset: u64, bytes: u64) -> Self {
        assert!(offset.checked_add(bytes).is_some_and(|end| end <= self.bytes));
        self.buffer.range(self.offset + offset, bytes)
    }

    /// Its first `bytes` bytes.
    ///
    /// # Panics
    /// When it has fewer.
    #[must_use]
    pub fn front(&self, bytes: u64) -> Self {
        assert!(bytes <= self.bytes && bytes.is_multiple_of(4));
        Self { bytes, ..self.clone() }
    }

    /// The slice lengthened to whole vectors of four words, for shaders that read it so. The buffer has room: its
    /// size is a multiple of 16, and so is the offset of whatever is bound.
    pub(crate) fn padded(&self) -> Self {
        self.buffer.range(self.offset, self.bytes.next_multiple_of(16))
    }
}

impl From<&Buffer> for Slice {
    fn from(buffer: &Buffer) -> Self {
        buffer.whole()
    }
}
