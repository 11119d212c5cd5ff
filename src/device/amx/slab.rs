//! Operands as the unit wants them.

/// Rows and columns of a slab.
pub(crate) const SIDE: usize = 32;

/// What a tile of the unit holds: 16 rows of 16 words, each of two bf16.
pub(super) type Tile = [Row; 16];

/// 32 bf16, in a row of a tile.
#[repr(C, align(64))]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Row(pub(super) [u32; 16]);

/// 32 × 32 bf16 in two tiles, its halves.
///
/// A number of a left operand [M, K] lies in the half of its row, there in the row of its row; two neighbours in K share a
/// word, the first in its lower bits. One of a right operand [K, N] lies in the half of its column; there two neighbours
/// in K share the word in their row, at their column. A half turned about its diagonal is thus the half of the transposed
/// matrix as the other operand.
#[repr(C, align(64))]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Slab(pub(super) [Tile; 2]);

/// Room for `count` slabs, of zeros.
pub(crate) fn slabs(count: usize) -> Vec<Slab> {
    vec![bytemuck::Zeroable::zeroed(); count]
}
