//! The numbers of a trained classifier, counted in one walk over its mapped file: nothing grows with the labels except
//! the list of their frequencies.

use std::path::Path;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::files::{Dtype, TensorFile, TensorView};
use crate::kernels::storage::Storage;

/// Magnitudes are counted in bins of a hundredth of a decade from 10⁻¹² to 10⁴; what lies beyond is in the outer ones.
const PER_DECADE: f64 = 100.0;
const LOWEST_DECADE: f64 = -12.0;
const BINS: usize = 1600;
/// Bytes that a thread counts at once.
const PIECE: usize = 1 << 20;

const WEIGHTS: &str = "classifier.weights";
const INDICES: &str = "classifier.indices";

/// A classifier's numbers. Its file stays open for [`Classifier::signed`].
pub(super) struct Classifier {
    file: TensorFile,
    /// Counts of its weights.
    pub(super) weights: Tally,
    /// How features are used, if connections are sparse.
    pub(super) wiring: Option<Wiring>,
    /// Training documents of each label, falling. \[L\]
    pub(super) frequencies: Vec<u32>,
}

/// Counts of weights.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tally {
    /// All.
    pub(super) count: u64,
    /// Those that are exactly zero.
    pub(super) zeros: u64,
    /// The largest magnitude.
    pub(super) largest: f32,
    /// Those that are not zero, by magnitude.
    bins: Vec<u64>,
}

/// How the connections use the features.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wiring {
    /// Connections of each feature, falling. \[D\]
    pub(super) degrees: Vec<u64>,
    /// Rows of indices; fewer than labels where labels share one.
    pub(super) rows: u64,
    /// Rows that have an index twice.
    pub(super) repeating: u64,
}

impl Classifier {
    /// Reads the classifier of a model folder for `features` features; none if the folder has no weights yet, or a
    /// model without `classifier.weights`.
    ///
    /// # Errors
    /// [`Error::Artefact`] when the file is damaged; [`Error::Io`].
    pub(super) fn read(folder: &Path, features: usize) -> Result<Option<Self>> {
        let path = folder.join("model.safetensors");
        if !path.is_file() {
            return Ok(None);
        }
        let file = TensorFile::open(&path)?;
        file.verify()?;
        if !file.contains(WEIGHTS) {
            return Ok(None);
        }
        let weights = Tally::of(weights(&file)?);
        let wiring = if file.contains(INDICES) { Some(Wiring::read(&file, features)?) } else { None };
        let frequencies = falling_frequencies(&file)?;
        Ok(Some(Self { file, weights, wiring, frequencies }))
    }

    /// The shares of all weights that lie in `bins` equal bins from −`limit` to `limit`, exact zeros left out; what
    /// lies beyond is in none.
    ///
    /// # Errors
    /// As [`Classifier::read`].
    pub(super) fn signed(&self, limit: f64, bins: usize) -> Result<Vec<f64>> {
        let (bytes, storage) = weights(&self.file)?;
        let count = |piece: &[u8]| {
            let mut counts = vec![0_u64; bins];
            for weight in storage.numbers(piece).filter(|weight| *weight != 0.0) {
                let at = ((f64::from(weight) + limit) / (2.0 * limit) * bins as f64).floor();
                if (0.0..bins as f64).contains(&at) {
                    counts[at as usize] += 1;
                }
            }
            counts
        };
        let add = |mut a: Vec<u64>, b: Vec<u64>| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        };
        let counts = bytes.par_chunks(PIECE).map(count).reduce(|| vec![0; bins], add);
        let all = self.weights.count.max(1) as f64;
        Ok(counts.into_iter().map(|count| count as f64 / all).collect())
    }
}

/// The bytes of the weights, and how they are stored.
fn weights(file: &TensorFile) -> Result<(&[u8], Storage)> {
    let TensorView { dtype, bytes, .. } = file.get(WEIGHTS)?;
    match dtype.storage() {
        Some(storage) => Ok((bytes, storage)),
        None => {
            Err(Error::artefact(file.path(), format!("tensor {WEIGHTS} is {}, no weights", dtype.name())))
        }
    }
}

fn falling_frequencies(file: &TensorFile) -> Result<Vec<u32>> {
    const NAME: &str = "labels.train_frequency";
    if !file.contains(NAME) {
        return Ok(Vec::new());
    }
    let mut frequencies = file.u32s(NAME, &file.get(NAME)?.shape)?;
    frequencies.par_sort_unstable_by(|a, b| b.cmp(a));
    Ok(frequencies)
}

impl Tally {
    /// Counts stored numbers.
    fn of((bytes, storage): (&[u8], Storage)) -> Self {
        bytes
            .par_chunks(PIECE)
            .map(|piece| Self::of_piece(storage.numbers(piece)))
            .reduce(Self::empty, Self::plus)
    }

    fn empty() -> Self {
        Self { count: 0, zeros: 0, largest: 0.0, bins: vec![0; BINS] }
    }

    fn of_piece(numbers: impl Iterator<Item = f32>) -> Self {
        let mut tally = Self::empty();
        for weight in numbers {
            tally.count += 1;
            if weight == 0.0 {
                tally.zeros += 1;
            } else if weight.is_finite() {
                tally.largest = tally.largest.max(weight.abs());
                tally.bins[bin_of(weight)] += 1;
            }
        }
        tally
    }

    fn plus(mut self, other: Self) -> Self {
        self.count += other.count;
        self.zeros += other.zeros;
        self.largest = self.largest.max(other.largest);
        self.bins.iter_mut().zip(other.bins).for_each(|(a, b)| *a += b);
        self
    }

    /// The magnitude below which this share of the weights lies that are not zero: the middle of its bin, which is
    /// 1.2 % off at most. None if all are zero.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let all: u64 = self.bins.iter().sum();
        let wanted = (share * all as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        let bin = self.bins.iter().position(|count| {
            below += count;
            below >= wanted
        })?;
        Some(10f64.powf(LOWEST_DECADE + (bin as f64 + 0.5) / PER_DECADE))
    }

    /// Shares of all weights by magnitude, in bins of a tenth of a decade: the lower edge of each and its share.
    pub(super) fn by_magnitude(&self) -> impl Iterator<Item = (f64, f64)> {
        const TOGETHER: usize = 10;
        let all = self.count.max(1) as f64;
        self.bins.chunks(TOGETHER).enumerate().map(move |(i, counts)| {
            let exponent = LOWEST_DECADE + (i * TOGETHER) as f64 / PER_DECADE;
            (10f64.powf(exponent), counts.iter().sum::<u64>() as f64 / all)
        })
    }
}

fn bin_of(weight: f32) -> usize {
    let place = (f64::from(weight.abs()).log10() - LOWEST_DECADE) * PER_DECADE;
    (place.max(0.0) as usize).min(BINS - 1)
}

impl Wiring {
    fn read(file: &TensorFile, features: usize) -> Result<Self> {
        let view = file.get(INDICES)?;
        let wrong = |what: String| Error::artefact(file.path(), format!("tensor {INDICES} {what}"));
        let (Dtype::U16, [rows, fan_in]) = (view.dtype, view.shape.as_slice()) else {
            return Err(wrong(format!("is {} {:?}, expected U16 [L, F]", view.dtype.name(), view.shape)));
        };
        let indices =
            view.bytes.as_chunks::<2>().0.iter().map(|bytes| usize::from(u16::from_le_bytes(*bytes)));
        let mut degrees = vec![0_u64; features];
        // The row, from 1, in which a feature was met last.
        let mut met = vec![0_u64; features];
        let (mut repeating, mut repeats_in) = (0, 0);
        for (place, index) in indices.enumerate() {
            let row = (place / fan_in) as u64 + 1;
            let Some(degree) = degrees.get_mut(index) else {
                return Err(wrong(format!("holds {index}, but there are only {features} features")));
            };
            *degree += 1;
            if std::mem::replace(&mut met[index], row) == row && repeats_in != row {
                repeats_in = row;
                repeating += 1;
            }
        }
        degrees.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Self { degrees, rows: *rows as u64, repeating })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::files::{TensorSpec, write_tensors};

    /// Three labels of two connections over four features; the last label has an index twice.
    fn model(folder: &Path) {
        let specs = [
            TensorSpec::new(WEIGHTS, Dtype::F32, [3, 2]),
            TensorSpec::new(INDICES, Dtype::U16, [3, 2]),
            TensorSpec::new("labels.train_frequency", Dtype::U32, [3]),
        ];
        let weights: [f32; 6] = [0.5, -0.5, 0.0, -0.0, 0.02, -1e-20];
        let indices: [u16; 6] = [0, 3, 3, 0, 3, 3];
        let bytes: [&[u8]; 3] = [
            bytemuck::cast_slice(&weights),
            bytemuck::cast_slice(&indices),
            bytemuck::cast_slice(&[1_u32, 7, 0]),
        ];
        let path = folder.join("model.safetensors");
        write_tensors(&path, &BTreeMap::new(), &specs, &mut |i, out| {
            out.write_all(bytes[i]).map_err(Error::io("writing", &path))
        })
        .unwrap();
    }

    #[test]
    fn a_model_counted_by_hand() {
        let folder = tempfile::tempdir().unwrap();
        model(folder.path());
        let read = Classifier::read(folder.path(), 4).unwrap().unwrap();
        assert_eq!((read.weights.count, read.weights.zeros, read.weights.largest), (6, 2, 0.5));
        assert_eq!(read.frequencies, [7, 1, 0]);
        let wiring = read.wiring.as_ref().unwrap();
        assert_eq!((wiring.degrees.as_slice(), wiring.rows, wiring.repeating), (&[4, 2, 0, 0][..], 3, 1));
        // Of the four that are not zero, two are 0.5 and one is 0.02; a bin is 2.3 % wide.
        let near = |share, value: f64| {
            let got = read.weights.quantile(share).unwrap();
            assert!((got / value - 1.0).abs() < 0.012, "{got} is not {value}");
        };
        near(0.5, 0.02);
        near(1.0, 0.5);
        // 0.5 = 10^-0.301 lies in the bin from 10^-0.4, 0.02 = 10^-1.699 in that from 10^-1.7.
        let shown: Vec<(f64, f64)> = read.weights.by_magnitude().filter(|(_, share)| *share > 0.0).collect();
        let expected = [(-12.0, 1.0), (-1.7, 1.0), (-0.4, 2.0)];
        for ((edge, share), (exponent, count)) in shown.iter().zip(expected) {
            assert!(
                (edge.log10() - exponent).abs() < 1e-9 && (share - count / 6.0).abs() < 1e-12,
                "{shown:?}"
            );
        }
        assert_eq!(shown.len(), 3);
        // From -0.6 to 0.6 in four bins: -0.5 in the first, -1e-20 in the second (rounded, 0.3 of 0.3), 0.02, 0.5.
        let signed = read.signed(0.6, 4).unwrap();
        let total: f64 = signed.iter().sum();
        assert!(
            (total - 4.0 / 6.0).abs() < 1e-12 && signed[0] == 1.0 / 6.0 && signed[3] == 1.0 / 6.0,
            "{signed:?}"
        );
        // Whoever lies beyond is in no bin.
        assert!((read.signed(0.1, 2).unwrap().iter().sum::<f64>() - 2.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn what_is_not_there_and_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Classifier::read(folder.path(), 4).unwrap().is_none());
        model(folder.path());
        let error = Classifier::read(folder.path(), 3).err().unwrap().to_string();
        assert!(error.contains("classifier.indices holds 3, but there are only 3 features"), "{error}");
        let path = folder.path().join("model.safetensors");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = Classifier::read(folder.path(), 4).err().unwrap().to_string();
        assert!(error.contains("damaged"), "{error}");
    }
}
