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
        Some(Self {
            depth,
            across,
            high,
            rows: unit.read_all(x, columns),
            unit,
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

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::GroupUnit;
    use crate::device::amx::SIDE;
    use crate::random::{Purpose, below, unit, words};

    fn numbers(seed: u64, count: usize) -> Vec<f32> {
        (0..count).map(|i| unit(words(seed, Purpose::Synth, 0, i as u32, 0)[0]) - 0.5).collect()
    }

    fn rounded(number: f32) -> f64 {
        f64::from(bf16::from_f32(number).to_f32())
    }

    /// Products of 8 bits are exact in f32, and each of `terms` sums of up to `size` rounds by 2⁻²⁴ of it.
    fn assert_sum(got: f32, truth: f64, size: f64, terms: usize, what: &str) {
        let bound = size * 2.0_f64.powi(-24) * (terms + 2) as f64;
        assert!((f64::from(got) - truth).abs() <= bound, "{what}: {truth}, got {got}");
    }

    /// Several groups one after the other, the last of them not full; sizes on and off the slabs' sides.
    #[test]
    fn all_three_products_are_those_of_the_rounded_numbers() {
        for (seed, [fan_in, columns, group, features]) in
            [[32, 32, 32, 64], [5, 16, 16, 9], [70, 80, 64, 100], [33, 48, 17, 40]].into_iter().enumerate()
        {
            let x = numbers(seed as u64, features * columns);
            let Some(mut unit) = GroupUnit::new(&x, columns, fan_in, group) else {
                eprintln!("this processor has no AMX: nothing to test");
                return;
            };
            let side = |side: usize| side.next_multiple_of(SIDE);
            let (stride, width) = (side(columns), side(fan_in));
            let mut gradients = vec![f32::NAN; side(group) * width];
            let start = numbers(90, features * columns);
            let mut dx = start.clone();
            // Value, sum of the magnitudes, number of sums.
            let mut dx_truth: Vec<(f64, f64, usize)> =
                start.iter().map(|v| (f64::from(*v), f64::from(v.abs()), 1)).collect();
            for (round, labels) in [group, group - 1].into_iter().enumerate() {
                let seed = (10 * seed + round + 10) as u64;
                let weights = numbers(seed, labels * fan_in);
                let draw = |f: u32| below(words(seed, Purpose::Synth, 1, f, 0)[0], features as u32) as u16;
                let indices: Vec<u16> = (0..fan_in as u32).map(draw).collect();
                let x_at = |f: usize, b: usize| rounded(x[usize::from(indices[f]) * columns + b]);
                let w_at = |label: usize, f: usize| rounded(weights[label * fan_in + f]);

                let mut z = vec![0.25; side(group) * stride];
                unit.logits(&indices, &weights, &mut z);
                for label in 0..labels {
                    for b in 0..columns {
                        let sum: f64 = (0..fan_in).map(|f| w_at(label, f) * x_at(f, b)).sum();
                        let what = format!("logit {label}, {b}");
                        assert_sum(
                            z[label * stride + b],
                            0.25 + sum,
                            0.25 + fan_in as f64 / 4.0,
                            fan_in,
                            &what,
                        );
                    }
                }

                let dz = numbers(seed + 50, labels * stride);
                unit.gradients(&indices, (&dz, columns), &mut gradients, &mut dx);
                let dz_at = |label: usize, b: usize| rounded(dz[label * stride + b]);
                for label in 0..labels {
                    for f in 0..fan_in {
                        let sum: f64 = (0..columns).map(|b| dz_at(label, b) * x_at(f, b)).sum();
                        let what = format!("gradient {label}, {f}");
                        assert_sum(gradients[label * width + f], sum, columns as f64 / 4.0, columns, &what);
                    }
                }
                for (f, index) in indices.iter().enumerate() {
                    for b in 0..columns {
                        let truth = &mut dx_truth[usize::from(*index) * columns + b];
                        for term in (0..labels).map(|label| w_at(label, f) * dz_at(label, b)) {
                            *truth = (truth.0 + term, truth.1 + term.abs(), truth.2 + 1);
                        }
                    }
                }
            }
            for (i, (got, (truth, size, sums))) in dx.iter().zip(dx_truth).enumerate() {
                assert_sum(*got, truth, size, sums, &format!("dx {i}"));
            }
        }
    }
}
