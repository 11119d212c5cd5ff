//! Features in tiles, each a uniform buffer: see `shaders/feature_tiles.wgsl`; and how rows of samples lie in tiles.

use super::{COLUMNS, WORKGROUP, columns_of, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, UNIFORM_SLICE_BYTES, UNIFORM_SLICES, words_of};

/// Most tiles of a batch.
pub const MOST: usize = UNIFORM_SLICES as usize;

/// Numbers in a tile.
const NUMBERS: usize = (UNIFORM_SLICE_BYTES / 4) as usize;

/// Rows of a tile, whose samples are [`COLUMNS`].
pub const ROWS: usize = NUMBERS / COLUMNS;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    features: u32,
    quads: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "feature_tiles",
    source: include_str!("../../shaders/feature_tiles.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// Tiles of a batch.
#[must_use]
pub fn count(batch: usize) -> usize {
    columns_of(batch) / COLUMNS
}

/// Bytes of the tiles of a batch.
#[must_use]
pub fn bytes(batch: usize) -> u64 {
    count(batch) as u64 * UNIFORM_SLICE_BYTES
}

/// Copies `x` [D, columns] into `tiles` [columns / 16, 1024, 16]; D is at most [`ROWS`].
pub fn launch(features: usize, batch: usize, x: &Slice, tiles: &Slice) -> Launch {
    let quads = columns_of(batch) / 4;
    Launch {
        kernel: &KERNEL,
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: vec![x.clone(), tiles.clone()],
        params: words_of(&Params { features: features as u32, quads: quads as u32 }),
        workgroups: workgroups(features * quads),
        work: (features * quads * 4) as u64,
    }
}

/// The bindings of a kernel with tiles, N of them: `own`, of which the first is the first tile, and then the other tiles.
pub(super) const fn bindings<const N: usize>(own: &[Access]) -> [Access; N] {
    assert!(N == own.len() + MOST - 1, "as many as there are");
    let mut all = [Access::Uniform; N];
    let mut i = 1;
    while i < own.len() {
        all[i] = own[i];
        i += 1;
    }
    all
}

/// The tiles one by one, as many as a kernel binds; those that a batch does not have are the first once more.
pub(super) fn slices(tiles: &Slice, batch: usize) -> [Slice; MOST] {
    let there = count(batch);
    std::array::from_fn(|tile| {
        let tile = if tile < there { tile as u64 } else { 0 };
        tiles.range(tile * UNIFORM_SLICE_BYTES, UNIFORM_SLICE_BYTES)
    })
}

/// For a twin: `rows` rows [rows, columns] from the tiles of a launch, of which the first is its binding 0 and the
/// others those from `second` on.
pub(super) fn rows_of(call: &TwinCall<'_>, second: usize, rows: usize, columns: usize) -> Vec<f32> {
    let mut all = vec![0.0; rows * columns];
    for tile in 0..columns / COLUMNS {
        let from = call.read::<f32>(if tile == 0 { 0 } else { second + tile - 1 });
        for (row, samples) in from.chunks_exact(COLUMNS).take(rows).enumerate() {
            all[row * columns + tile * COLUMNS..][..COLUMNS].copy_from_slice(samples);
        }
    }
    all
}

/// Rows of `columns` samples into tiles that lie one after the other; tiles keep what they have of further rows.
pub(super) fn scatter(rows: &[f32], columns: usize, tiles: &mut [f32]) {
    for (tile, to) in tiles.chunks_exact_mut(NUMBERS).take(columns / COLUMNS).enumerate() {
        for (to, row) in to.chunks_exact_mut(COLUMNS).zip(rows.chunks_exact(columns)) {
            to.copy_from_slice(&row[tile * COLUMNS..][..COLUMNS]);
        }
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let columns = p.quads as usize * 4;
    let x = &call.read::<f32>(0)[..p.features as usize * columns];
    scatter(x, columns, call.write::<f32>(1));
}
