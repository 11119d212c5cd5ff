//! The second half of building a token cache: labels get their final ids once all documents are read.

use super::build::{Build, Found, Read};
use super::labels::LabelMap;
use super::layout::SplitName;
use super::open::FileLines;
use super::split::push_sorted_unique;
use super::summary::Summary;
use super::token_cache::{CacheWriter, Part};
use super::tokenizer::Tokenizer;
use crate::error::Result;

impl Build<'_> {
    /// The final label map, and the final id of each provisional one (`u32::MAX` where a fixed map has no use for it).
    pub(super) fn final_labels(&self, found: &Found, splits: &[Read]) -> (LabelMap, Vec<u32>) {
        let names = if found.growing {
            let largest = splits.iter().flat_map(|split| &split.labels).max();
            &LabelMap::numbers(largest.map_or(0, |label| label + 1))
        } else {
            &found.names
        };
        match self.fixed {
            None if found.open => names.sorted(),
            None => (names.clone(), (0..names.len() as u32).collect()),
            Some(fixed) => {
                let mut map = fixed.clone();
                let mut ids = vec![u32::MAX; names.len()];
                for &label in splits.iter().flat_map(|split| &split.labels) {
                    let id = &mut ids[label as usize];
                    if *id == u32::MAX {
                        *id = map.insert(names.name(label));
                    }
                }
                (map, ids)
            }
        }
    }

    /// Reads the (test row, column) pairs and gives them as sorted (row, label id).
    pub(super) fn filter(&self, found: &Found, splits: &[Read], ids: &[u32]) -> Result<Vec<[u32; 2]>> {
        let test = splits.iter().find(|split| split.name == SplitName::Test);
        let (Some(path), Some(test)) = (&self.files.filter, test) else { return Ok(Vec::new()) };
        let rows = test.summary.documents;
        let mut pairs = Vec::new();
        let mut lines = FileLines::open(path)?;
        loop {
            let numbers: Vec<Option<u64>> = match lines.next_line()? {
                None => break,
                Some(line) if line.trim().is_empty() => continue,
                Some(line) => line.split_ascii_whitespace().map(|number| number.parse().ok()).collect(),
            };
            let [Some(row), Some(column)] = numbers[..] else {
                return Err(lines.error("expected `row label`, two numbers from 0"));
            };
            if row >= rows {
                return Err(lines.error(format!("row {row} is outside the {rows} test documents (from 0)")));
            }
            match usize::try_from(column).ok().and_then(|column| ids.get(column)) {
                // A label that is in no document and not in the model cannot be predicted.
                Some(&u32::MAX) => {}
                Some(&id) => pairs.push([row as u32, id]),
                None if found.growing => {}
                None => {
                    let columns = ids.len();
                    return Err(
                        lines.error(format!("label {column} is outside the {columns} labels (from 0)"))
                    );
                }
            }
        }
        pairs.sort_unstable();
        pairs.dedup();
        Ok(pairs)
    }

    /// Writes the labels of all splits under their final ids, and counts what was read.
    pub(super) fn write_labels(
        &self,
        writer: &mut CacheWriter<'_>,
        splits: &mut [Read],
        labels: &LabelMap,
        ids: &[u32],
        filter_pairs: usize,
        tokenizer: &Tokenizer,
    ) -> Result<Summary> {
        let mut in_train = vec![false; labels.len()];
        let mut elsewhere = vec![false; labels.len()];
        for split in &mut *splits {
            let mut flat = Vec::with_capacity(split.labels.len());
            let mut offsets = Vec::with_capacity(split.counts.len() + 1);
            offsets.push(0_u64);
            let mut rest = &split.labels[..];
            for &count in &split.counts {
                let (document, after) = rest.split_at(count as usize);
                rest = after;
                let document = document.iter().map(|&label| ids[label as usize]);
                split.summary.duplicate_labels += push_sorted_unique(&mut flat, document);
                offsets.push(flat.len() as u64);
            }
            split.labels = Vec::new();
            split.summary.positives = flat.len() as u64;
            let seen = if split.name == SplitName::Train { &mut in_train } else { &mut elsewhere };
            flat.iter().for_each(|&label| seen[label as usize] = true);
            writer.part(split.name, Part::TokenOffsets, bytemuck::cast_slice(&split.token_offsets))?;
            writer.part(split.name, Part::Labels, bytemuck::cast_slice(&flat))?;
            writer.part(split.name, Part::LabelOffsets, bytemuck::cast_slice(&offsets))?;
        }
        let count = |wanted: fn(bool, bool) -> bool| {
            in_train.iter().zip(&elsewhere).filter(|&(&t, &e)| wanted(t, e)).count() as u64
        };
        let summary =
            |name| splits.iter().find(|split| split.name == name).map(|split| split.summary.clone());
        Ok(Summary {
            layout: self.files.layout,
            train: summary(SplitName::Train),
            dev: summary(SplitName::Dev),
            test: summary(SplitName::Test),
            labels: labels.len() as u64,
            labels_in_train: count(|train, _| train),
            labels_only_elsewhere: count(|train, elsewhere| elsewhere && !train),
            labels_unused: count(|train, elsewhere| !elsewhere && !train),
            labels_added: (labels.len() - self.fixed.map_or(labels.len(), LabelMap::len)) as u64,
            vocabulary: u64::from(tokenizer.vocabulary()),
            filter_pairs: filter_pairs as u64,
        })
    }
}
