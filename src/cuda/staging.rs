//! Pinned host memory through which bytes come and go, reused.

use std::sync::Arc;

use super::driver::{Context, Pinned, fault};
use crate::error::Result;

/// Pieces that may be on their way before the host waits.
const PIECES: usize = 4;

/// Bytes of a piece that is kept for reuse at most; bulk copies go in pieces of this size.
pub(super) const PIECE_BYTES: usize = 16 << 20;

/// Pinned memory that was used before.
#[derive(Default)]
pub(super) struct Staging {
    pieces: Vec<Pinned>,
}

impl Staging {
    /// Memory of at least `bytes` bytes; no copy uses it once its bytes are asked for.
    pub(super) fn take(&mut self, context: &Arc<Context>, bytes: usize) -> Result<Pinned> {
        if let Some(i) = self.pieces.iter_mut().position(|piece| piece.len() >= bytes && piece.is_free()) {
            return Ok(self.pieces.swap_remove(i));
        }
        if self.pieces.len() >= PIECES {
            // The oldest: it is waited for where it is used again, or where it is dropped.
            let oldest = self.pieces.remove(0);
            if oldest.len() >= bytes {
                return Ok(oldest);
            }
        }
        let size = if bytes > PIECE_BYTES { bytes } else { bytes.next_power_of_two().max(4096) };
        context.pin(size).map_err(|error| fault("pinning memory of the host", error))
    }

    /// Takes memory back, also while a copy uses it.
    pub(super) fn give(&mut self, piece: Pinned) {
        if piece.len() <= PIECE_BYTES {
            self.pieces.push(piece);
        }
    }
}
