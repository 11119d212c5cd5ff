//! The documents of a split as token ids and label ids, mapped from the cache file or held in memory.

use std::ops::Range;
use std::sync::Arc;

use memmap2::Mmap;

use super::features::FeatureTable;
use crate::error::{Error, Result};

/// N documents: for each its token ids and its label ids. Cheap to clone.
#[derive(Clone)]
pub struct Split {
    storage: Arc<Storage>,
    features: Option<FeatureTable>,
    /// The stored documents that belong to the split, in its order; none: all. \[N\]
    rows: Option<Arc<[u32]>>,
}

enum Storage {
    Mapped { map: Arc<Mmap>, at: [Range<usize>; 4] },
    Owned { tokens: Vec<u32>, token_offsets: Vec<u64>, labels: Vec<u32>, label_offsets: Vec<u64> },
}

impl Split {
    /// A split in memory, from (token ids, label ids) of each document. Labels are sorted and made unique.
    pub fn from_documents<T: AsRef<[u32]>, L: AsRef<[u32]>>(
        documents: impl IntoIterator<Item = (T, L)>,
    ) -> Self {
        let (mut tokens, mut token_offsets) = (Vec::new(), vec![0]);
        let (mut labels, mut label_offsets) = (Vec::new(), vec![0]);
        for (document_tokens, document_labels) in documents {
            tokens.extend_from_slice(document_tokens.as_ref());
            token_offsets.push(tokens.len() as u64);
            push_sorted_unique(&mut labels, document_labels.as_ref().iter().copied());
            label_offsets.push(labels.len() as u64);
        }
        Self {
            storage: Arc::new(Storage::Owned { tokens, token_offsets, labels, label_offsets }),
            features: None,
            rows: None,
        }
    }

    /// A split without documents.
    #[must_use]
    pub fn empty() -> Self {
        Self::from_documents::<[u32; 0], [u32; 0]>([])
    }

    /// A split over byte ranges of a mapped file (tokens, token offsets, labels, label offsets); `None` unless they are
    /// aligned and their offsets ascend from 0 to the ends and all labels are below `limit`.
    pub(super) fn from_map(map: &Arc<Mmap>, at: [Range<usize>; 4], limit: usize) -> Option<Self> {
        let bytes = |i: usize| map.get(at[i].clone());
        let tokens: &[u32] = bytemuck::try_cast_slice(bytes(0)?).ok()?;
        let token_offsets: &[u64] = bytemuck::try_cast_slice(bytes(1)?).ok()?;
        let labels: &[u32] = bytemuck::try_cast_slice(bytes(2)?).ok()?;
        let label_offsets: &[u64] = bytemuck::try_cast_slice(bytes(3)?).ok()?;
        let ascends = |offsets: &[u64], end: usize| {
            offsets.first() == Some(&0) && offsets.last() == Some(&(end as u64)) && offsets.is_sorted()
        };
        let sound = token_offsets.len() == label_offsets.len()
            && u32::try_from(token_offsets.len()).is_ok()
            && ascends(token_offsets, tokens.len())
            && ascends(label_offsets, labels.len())
            && labels.iter().all(|&label| (label as usize) < limit);
        sound.then(|| Self {
            storage: Arc::new(Storage::Mapped { map: Arc::clone(map), at }),
            features: None,
            rows: None,
        })
    }

    /// The documents of these numbers, in this order, without a copy of them: 4 bytes a document.
    ///
    /// # Panics
    /// If a number is N or more.
    #[must_use]
    pub fn select(&self, documents: &[u32]) -> Self {
        assert!(documents.iter().all(|document| (*document as usize) < self.len()), "documents of the split");
        let rows = documents.iter().map(|document| self.row(*document as usize) as u32).collect();
        Self { rows: Some(rows), ..self.clone() }
    }

    /// The same documents with precomputed features.
    ///
    /// # Errors
    /// [`Error::Config`] when the table has another number of rows; `name` is the split's.
    pub fn with_features(self, table: FeatureTable, name: &str) -> Result<Self> {
        let documents = self.token_offsets().len() - 1;
        if table.len() != documents {
            let message = format!(
                "the features of {name} have {} rows, but there are {documents} documents",
                table.len()
            );
            return Err(Error::config("encoder.features", message));
        }
        Ok(Self { features: Some(table), ..self })
    }

    /// Checks that the split has features of this width; `name` is its name.
    ///
    /// # Errors
    /// [`Error::Config`] when it has none, or others.
    pub fn check_features(&self, width: usize, name: &str) -> Result<()> {
        let message = match &self.features {
            Some(table) if table.width() == width => return Ok(()),
            Some(table) => {
                let found = table.width();
                format!("the features of {name} have rows of {found} numbers, but the model takes {width}")
            }
            None => format!("{name} has no features, but the model takes {width} a document"),
        };
        Err(Error::config("encoder.features", message))
    }

    /// Appends the precomputed features of a document to `out`, if there are any.
    ///
    /// # Panics
    /// If `document` is N or more.
    pub fn append_features(&self, document: usize, out: &mut Vec<f32>) {
        if let Some(table) = &self.features {
            table.append_row(self.row(document), out);
        }
    }

    /// Where a document of the split is stored.
    fn row(&self, document: usize) -> usize {
        self.rows.as_ref().map_or(document, |rows| rows[document] as usize)
    }

    /// Number of documents N.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.as_ref().map_or(self.token_offsets().len() - 1, |rows| rows.len())
    }

    /// Whether there are no documents.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Token ids of a document, in the order of the text.
    ///
    /// # Panics
    /// If `document` is N or more.
    #[must_use]
    pub fn tokens(&self, document: usize) -> &[u32] {
        let (offsets, row) = (self.token_offsets(), self.row(document));
        &self.all_tokens()[offsets[row] as usize..offsets[row + 1] as usize]
    }

    /// Label ids of a document, ascending, each once.
    ///
    /// # Panics
    /// If `document` is N or more.
    #[must_use]
    pub fn labels(&self, document: usize) -> &[u32] {
        let (offsets, row) = (self.label_offsets(), self.row(document));
        &self.all_labels()[offsets[row] as usize..offsets[row + 1] as usize]
    }

    /// (document, label) pairs of all documents.
    #[must_use]
    pub fn positives(&self) -> usize {
        (0..self.len()).map(|document| self.labels(document).len()).sum()
    }

    /// Token ids of all stored documents, one after the other.
    fn all_tokens(&self) -> &[u32] {
        self.u32s(0)
    }

    /// Where each stored document's tokens begin in [`Split::all_tokens`].
    fn token_offsets(&self) -> &[u64] {
        self.u64s(1)
    }

    /// Label ids of all stored documents, one after the other.
    fn all_labels(&self) -> &[u32] {
        self.u32s(2)
    }

    /// Where each stored document's labels begin in [`Split::all_labels`].
    fn label_offsets(&self) -> &[u64] {
        self.u64s(3)
    }

    /// A number that differs, but for chance, between splits with other tokens, labels or features, or that are drawn
    /// otherwise from the same documents.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for words in [self.all_tokens(), self.all_labels()] {
            hash.update(bytemuck::cast_slice(words));
        }
        for offsets in [self.token_offsets(), self.label_offsets()] {
            hash.update(bytemuck::cast_slice(offsets));
        }
        if let Some(rows) = &self.rows {
            hash.update(bytemuck::cast_slice(rows));
        }
        if let Some(table) = &self.features {
            hash.update(&(table.width() as u64).to_le_bytes());
            hash.update(table.bytes());
        }
        hash.digest()
    }

    fn u32s(&self, part: usize) -> &[u32] {
        match &*self.storage {
            // Alignment and length were checked when the split was made, so the cast cannot fail.
            Storage::Mapped { map, at } => bytemuck::cast_slice(&map[at[part].clone()]),
            Storage::Owned { tokens, labels, .. } => {
                if part == 0 {
                    tokens
                } else {
                    labels
                }
            }
        }
    }

    fn u64s(&self, part: usize) -> &[u64] {
        match &*self.storage {
            Storage::Mapped { map, at } => bytemuck::cast_slice(&map[at[part].clone()]),
            Storage::Owned { token_offsets, label_offsets, .. } => {
                if part == 1 {
                    token_offsets
                } else {
                    label_offsets
                }
            }
        }
    }
}

impl std::fmt::Debug for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Split").field("documents", &self.len()).field("labels", &self.positives()).finish()
    }
}

/// The same documents with the same tokens and labels.
impl PartialEq for Split {
    fn eq(&self, other: &Self) -> bool {
        let same = |d: usize| self.tokens(d) == other.tokens(d) && self.labels(d) == other.labels(d);
        self.len() == other.len() && (0..self.len()).all(same)
    }
}

/// Appends `labels` to `flat`, sorted and each once; gives how many were dropped.
pub(super) fn push_sorted_unique(flat: &mut Vec<u32>, labels: impl Iterator<Item = u32>) -> u64 {
    let start = flat.len();
    flat.extend(labels);
    let pushed = flat.len() - start;
    flat[start..].sort_unstable();
    let mut kept = start;
    for i in start..flat.len() {
        if i == start || flat[i] != flat[kept - 1] {
            flat[kept] = flat[i];
            kept += 1;
        }
    }
    flat.truncate(kept);
    (pushed - (kept - start)) as u64
}

/// How many documents of `split` have each label. \[`labels`\]
///
/// # Panics
/// If the split has a label that is not below `labels`.
#[must_use]
pub fn label_frequencies(split: &Split, labels: usize) -> Vec<u32> {
    let mut counts = vec![0; labels];
    for label in (0..split.len()).flat_map(|document| split.labels(document)) {
        counts[*label as usize] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::super::features::FEATURES;
    use super::*;
    use crate::files::{Dtype, TensorSpec, write_tensors};

    #[test]
    fn documents_in_memory() {
        let split =
            Split::from_documents([(vec![5, 6, 5], vec![3, 1, 3]), (vec![], vec![]), (vec![7], vec![1])]);
        assert_eq!((split.len(), split.tokens(0), split.labels(0)), (3, &[5, 6, 5][..], &[1, 3][..]));
        assert_eq!((split.tokens(1).len(), split.labels(1).len(), split.tokens(2)), (0, 0, &[7][..]));
        assert_eq!(label_frequencies(&split, 5), [0, 2, 0, 1, 0]);
        let some = split.select(&[2, 0]);
        assert_eq!((some.len(), some.tokens(0), some.labels(1)), (2, &[7][..], &[1, 3][..]));
        assert_eq!((label_frequencies(&some, 5), some.positives()), (vec![0, 2, 0, 1, 0], 3));
        assert_eq!(some.select(&[1]), Split::from_documents([(vec![5, 6, 5], vec![1, 3])]));
        assert!(some.digest() != split.digest() && some.digest() != split.select(&[0, 2]).digest());
        assert!(Split::empty().is_empty());
        let mut flat = vec![9];
        assert_eq!(push_sorted_unique(&mut flat, [2, 9, 2, 2].into_iter()), 2);
        assert_eq!(flat, [9, 2, 9]);
    }

    #[test]
    fn features_go_with_their_documents() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.safetensors");
        let specs = [TensorSpec::new(FEATURES, Dtype::F32, [3, 2])];
        let numbers: [f32; 6] = [0.0, 1.0, 10.0, 11.0, 20.0, 21.0];
        write_tensors(&path, &[].into(), &specs, &mut |_, out| {
            out.write_all(bytemuck::bytes_of(&numbers)).map_err(Error::io("writing", "train"))
        })
        .unwrap();
        let split = Split::from_documents([([0], [0]), ([1], [1]), ([2], [2])]);
        let split = split.with_features(FeatureTable::open(&path).unwrap(), "train").unwrap();
        let mut found = Vec::new();
        let some = split.select(&[2, 0]);
        (0..2).for_each(|document| some.append_features(document, &mut found));
        assert_eq!(found, [20.0, 21.0, 0.0, 1.0]);
        some.check_features(2, "train").unwrap();
    }
}
