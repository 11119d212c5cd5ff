//! Pairs that no ranking may contain: some data sets list (document, label) pairs that are true by construction,
//! such as a page that links to itself, and take them out of every prediction.

/// A set of (row, label) pairs, stored row by row; only rows that have a pair take memory.
///
/// ```
/// use regrow::evaluate::Filter;
///
/// let filter = Filter::new(vec![(7, 30), (2, 5), (7, 1), (7, 30)]);
/// assert_eq!(filter.of(7), [1, 30]);
/// assert!(filter.of(3).is_empty());
/// assert!(filter.contains(2, 5));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Rows that have a pair, ascending.
    rows: Vec<u32>,
    /// `labels[starts[i]..starts[i + 1]]` belong to `rows[i]`; one longer than `rows`, empty if there is no pair.
    starts: Vec<usize>,
    labels: Vec<u32>,
}

impl Filter {
    /// Collects `(row, label)` pairs, in any order; repeated pairs count once.
    #[must_use]
    pub fn new(mut pairs: Vec<(u32, u32)>) -> Self {
        pairs.sort_unstable();
        pairs.dedup();
        let (mut rows, mut starts) = (Vec::new(), Vec::new());
        for (i, &(row, _)) in pairs.iter().enumerate() {
            if rows.last() != Some(&row) {
                rows.push(row);
                starts.push(i);
            }
        }
        starts.push(pairs.len());
        Self { rows, starts, labels: pairs.into_iter().map(|(_, label)| label).collect() }
    }

    /// The labels that the ranking of `row` may not contain, ascending.
    #[must_use]
    pub fn of(&self, row: usize) -> &[u32] {
        let found = u32::try_from(row).ok().and_then(|row| self.rows.binary_search(&row).ok());
        found.map_or(&[], |i| &self.labels[self.starts[i]..self.starts[i + 1]])
    }

    /// Whether the pair is in the set.
    #[must_use]
    pub fn contains(&self, row: usize, label: u32) -> bool {
        self.of(row).binary_search(&label).is_ok()
    }

    /// How many different pairs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no pair at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Filter;

    #[test]
    fn finds_exactly_its_pairs() {
        let filter = Filter::new(vec![(u32::MAX, 3), (0, 9), (0, 2), (5, 5), (0, 9)]);
        assert_eq!(filter.len(), 4);
        assert_eq!(filter.of(0), [2, 9]);
        assert_eq!(filter.of(5), [5]);
        assert_eq!(filter.of(u32::MAX as usize), [3]);
        assert!(filter.of(1).is_empty() && filter.of(usize::MAX).is_empty());
        assert!(filter.contains(0, 9) && !filter.contains(0, 5));
    }

    #[test]
    fn without_pairs_is_empty() {
        for filter in [Filter::new(Vec::new()), Filter::default()] {
            assert!(filter.is_empty() && filter.of(0).is_empty());
        }
    }
}
