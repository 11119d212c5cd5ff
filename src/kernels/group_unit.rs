//! The products of `group_tiles` on the processor's matrix unit, see `device::amx`.

use std::slice;

use crate::device::amx::{Row, SIDE, Slab, Unit, slabs};

/// From so many labels on the unit is faster than vectors.
const MIN_GROUP: usize = 16;

/// The unit and a group's operands. Those of three bf16 are larger than what they come from: they are made where they are
/// used, so that they are still in the nearest cache.
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
    /// The weights as the left operand, [depth, high].
    weights: Vec<Slab>,
    /// The same of 32 slots transposed, \[high\].
    turned: Vec<Slab>,
    /// Gradients of the logits as the right operand, [across, high].
    dz: Vec<Slab>,
    /// The same transposed, [high, across].
    dz_turned: Vec<Slab>,
}

impl GroupUnit {
    /// For groups of up to `group` labels that look at `fan_in` of the features `x` [D, columns]; none where there is no
    /// unit, or where groups are so small that most of its work would be on zeros.
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
            weights: slabs(depth * high),
            turned: slabs(high),
            dz: slabs(across * high),
            dz_turned: slabs(high * across),
        })
    }

    /// Adds to `z` [high · 32, across · 32] the logits of the labels in `weights` [labels, F], which look at the features
    /// in `indices`.
    pub(super) fn logits(&mut self, indices: &[u16], weights: &[f32], z: &mut [f32]) {
        let (unit, fan_in, stride) = (&self.unit, indices.len(), self.across * SIDE);
        let mut x_right = slab();
        for (s, indices) in indices.chunks(SIDE).enumerate() {
            let slots = s * SIDE..s * SIDE + indices.len();
            let left = &mut self.weights[s * self.high..][..self.high];
            for (g, left) in left.iter_mut().enumerate() {
                let row = |r: usize| weights.get((g * SIDE + r) * fan_in..)?.get(slots.clone());
                unit.read_rows(left, row);
            }
            for (j, x) in self.x[s * self.across..][..self.across].iter_mut().enumerate() {
                let row = |index: &u16| &self.rows[usize::from(*index) * self.across + j];
                unit.place_rows(x, indices.iter().map(row));
                unit.pair(x, &mut x_right);
                for (g, left) in left.chunks_exact(1).enumerate() {
                    let z = &mut z[g * SIDE * stride + j * SIDE..];
                    unit.product(left, slice::from_ref(&x_right), z, stride, true);
                }
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
        let unit = &self.unit;
        let (mut left, mut right) = (slab(), slab());
        let stride = self.across * SIDE;
        for g in 0..self.high {
            for j in 0..self.across {
                let end = columns.min((j + 1) * SIDE);
                unit.read_rows(&mut left, |r| z.get((g * SIDE + r) * stride..)?.get(j * SIDE..end));
                unit.pair(&left, &mut self.dz[j * self.high + g]);
                unit.turn(&left, &mut self.dz_turned[g * self.across + j]);
            }
        }
        let mut c = [0.0; SIDE * SIDE];
        let stride = self.depth * SIDE;
        for (s, indices) in indices.chunks(SIDE).enumerate() {
            let x = &self.x[s * self.across..][..self.across];
            for (g, dz) in self.dz_turned.chunks_exact(self.across).enumerate() {
                unit.product(x, dz, &mut c, SIDE, false);
                unit.turn_numbers(&c, &mut gradients[g * SIDE * stride + s * SIDE..], stride);
            }
            for (weights, turned) in self.weights[s * self.high..].iter().zip(&mut self.turned) {
                unit.pair(weights, &mut right);
                unit.turn(&right, turned);
            }
            for (j, dz) in self.dz.chunks_exact(self.high).enumerate() {
                unit.product(&self.turned, dz, &mut c, SIDE, false);
                let starts = indices.iter().map(|index| usize::from(*index) * columns + j * SIDE);
                unit.add_rows(&c, dx, starts, SIDE.min(columns - j * SIDE));
            }
        }
    }
}

fn slab() -> Slab {
    bytemuck::Zeroable::zeroed()
}
