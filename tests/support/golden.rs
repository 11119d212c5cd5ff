//! Reads the golden files: numbers that PyTorch and NumPy computed, described in `tests/golden/README.md`.
//!
//! Uses the `safetensors` crate directly, not regrow's own reader, which is itself under test.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// One case of `cases.json`.
pub struct Case {
    /// Its name, unique within its kind.
    pub name: String,
    /// Everything that the index says about it: sizes, hyperparameters, expected scalars.
    pub json: Value,
    /// The file with its tensors.
    pub file: PathBuf,
    bytes: Vec<u8>,
}

/// The folder of the golden files: `REGROW_GOLDEN_DIR`, or `tests/golden`.
pub fn folder() -> PathBuf {
    std::env::var_os("REGROW_GOLDEN_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from)
}

/// All cases of one kind. Finding none is a failure: a test that compares nothing must not pass.
pub fn cases(kind: &str) -> Vec<Case> {
    let folder = folder();
    let index = folder.join("cases.json");
    let text = fs::read(&index).unwrap_or_else(|error| {
        panic!("no golden files at {} ({error}); set REGROW_GOLDEN_DIR to their folder", index.display())
    });
    let json: Value =
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", index.display()));
    let listed = json["cases"].as_array().unwrap_or_else(|| panic!("{}: no list of cases", index.display()));
    let found: Vec<Case> = listed
        .iter()
        .filter(|case| case["kind"] == kind)
        .map(|case| {
            let text = |key: &str| {
                case[key].as_str().unwrap_or_else(|| panic!("{}: a case without {key}", index.display()))
            };
            let file = folder.join(text("file"));
            let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            Case { name: text("name").to_string(), json: case.clone(), file, bytes }
        })
        .collect();
    assert!(!found.is_empty(), "{} lists no case of kind {kind}", index.display());
    found
}

impl Case {
    /// A float32 tensor: its numbers, row-major, and its shape.
    pub fn f32(&self, tensor: &str) -> (Vec<f32>, Vec<usize>) {
        self.read(tensor, Dtype::F32, f32::from_le_bytes)
    }

    /// An int32 tensor and its shape.
    pub fn i32(&self, tensor: &str) -> (Vec<i32>, Vec<usize>) {
        self.read(tensor, Dtype::I32, i32::from_le_bytes)
    }

    /// A uint16 tensor and its shape.
    pub fn u16(&self, tensor: &str) -> (Vec<u16>, Vec<usize>) {
        self.read(tensor, Dtype::U16, u16::from_le_bytes)
    }

    /// A uint8 tensor and its shape.
    pub fn u8(&self, tensor: &str) -> (Vec<u8>, Vec<usize>) {
        self.read(tensor, Dtype::U8, u8::from_le_bytes)
    }

    /// The names of all tensors, sorted.
    pub fn tensors(&self) -> Vec<String> {
        let mut names: Vec<String> = self.open().names().into_iter().map(str::to_string).collect();
        names.sort();
        names
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, tensor: &str) -> bool {
        self.open().tensor(tensor).is_ok()
    }

    /// The recommended tolerance of a quantity.
    pub fn tolerance(&self, key: &str) -> f64 {
        self.number(&["tolerance", key])
    }

    /// One of the sizes of the case.
    pub fn size(&self, key: &str) -> usize {
        let size = self.json["sizes"][key].as_u64();
        size.unwrap_or_else(|| panic!("{}: no size {key}", self.name)) as usize
    }

    /// A number of the index, by the keys that lead to it.
    pub fn number(&self, keys: &[&str]) -> f64 {
        let value = keys.iter().fold(&self.json, |value, key| &value[*key]);
        value.as_f64().unwrap_or_else(|| panic!("{}: no number {}", self.name, keys.join(".")))
    }

    /// A list of numbers of the index, by the keys that lead to it.
    pub fn numbers(&self, keys: &[&str]) -> Vec<f64> {
        let value = keys.iter().fold(&self.json, |value, key| &value[*key]);
        let list = value.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
        list.unwrap_or_else(|| panic!("{}: no list of numbers {}", self.name, keys.join(".")))
    }

    fn open(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes)
            .unwrap_or_else(|error| panic!("{}: {error}", self.file.display()))
    }

    fn read<T, const N: usize>(
        &self,
        tensor: &str,
        dtype: Dtype,
        number: fn([u8; N]) -> T,
    ) -> (Vec<T>, Vec<usize>) {
        let file = self.open();
        let view = file.tensor(tensor).unwrap_or_else(|error| panic!("{}: {error}", self.file.display()));
        assert_eq!(view.dtype(), dtype, "{}: dtype of {tensor}", self.file.display());
        let (chunks, _) = view.data().as_chunks::<N>();
        (chunks.iter().map(|&bytes| number(bytes)).collect(), view.shape().to_vec())
    }
}

/// max |a − b| / max |a| over a tensor. A reference that is zero throughout must be met exactly; anything that is
/// not a number is infinitely wrong.
pub fn scaled_error(reference: &[f32], tested: &[f32]) -> f64 {
    assert_eq!(reference.len(), tested.len(), "sizes of reference and tested tensor");
    let largest = reference.iter().fold(0f64, |max, &a| max.max(f64::from(a).abs()));
    reference.iter().zip(tested).fold(0f64, |worst, (&a, &b)| worst.max(share(a, b, largest)))
}

/// The largest |a − b| of any entry over the largest |a| which that entry has at any step. Both tensors are
/// `[steps, entries]`, row-major.
pub fn entry_error(reference: &[f32], tested: &[f32], entries: usize) -> f64 {
    assert_eq!(reference.len(), tested.len(), "sizes of reference and tested tensor");
    assert!(
        entries > 0 && reference.len().is_multiple_of(entries),
        "{} is not steps of {entries}",
        reference.len()
    );
    let mut largest = vec![0f64; entries];
    for (i, &a) in reference.iter().enumerate() {
        largest[i % entries] = largest[i % entries].max(f64::from(a).abs());
    }
    let pairs = reference.iter().zip(tested).enumerate();
    pairs.fold(0f64, |worst, (i, (&a, &b))| worst.max(share(a, b, largest[i % entries])))
}

/// |a − b| / `largest`, with 0/0 = 0 and NaN = ∞ (`f64::max` would drop a NaN).
fn share(a: f32, b: f32, largest: f64) -> f64 {
    let difference = (f64::from(a) - f64::from(b)).abs();
    if difference == 0.0 {
        return 0.0;
    }
    let share = difference / largest;
    if share.is_nan() { f64::INFINITY } else { share }
}
