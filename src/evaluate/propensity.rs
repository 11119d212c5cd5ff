//! Propensities: how likely a true label is to have been noted at all, as modelled by Jain, Prabhu and Varma (KDD
//! 2016). Rare labels are missed more often, so a hit on one counts for more in PSP, PSnDCG and PSR.

/// The inverse propensity of every label: `1 + C·(n + b)^(−a)` with `C = (ln N − 1)·(b + 1)^a`.
///
/// `train_frequency[l]` is n, the training documents with label l; `train_documents` is N. Usual constants are a =
/// 0.55, b = 1.5; 0.6 and 2.6 for Amazon data; 0.5 and 0.4 for Wikipedia. `b` must be above 0, or a label that never
/// occurs in training gets an infinite weight.
///
/// With fewer than e documents C would be negative and a hit could count less than nothing; it is then taken as 0,
/// so that every label weighs 1.
///
/// ```
/// use regrow::evaluate::inverse_propensities;
///
/// // ln 1000 − 1 = 5.9078; 5.9078 · 2.5^0.55 · (n + 1.5)^(−0.55) + 1
/// let inverse = inverse_propensities(&[0, 100], 1000, 0.55, 1.5);
/// assert!((inverse[0] - 8.8242).abs() < 1e-4);
/// assert!((inverse[1] - 1.7704).abs() < 1e-4);
/// ```
#[must_use]
pub fn inverse_propensities(train_frequency: &[u32], train_documents: u64, a: f64, b: f64) -> Vec<f64> {
    let propensities = Propensities::new(train_documents, a, b);
    train_frequency.iter().map(|&n| propensities.inverse(n)).collect()
}

/// The inverse propensity as a function of a label's training frequency: see [`inverse_propensities`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Propensities {
    a: f64,
    b: f64,
    c: f64,
}

impl Propensities {
    /// The model of a training set of so many documents.
    #[must_use]
    pub fn new(train_documents: u64, a: f64, b: f64) -> Self {
        let c = ((train_documents.max(1) as f64).ln() - 1.0).max(0.0) * (b + 1.0).powf(a);
        Self { a, b, c }
    }

    /// Of a label with `n` training documents.
    #[must_use]
    pub fn inverse(self, n: u32) -> f64 {
        1.0 + self.c * (f64::from(n) + self.b).powf(-self.a)
    }
}

#[cfg(test)]
mod tests {
    use super::inverse_propensities;

    #[test]
    fn of_tiny_sets_never_below_one() {
        for documents in 0..4 {
            for value in inverse_propensities(&[0, 1, 1000], documents, 0.55, 1.5) {
                assert!(value >= 1.0 && value.is_finite(), "{documents} documents: {value}");
            }
        }
    }
}
