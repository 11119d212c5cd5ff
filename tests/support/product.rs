//! A product of two matrices, its truth in f64.

use regrow::device::dense::Strided;
use regrow::kernels::matmul::Layout;

use super::device::Numbers;

/// Operands, bias and what c holds before.
pub struct Case {
    pub sizes: [usize; 3],
    pub layout: Layout,
    pub a: Vec<f32>,
    pub b: Vec<f32>,
    pub bias: Vec<f32>,
    pub before: Vec<f32>,
}

impl Case {
    pub fn new(seed: u64, sizes: [usize; 3], layout: Layout, size_of_a: f32) -> Self {
        let [m, n, k] = sizes;
        let mut numbers = Numbers::new(seed);
        let (a, b) = (numbers.floats(m * k, size_of_a), numbers.floats(k * n, 1.0));
        let (bias, before) = (numbers.floats(n, 1.0), numbers.floats(m * n, size_of_a));
        Self { sizes, layout, a, b, bias, before }
    }

    pub fn a_at(&self, i: usize, t: usize) -> f64 {
        let [m, _, k] = self.sizes;
        f64::from(if self.layout == Layout::Tn { self.a[t * m + i] } else { self.a[i * k + t] })
    }

    pub fn b_at(&self, t: usize, j: usize) -> f64 {
        let [_, n, k] = self.sizes;
        f64::from(if self.layout == Layout::Nt { self.b[j * k + t] } else { self.b[t * n + j] })
    }

    /// Every element of a function of row and column.
    pub fn every(&self, element: impl Fn(usize, usize) -> f64) -> Vec<f64> {
        let [m, n, _] = self.sizes;
        (0..m * n).map(|at| element(at / n, at % n)).collect()
    }

    pub fn product(&self) -> Vec<f64> {
        self.every(|i, j| (0..self.sizes[2]).map(|t| self.a_at(i, t) * self.b_at(t, j)).sum())
    }

    /// Σ |a| |b|: what an error of the operands is a share of.
    pub fn magnitudes(&self) -> Vec<f64> {
        self.every(|i, j| (0..self.sizes[2]).map(|t| (self.a_at(i, t) * self.b_at(t, j)).abs()).sum())
    }

    /// Where the operands lie, for the CPU's products.
    pub fn strided(&self) -> (Strided<'_>, Strided<'_>) {
        let [m, n, k] = self.sizes;
        let a = if self.layout == Layout::Tn { [1, m] } else { [k, 1] };
        let b = if self.layout == Layout::Nt { [1, k] } else { [n, 1] };
        ((&self.a, a), (&self.b, b))
    }
}
