//! Labels that share a row of indices, on the CPU: what they look at is gathered once, and the rest is small dense
//! products, in vectors or in bf16 on the matrix unit (`group_unit`). The group's part of the twins `fan_in_sweep` and
//! `fan_in_top_k`.

use pulp::Simd;

use super::group_unit::GroupUnit;
use super::storage::Storage;
use super::vector::{Left, product, product_into};
use crate::device::amx::SIDE;

/// Samples whose gathered features lie in a tile at once, so that it stays in a core's own cache.
const TILE_COLUMNS: usize = 256;

/// Side of the squares in which a matrix is turned: a quarter of a vector of 512 bits.
const SQUARE: usize = 4;

/// Most lanes of a vector.
const MAX_LANES: usize = 16;

/// Numbers from a cache line on, as all buffers are.
struct Lines {
    room: Vec<f32>,
    start: usize,
    len: usize,
}

impl Lines {
    fn new(len: usize) -> Self {
        let room = vec![0.0; len + 16];
        let start = room.as_ptr().align_offset(64).min(16);
        Self { room, start, len }
    }

    #[inline(always)]
    fn numbers(&self) -> &[f32] {
        &self.room[self.start..][..self.len]
    }

    #[inline(always)]
    fn numbers_mut(&mut self) -> &mut [f32] {
        &mut self.room[self.start..][..self.len]
    }
}

/// The features that a group looks at and its logits.
pub(super) struct GroupLogits<'a> {
    /// [D, columns].
    x: &'a [f32],
    fan_in: usize,
    columns: usize,
    /// What computes the products instead of vectors.
    unit: Option<GroupUnit>,
    /// Columns of a tile.
    tile: usize,
    /// The features of the group, [F, tile].
    gathered: Lines,
    /// Logits, which the caller may turn into their gradients. Rows of the labels, `stride` numbers apart.
    z: Lines,
    stride: usize,
}

impl<'a> GroupLogits<'a> {
    /// Room for groups of up to `group` labels that look at features of `x` [D, columns]; with `bf16` the products may be
    /// those of the matrix unit.
    pub(super) fn new(x: &'a [f32], fan_in: usize, columns: usize, group: usize, bf16: bool) -> Self {
        let unit = if bf16 { GroupUnit::new(x, columns, fan_in, group) } else { None };
        let [tile, gathered, side] =
            if unit.is_some() { [0, 0, SIDE] } else { [columns.min(TILE_COLUMNS), fan_in, 1] };
        let (stride, rows) = (columns.next_multiple_of(side), group.next_multiple_of(side));
        let (gathered, z) = (Lines::new(gathered * tile), Lines::new(rows * stride));
        Self { x, fan_in, columns, unit, tile, gathered, z, stride }
    }

    /// The first columns and the widths of the tiles.
    fn tiles(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (columns, tile) = (self.columns, self.tile);
        (0..columns).step_by(tile).map(move |first| (first, tile.min(columns - first)))
    }

    /// Fills the tile with `width` columns of the features in `indices`.
    #[inline(always)]
    fn gather(&mut self, indices: &[u16], (first, width): (usize, usize)) {
        let (columns, tile) = (self.columns, self.tile);
        for (gathered, index) in self.gathered.numbers_mut().chunks_exact_mut(tile).zip(indices) {
            gathered[..width].copy_from_slice(&self.x[usize::from(*index) * columns + first..][..width]);
        }
    }

    /// The logits of as many labels as there are biases, from their `weights` [labels, F] and the features in `indices`.
    #[inline(always)]
    pub(super) fn compute<S: Simd>(&mut self, simd: S, indices: &[u16], weights: &[f32], bias: &[f32]) {
        let z = self.z.numbers_mut();
        z.chunks_exact_mut(self.stride).zip(bias).for_each(|(z, bias)| z.fill(*bias));
        if let Some(unit) = &mut self.unit {
            unit.logits(indices, weights, z);
            return;
        }
        let weights = Left { numbers: weights, stride: self.fan_in, transposed: false };
        let [stride, tile_stride] = [self.stride, self.tile].map(|columns| columns / S::F32_LANES);
        for (first, width) in self.tiles() {
            self.gather(indices, (first, width));
            let sizes = [bias.len(), width / S::F32_LANES, self.fan_in];
            let (x, _) = S::as_simd_f32s(self.gathered.numbers());
            let (z, _) = S::as_mut_simd_f32s(&mut self.z.numbers_mut()[first..]);
            product(simd, sizes, weights, (x, tile_stride), (z, stride), true);
        }
    }

    /// The logits of the group's label `member`, or what the caller made of them. \[columns\]
    #[inline(always)]
    pub(super) fn row(&mut self, member: usize) -> &mut [f32] {
        &mut self.z.numbers_mut()[member * self.stride..][..self.columns]
    }
}

/// Room for the backward pass of a group.
pub(super) struct GroupGradients {
    /// Gradients of the logits, [tile, labels]: labels side by side, so that they fill vectors.
    turned: Lines,
    /// Gradients of the weights, [F, labels].
    by_slot: Lines,
    /// Gradients of the weights. Rows of the labels, `stride` numbers apart.
    weights: Vec<f32>,
    stride: usize,
    /// Labels in `turned` and `by_slot`: whole vectors.
    width: usize,
}

impl GroupGradients {
    /// Room for the groups of `of`, of up to `group` labels.
    pub(super) fn new<S: Simd>(of: &GroupLogits<'_>, group: usize) -> Self {
        let side = if of.unit.is_some() { SIDE } else { 1 };
        let (stride, rows) = (of.fan_in.next_multiple_of(side), group.next_multiple_of(side));
        let width = if of.unit.is_some() { 0 } else { group.next_multiple_of(S::F32_LANES) };
        Self {
            turned: Lines::new(of.tile * width),
            by_slot: Lines::new(of.fan_in * width),
            weights: vec![0.0; rows * stride],
            stride,
            width,
        }
    }

    /// From the gradients of the logits of `labels` labels, which lie where their logits lay: the gradients of the
    /// weights, and that of the features added to `dx` [D, columns] at `indices`. `weights` are those of the logits.
    #[inline(always)]
    pub(super) fn compute<S: Simd>(
        &mut self,
        simd: S,
        of: &mut GroupLogits<'_>,
        labels: usize,
        indices: &[u16],
        weights: &[f32],
        dx: &mut [f32],
    ) {
        let (fan_in, columns, lanes) = (of.fan_in, of.columns, S::F32_LANES);
        if let Some(unit) = &mut of.unit {
            let z = &of.z.numbers()[..labels * of.stride];
            unit.gradients(indices, (z, columns), &mut self.weights, dx);
            return;
        }
        let [stride, label_stride] = [columns, self.width].map(|columns| columns / lanes);
        let weights = Left { numbers: weights, stride: fan_in, transposed: true };
        let (dx, _) = S::as_mut_simd_f32s(dx);
        for (first, width) in of.tiles() {
            // A tile that is the only one still lies there from the logits.
            if width < columns {
                of.gather(indices, (first, width));
            }
            let g = &of.z.numbers()[first..];
            // A slot's gradients are sums over the samples: with labels side by side none is a sum over lanes.
            turn(simd, (g, columns), [labels, width], (self.turned.numbers_mut(), self.width));
            let (turned, _) = S::as_simd_f32s(self.turned.numbers());
            let (by_slot, _) = S::as_mut_simd_f32s(self.by_slot.numbers_mut());
            let seen = Left { numbers: of.gathered.numbers(), stride: of.tile, transposed: false };
            let sizes = [fan_in, labels.div_ceil(lanes), width];
            product(simd, sizes, seen, (turned, label_stride), (by_slot, label_stride), first > 0);

            let (g, _) = S::as_simd_f32s(g);
            let feature_row = |slot: usize| usize::from(indices[slot]) * stride + first / lanes;
            let sizes = [fan_in, width / lanes, labels];
            product_into(simd, sizes, weights, (g, stride), (&mut *dx, feature_row), true);
        }
        turn(simd, (self.by_slot.numbers(), self.width), [fan_in, labels], (&mut self.weights, fan_in));
    }

    /// The gradients of the weights of the group's label `member`. \[F\]
    #[inline(always)]
    pub(super) fn of_weights(&self, member: usize, fan_in: usize) -> &[f32] {
        &self.weights[member * self.stride..][..fan_in]
    }
}

/// The weights of a group as f32 in `opened` [labels, F]. Weights that are f32 already are copied too: read row after
/// row they come from memory in one stream, which the products' eight rows at a time would not be.
#[inline(always)]
pub(super) fn open_group<'a>(
    storage: Storage,
    stored: &[u32],
    weight_words: usize,
    fan_in: usize,
    opened: &'a mut [f32],
) -> &'a [f32] {
    let opened = &mut opened[..stored.len() / weight_words * fan_in];
    for (stored, opened) in stored.chunks_exact(weight_words).zip(opened.chunks_exact_mut(fan_in)) {
        storage.decode_row(stored, opened);
    }
    opened
}

/// to[c, r] = from[r, c]. Rows begin `from_stride` and `to_stride` numbers apart.
#[inline(always)]
fn turn<S: Simd>(
    simd: S,
    (from, from_stride): (&[f32], usize),
    [rows, columns]: [usize; 2],
    (to, to_stride): (&mut [f32], usize),
) {
    let across = S::F32_LANES;
    let whole = if across.is_multiple_of(SQUARE) {
        [rows / SQUARE * SQUARE, columns / across * across]
    } else {
        [0, 0]
    };
    for column in (0..whole[1]).step_by(across) {
        // What all rows of these columns become: equally long, so that one comparison does for all.
        let mut lines: [&mut [f32]; MAX_LANES] = Default::default();
        let mut rest = &mut to[column * to_stride..];
        for line in &mut lines[..across] {
            let (mine, later) = rest.split_at_mut(to_stride.min(rest.len()));
            (*line, rest) = (&mut mine[..rows], later);
        }
        for row in (0..whole[0]).step_by(SQUARE) {
            let mut band = [simd.splat_f32s(0.0); SQUARE];
            for (r, vector) in band.iter_mut().enumerate() {
                *vector = S::as_simd_f32s(&from[(row + r) * from_stride + column..][..across]).0[0];
            }
            // Four vectors deinterleaved by four: each square in them turned, in its place.
            let turned = simd.deinterleave_shfl_f32s(band);
            for (c, turned) in turned.iter().enumerate() {
                let squares: &[f32] = bytemuck::cast_slice(std::slice::from_ref(turned));
                for (square, turned) in squares.chunks_exact(SQUARE).enumerate() {
                    lines[square * SQUARE + c][row..row + SQUARE].copy_from_slice(turned);
                }
            }
        }
    }
    for row in 0..rows {
        let rest = if row < whole[0] { whole[1] } else { 0 };
        for column in rest..columns {
            to[column * to_stride + row] = from[row * from_stride + column];
        }
    }
}

#[cfg(test)]
mod tests {
    use pulp::{Simd, WithSimd};

    use super::turn;

    struct Turn<'a>((&'a [f32], usize), [usize; 2], (&'a mut [f32], usize));

    impl WithSimd for Turn<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            turn(simd, self.0, self.1, self.2);
        }
    }

    #[test]
    fn every_number_comes_to_the_other_side_of_the_diagonal() {
        for [rows, columns] in [[1, 1], [8, 8], [3, 20], [20, 3], [17, 33], [32, 64]] {
            let (from_stride, to_stride) = (columns + 2, rows + 1);
            let from: Vec<f32> = (0..rows * from_stride).map(|i| i as f32).collect();
            let mut to = vec![-1.0; columns * to_stride];
            pulp::Arch::new().dispatch(Turn((&from, from_stride), [rows, columns], (&mut to, to_stride)));
            for (place, got) in to.iter().enumerate() {
                let (column, row) = (place / to_stride, place % to_stride);
                let truth = if row < rows { (row * from_stride + column) as f32 } else { -1.0 };
                assert_eq!(*got, truth, "{rows} x {columns}, row {row}, column {column}");
            }
        }
    }
}
