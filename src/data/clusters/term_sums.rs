//! Sums of sparse rows over the vocabulary, for K sums at once.

/// K sums over V terms: dense room that is cleared by what was touched, so that small sums cost little.
pub(super) struct TermSums<const K: usize> {
    /// The K sums of a term lie together: a row is compared with all of them in one walk. \[V\]
    values: Vec<[f32; K]>,
    /// Terms whose sums are not all zero, in the order of their first weight.
    touched: Vec<u32>,
}

impl<const K: usize> TermSums<K> {
    /// Zeros over `terms` terms.
    pub(super) fn new(terms: usize) -> Self {
        Self { values: vec![[0.0; K]; terms], touched: Vec::new() }
    }

    /// Adds `weight`, which is above 0, to sum `k` of a term.
    pub(super) fn add(&mut self, k: usize, term: u32, weight: f32) {
        let sums = &mut self.values[term as usize];
        if *sums == [0.0; K] {
            self.touched.push(term);
        }
        sums[k] += weight;
    }

    /// Adds a sparse row to sum `k`.
    pub(super) fn add_row(&mut self, k: usize, (terms, weights): (&[u32], &[f32])) {
        terms.iter().zip(weights).for_each(|(term, weight)| self.add(k, *term, *weight));
    }

    /// Adds all sums of another.
    pub(super) fn add_all(&mut self, other: &Self) {
        for &term in &other.touched {
            let sums = &mut self.values[term as usize];
            if *sums == [0.0; K] {
                self.touched.push(term);
            }
            let others = &other.values[term as usize];
            sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
        }
    }

    /// The inner products of a sparse row with the K sums.
    pub(super) fn products(&self, (terms, weights): (&[u32], &[f32])) -> [f32; K] {
        let mut products = [0.0; K];
        for (term, weight) in terms.iter().zip(weights) {
            let sums = &self.values[*term as usize];
            products.iter_mut().zip(sums).for_each(|(product, sum)| *product += weight * sum);
        }
        products
    }

    /// The Euclidean lengths of the K sums.
    pub(super) fn lengths(&self) -> [f64; K] {
        let mut squares = [0.0; K];
        for &term in &self.touched {
            let sums = &self.values[term as usize];
            squares.iter_mut().zip(sums).for_each(|(square, sum)| *square += f64::from(*sum).powi(2));
        }
        squares.map(f64::sqrt)
    }

    /// Scales each sum to length 1; a sum of nothing stays zero.
    pub(super) fn normalize(&mut self) {
        let scales = self.lengths().map(|length| if length > 0.0 { (1.0 / length) as f32 } else { 0.0 });
        for &term in &self.touched {
            self.values[term as usize].iter_mut().zip(scales).for_each(|(sum, scale)| *sum *= scale);
        }
    }

    /// The terms that are not zero with their sums, in no particular order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u32, [f32; K])> {
        self.touched.iter().map(|term| (*term, self.values[*term as usize]))
    }

    /// Back to zeros.
    pub(super) fn clear(&mut self) {
        self.touched.drain(..).for_each(|term| self.values[term as usize] = [0.0; K]);
    }
}
