//! Which label each row of the classifier is. Labels that share their features are neighbours among the rows, and label
//! ids stay what they are everywhere else: in data, metrics, files and clusters.

use super::devices::Devices;
use crate::classifier::Ranked;
use crate::error::{Error, Result};

/// A permutation of the L labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowOrder {
    /// \[L\]
    label_of_row: Vec<u32>,
    /// \[L\]
    row_of_label: Vec<u32>,
}

impl RowOrder {
    /// The order in which row r is label `label_of_row[r]`.
    ///
    /// # Errors
    /// [`Error::Usage`] unless every label stands there once.
    pub fn new(label_of_row: Vec<u32>) -> Result<Self> {
        const NONE: u32 = u32::MAX;
        let mut row_of_label = vec![NONE; label_of_row.len()];
        for (row, label) in label_of_row.iter().enumerate() {
            match row_of_label.get_mut(*label as usize) {
                Some(place) if *place == NONE => *place = row as u32,
                Some(_) => return Err(Error::Usage(format!("label {label} is in two rows"))),
                None => {
                    let count = label_of_row.len();
                    return Err(Error::Usage(format!("row {row} is label {label} of {count} labels")));
                }
            }
        }
        Ok(Self { label_of_row, row_of_label })
    }

    /// The label of each row. \[L\]
    #[must_use]
    pub fn label_of_row(&self) -> &[u32] {
        &self.label_of_row
    }

    /// The row of a label; none for a label that the model does not have.
    #[must_use]
    pub fn row_of(&self, label: u32) -> Option<u32> {
        self.row_of_label.get(label as usize).copied()
    }

    /// (row, sample) for (label, sample), sorted as the classifier wants them.
    pub(super) fn rows_of_pairs(&self, pairs: &[[u32; 2]]) -> Vec<[u32; 2]> {
        let row_of = |[label, sample]: &[u32; 2]| self.row_of(*label).map(|row| [row, *sample]);
        let mut rows: Vec<[u32; 2]> = pairs.iter().filter_map(row_of).collect();
        rows.sort_unstable();
        rows
    }

    /// (label, score) for (row, score), best first; equal scores by lower label.
    fn labels_of(&self, mut list: Vec<(u32, f32)>) -> Vec<(u32, f32)> {
        list.iter_mut().for_each(|(row, _)| *row = self.label_of_row[*row as usize]);
        let order = |a: &(u32, f32), b: &(u32, f32)| {
            b.1.partial_cmp(&a.1).unwrap_or(std::cmp::Ordering::Equal).then(a.0.cmp(&b.0))
        };
        list.sort_by(order);
        list
    }
}

/// A batch whose ranking is on its way.
pub struct RankedLabels<'m> {
    pub(super) ranked: Ranked,
    pub(super) order: Option<&'m RowOrder>,
}

impl RankedLabels<'_> {
    /// Waits for the ranking: for each document (label, score), best first; equal scores by lower label. Of labels with
    /// the score of the last one listed, those in lower rows are listed.
    ///
    /// # Errors
    /// [`Error::Device`] when the device is lost.
    pub fn collect<'d>(self, devices: impl Into<Devices<'d>>) -> Result<Vec<Vec<(u32, f32)>>> {
        let lists = self.ranked.collect(devices.into().classifier)?;
        Ok(match self.order {
            Some(order) => lists.into_iter().map(|list| order.labels_of(list)).collect(),
            None => lists,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::RowOrder;

    #[test]
    fn an_order_is_a_permutation() {
        assert!(RowOrder::new(vec![1, 1, 0]).unwrap_err().to_string().contains("label 1 is in two rows"));
        assert!(RowOrder::new(vec![1, 3, 0]).unwrap_err().to_string().contains("row 1 is label 3 of 3"));
        let order = RowOrder::new(vec![2, 0, 1]).unwrap();
        assert_eq!([0, 1, 2, 3].map(|label| order.row_of(label)), [Some(1), Some(2), Some(0), None]);
    }

    /// By hand: rows are labels 2, 0, 1.
    #[test]
    fn pairs_are_sorted_by_row_and_equal_scores_by_label() {
        let order = RowOrder::new(vec![2, 0, 1]).unwrap();
        assert_eq!(
            order.rows_of_pairs(&[[0, 1], [1, 0], [2, 0], [2, 1], [7, 0]]),
            [[0, 0], [0, 1], [1, 1], [2, 0]]
        );
        let list = vec![(2, 0.5), (0, 0.0), (1, -0.0)];
        assert_eq!(order.labels_of(list), [(1, 0.5), (0, -0.0), (2, 0.0)]);
    }
}
