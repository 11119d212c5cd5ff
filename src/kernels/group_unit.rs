//! The products of `group_tiles` in bf16, on the processor's matrix unit: see `device::amx`.

use bytemuck::Zeroable;

use crate::device::amx::{Row, SIDE, Slab, Unit, slabs};

/// From so many labels on the unit is faster than vectors: of smaller groups most of its work would be on zeros.
const MIN_GROUP: usize = 16;

/// The unit and the operands of a group's three products.
pub(super) struct GroupUnit {
    unit: Unit,
    /// Slabs along the features of a group, along the samples and along the labels.
    depth: usize,
    across: usize,
    high: usize,
    /// The features of the step, [D, across].
    rows: Vec<Row>,
    /// Those of the group as the left operand, [depth, across].
    x: Vec<Slab>,
    /// The same as the right one, [across, depth].
    x_right: Vec<Slab>,
    /// The weights as the left operand, [high, depth].
    weights: Vec<Slab>,
    /// The same transposed, [depth, high].
    weights_turned: Vec<Slab>,
    /// Gradients of the logits as the right operand, [across, high].
    dz: Vec<Slab>,
    /// The same transposed, [high, across].
    dz_turned: Vec<Slab>,
}

impl GroupUnit {
    /// For groups of up to `group` labels that look at `fan_in` of the features `x` [D, columns]; none where groups are too
    /// small for it, or there is no unit.
    pub(super) fn new(x: &[f32], columns: usize, fan_in: usize, group: usize) -> Option<Self> {
        if group < MIN_GROUP {
            return None;
        }
        let unit = Unit::of_this_cpu()?;
        let [depth, across, high] = [fan_in, columns, group].map(|side| side.div_ceil(SIDE));
        let rows = x.chunks_exact(columns).flat_map(|row| row.chunks(SIDE)).map(|row| unit.read(row)).collect();
        Some(Self {
            unit,
            depth,
            across,
            high,
            rows,
            x: slabs(depth * across),
            x_right: slabs(depth * across),
            weights: slabs(high * depth),
            weights_turned: slabs(high * depth),
            dz: slabs(high * across),
            dz_turned: slabs(high * across),
        })
    }

    /// Adds to `z` [high · 32, across · 32] the logits of the labels in `weights` [labels, F], which look at the features
    /// in `indices`.
    pub(super) fn logits(&mut self, indices: &[u16], weights: &[f32], z: &mut [f32]) {
        let (unit, fan_in, stride) = (&self.unit, indices.len(), self.across * SIDE);
        for (s, (x, indices)) in self.x.chunks_exact_mut(self.across).zip(indices.chunks(SIDE)).enumerate() {
            for (j, x) in x.iter_mut().enumerate() {
                let row = |index: &u16| &self.rows[usize::from(*index) * self.across + j];
                unit.place_rows(x, indices.iter().map(row));
                unit.pair(x, &mut self.x_right[j * self.depth + s]);
            }
        }
        for (g, row) in self.weights.chunks_exact_mut(self.depth).enumerate() {
            for (s, slab) in row.iter_mut().enumerate() {
                let slots = s * SIDE..fan_in.min((s + 1) * SIDE);
                let row = |r: usize| weights.get((g * SIDE + r) * fan_in..)?.get(slots.clone());
                unit.read_rows(slab, row);
            }
        }
        for (g, weights) in self.weights.chunks_exact(self.depth).enumerate() {
            for (j, x) in self.x_right.chunks_exact(self.depth).enumerate() {
                unit.product(weights, x, &mut z[g * SIDE * stride + j * SIDE..], stride, true);
            }
        }
    }

    /// From the gradients of the logits of the last group in `z` [labels, across · 32], of which `columns` count: those of
    /// the weights into `gradients` [high · 32, depth · 32], and those of the features added to `dx` [D, columns] at
    /// `indices`.
    pub(super) fn gradients(
        &mut self,
        indices: &[u16],
        (z, columns): (&[f32], usize),
        gradients: &mut [f32],
        dx: &mut [f32],
    ) {
        let (unit, stride) = (&self.unit, self.across * SIDE);
        let mut between = Slab::zeroed();
        for g in 0..self.high {
            for j in 0..self.across {
                let samples = j * SIDE..columns.min((j + 1) * SIDE);
                unit.read_rows(&mut between, |r| z.get((g * SIDE + r) * stride..)?.get(samples.clone()));
                unit.pair(&between, &mut self.dz[j * self.high + g]);
                unit.turn(&between, &mut self.dz_turned[g * self.across + j]);
            }
            for s in 0..self.depth {
                unit.pair(&self.weights[g * self.depth + s], &mut between);
                unit.turn(&between, &mut self.weights_turned[s * self.high + g]);
            }
        }
        let (mut c, stride) = ([0.0; SIDE * SIDE], self.depth * SIDE);
        for (s, indices) in indices.chunks(SIDE).enumerate() {
            let x = &self.x[s * self.across..][..self.across];
            for (g, dz) in self.dz_turned.chunks_exact(self.across).enumerate() {
                unit.product(x, dz, &mut c, SIDE, false);
                unit.turn_numbers(&c, &mut gradients[g * SIDE * stride + s * SIDE..], stride);
            }
            let weights = &self.weights_turned[s * self.high..][..self.high];
            for (j, dz) in self.dz.chunks_exact(self.high).enumerate() {
                unit.product(weights, dz, &mut c, SIDE, false);
                let starts = indices.iter().map(|index| usize::from(*index) * columns + j * SIDE);
                unit.add_rows(&c, dx, starts, SIDE.min(columns - j * SIDE));
            }
        }
    }
}
