//! A block of a fixed fan-in layer with made-up numbers, and what it should compute, in f64.

use regrow::kernels::fan_in_dlogits::{Block, Loss};
use regrow::kernels::optimizer::{Rates, Rule};
use regrow::kernels::{columns_of, index_words};

use super::device::Numbers;

/// The block's tensors as on the host.
#[derive(Clone)]
pub struct Layer {
    pub block: Block,
    pub features: usize,
    /// [D, columns], zero beyond the batch.
    pub x: Vec<f32>,
    /// [rows, F].
    pub weights: Vec<f32>,
    /// [index rows, 2 · index words].
    pub indices: Vec<u16>,
    /// [rows].
    pub bias: Vec<f32>,
    /// (label, sample), sorted; also labels of other blocks.
    pub positives: Vec<[u32; 2]>,
    /// First and second states of the weights, then of the biases.
    pub states: [Vec<f32>; 4],
}

/// Shapes that fit nothing: one of everything, odd sizes, partial groups and workgroups, several workgroups.
pub fn shapes() -> Vec<(Block, usize)> {
    let block = |rows, first_label, fan_in, group, batch| Block {
        rows,
        first_label,
        fan_in,
        group,
        batch,
        precision: Default::default(),
    };
    vec![
        (block(1, 0, 1, 1, 1), 3),
        (block(7, 5, 3, 1, 7), 10),
        (block(7, 4, 3, 4, 16), 3),
        (block(33, 100, 6, 4, 16), 70),
        (block(65, 8, 33, 4, 33), 65),
        (block(130, 0, 7, 1, 33), 9),
    ]
}

impl Layer {
    pub fn new((block, features): (Block, usize), seed: u64) -> Self {
        let mut numbers = Numbers::new(seed);
        let Block { rows, fan_in, batch, .. } = block;
        let columns = columns_of(batch);
        let mut x = numbers.floats(features * columns, 1.0);
        x.chunks_mut(columns).for_each(|x| x[batch..].fill(0.0));
        let mut indices = Vec::new();
        for _ in 0..block.index_rows() {
            let row = numbers.different(fan_in, features);
            indices.extend(row.into_iter().map(|index| index as u16));
            indices.resize(indices.len().next_multiple_of(2), 0);
        }
        assert_eq!(indices.len(), block.index_rows() * index_words(fan_in) * 2);
        let mut layer = Self {
            block,
            features,
            x,
            weights: numbers.floats(rows * fan_in, 1.0),
            indices,
            bias: numbers.floats(rows, 1.0),
            positives: Vec::new(),
            states: [rows * fan_in, rows * fan_in, rows, rows].map(|count| numbers.floats(count, 0.1)),
        };
        for second in [1, 3] {
            layer.states[second].iter_mut().for_each(|v| *v = v.abs() + 0.01);
        }
        // None, one, all samples, or some; and labels before and after the block.
        for label in block.first_label.saturating_sub(1)..block.first_label + rows + 2 {
            for sample in 0..batch {
                let positive = match label % 4 {
                    0 => false,
                    1 => sample == label % batch,
                    2 => true,
                    _ => numbers.below(3) == 0,
                };
                if positive {
                    layer.positives.push([label as u32, sample as u32]);
                }
            }
        }
        layer
    }

    /// Small integers everywhere: every sum is exact, and equal scores are common.
    pub fn integers(shape: (Block, usize), seed: u64) -> Self {
        let mut layer = Self::new(shape, seed);
        let mut numbers = Numbers::new(seed + 1);
        layer.weights = numbers.integers(layer.weights.len(), 2);
        layer.bias = numbers.integers(layer.bias.len(), 2);
        for x in &mut layer.x {
            *x = (*x * 3.0).trunc() + 0.0;
        }
        layer
    }

    pub fn columns(&self) -> usize {
        columns_of(self.block.batch)
    }

    pub fn index(&self, row: usize, slot: usize) -> usize {
        let words = index_words(self.block.fan_in);
        usize::from(self.indices[row / self.block.group * words * 2 + slot])
    }

    /// [rows, columns], zero beyond the batch.
    pub fn logits(&self) -> Vec<f64> {
        let columns = self.columns();
        let mut z = vec![0.0; self.block.rows * columns];
        for row in 0..self.block.rows {
            for sample in 0..self.block.batch {
                z[row * columns + sample] = f64::from(self.bias[row]);
                for slot in 0..self.block.fan_in {
                    let w = f64::from(self.weights[row * self.block.fan_in + slot]);
                    z[row * columns + sample] +=
                        w * f64::from(self.x[self.index(row, slot) * columns + sample]);
                }
            }
        }
        z
    }

    /// Loss of each label over the samples, and the gradients [rows, columns] of the logits.
    pub fn loss(&self, loss: Loss) -> (Vec<f64>, Vec<f64>) {
        let (losses, gradients) = self.losses(loss);
        (losses.chunks(self.columns()).map(|row| row.iter().sum()).collect(), gradients)
    }

    /// Loss of each label and sample, and the gradients of the logits, both [rows, columns].
    pub fn losses(&self, loss: Loss) -> (Vec<f64>, Vec<f64>) {
        let columns = self.columns();
        let mut gradients = self.logits();
        let mut losses = vec![0.0; gradients.len()];
        for (i, g) in gradients.iter_mut().enumerate() {
            let (row, sample) = (i / columns, i % columns);
            if sample < self.block.batch {
                let pair = [(self.block.first_label + row) as u32, sample as u32];
                (losses[i], *g) = loss_of(loss, *g, self.positives.binary_search(&pair).is_ok());
            }
        }
        (losses, gradients)
    }

    /// [D, columns]: what `dlogits` send back to the features.
    pub fn feature_gradient(&self, dlogits: &[f64]) -> Vec<f64> {
        let columns = self.columns();
        let mut dx = vec![0.0; self.features * columns];
        for row in 0..self.block.rows {
            for slot in 0..self.block.fan_in {
                let w = f64::from(self.weights[row * self.block.fan_in + slot]);
                for sample in 0..columns {
                    dx[self.index(row, slot) * columns + sample] += w * dlogits[row * columns + sample];
                }
            }
        }
        dx
    }

    /// [rows, F]: gradient of the weights.
    pub fn weight_gradient(&self, dlogits: &[f64]) -> Vec<f64> {
        let columns = self.columns();
        let of = |(row, slot): (usize, usize)| {
            let x = &self.x[self.index(row, slot) * columns..][..columns];
            x.iter().zip(&dlogits[row * columns..]).map(|(x, g)| f64::from(*x) * g).sum()
        };
        let slots = |row| (0..self.block.fan_in).map(move |slot| (row, slot));
        (0..self.block.rows).flat_map(slots).map(of).collect()
    }
}

/// (loss, gradient) of a logit by the textbook, in a form that is exact for large logits too.
pub fn loss_of(loss: Loss, z: f64, positive: bool) -> (f64, f64) {
    let sign = if positive { -1.0 } else { 1.0 };
    let u = z * sign;
    match loss {
        Loss::Bce => (u.max(0.0) + (-u.abs()).exp().ln_1p(), sign / (1.0 + (-u).exp())),
        Loss::SquaredHinge => {
            let margin = (1.0 + u).max(0.0);
            (margin * margin, 2.0 * sign * margin)
        }
    }
}

/// An optimizer's numbers as people write them.
#[derive(Clone, Copy, Debug)]
pub struct Hyper {
    pub learning_rate: f64,
    pub weight_decay: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    /// From 1.
    pub step: i32,
}

impl Hyper {
    pub const SAMPLE: Self =
        Self { learning_rate: 0.05, weight_decay: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, step: 3 };

    pub fn rates(self, rule: Rule) -> Rates {
        let adam = matches!(rule, Rule::Adam | Rule::AdamW);
        let correction = |beta: f64| if adam { 1.0 - beta.powi(self.step) } else { 1.0 };
        Rates {
            rate: (self.learning_rate / correction(self.beta1)) as f32,
            decay: if rule == Rule::AdamW { 0.0 } else { self.weight_decay as f32 },
            keep: if rule == Rule::AdamW {
                (1.0 - self.learning_rate * self.weight_decay) as f32
            } else {
                1.0
            },
            beta1: self.beta1 as f32,
            one_minus_beta1: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            one_minus_beta2: (1.0 - self.beta2) as f32,
            epsilon: self.epsilon as f32,
            root_scale: (1.0 / correction(self.beta2).sqrt()) as f32,
        }
    }

    /// (parameter, first state, second state) after one step, as the optimizers' papers have it.
    pub fn step(self, rule: Rule, p: f64, g: f64, m: f64, v: f64) -> [f64; 3] {
        let Self { learning_rate, weight_decay, beta1, beta2, epsilon, step } = self;
        let decayed = if rule == Rule::AdamW { p - learning_rate * weight_decay * p } else { p };
        let g = if rule == Rule::AdamW { g } else { g + weight_decay * p };
        match rule {
            Rule::Sgd => [p - learning_rate * g, m, v],
            Rule::Momentum => [p - learning_rate * (beta1 * m + g), beta1 * m + g, v],
            Rule::Adam | Rule::AdamW => {
                let (m, v) = (beta1 * m + (1.0 - beta1) * g, beta2 * v + (1.0 - beta2) * g * g);
                let (mhat, vhat) = (m / (1.0 - beta1.powi(step)), v / (1.0 - beta2.powi(step)));
                [decayed - learning_rate * mhat / (vhat.sqrt() + epsilon), m, v]
            }
        }
    }
}
