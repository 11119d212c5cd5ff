//! The weights of a pretrained encoder: one safetensors file or several, under whatever prefix they were saved.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::architecture::Architecture;
use super::folder::{self, INDEX, SINGLE};
use super::json;
use super::tensors::{EncoderTensor, EncoderTensors};
use crate::error::{Error, Result};
use crate::files::{Dtype, TensorFile};

/// What stands before the canonical names in files of base models, of models with heads, and of
/// sentence-transformers' training checkpoints.
const PREFIXES: [&str; 6] = ["", "bert.", "distilbert.", "roberta.", "0.auto_model.", "model."];

/// Names of the norms' parameters, and those in files converted from TensorFlow's BERT.
const OLD_NAMES: [(&str, &str); 2] =
    [("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")];

/// The weights of an encoder in a folder, mapped into memory, all present and of the right shapes.
#[derive(Debug)]
pub struct PretrainedWeights {
    files: Vec<TensorFile>,
    prefix: String,
    /// For each canonical name its file and its name there.
    stored: BTreeMap<String, (usize, String)>,
}

/// The names of all stored tensors, and where each is.
struct Names {
    /// The file that lists them, for messages.
    listed_in: PathBuf,
    /// The file of each.
    files: BTreeMap<String, PathBuf>,
}

impl PretrainedWeights {
    /// Opens `model.safetensors`, or the shards of `model.safetensors.index.json`, in a folder, and finds every tensor
    /// of `architecture` there; others (poolers, heads) are ignored. An architecture with fewer layers than the stored
    /// model takes the first ones. Without a `prefix` the usual ones are tried.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if there are no such weights, a tensor is missing, or one has another shape or number format;
    /// [`Error::Artefact`] if a file is truncated or damaged; [`Error::Io`].
    pub fn open(folder: &Path, architecture: &Architecture, prefix: Option<&str>) -> Result<Self> {
        let names = Names::read(folder)?;
        let tensors = EncoderTensors::of(architecture);
        let (prefix, found) = names.find(&tensors, prefix)?;
        let (mut files, mut opened) = (Vec::new(), BTreeMap::new());
        let mut stored = BTreeMap::new();
        for (tensor, (path, name)) in tensors.iter().zip(found) {
            let at = match opened.get(path) {
                Some(&at) => at,
                None => {
                    files.push(TensorFile::open(path)?);
                    opened.insert(path, files.len() - 1);
                    files.len() - 1
                }
            };
            check(&files[at], &name, tensor)?;
            stored.insert(tensor.name.clone(), (at, name));
        }
        Ok(Self { files, prefix, stored })
    }

    /// What stands before the canonical names in the files.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The numbers of one tensor, row-major; 16-bit floats are widened.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if one of them is infinite or not a number.
    ///
    /// # Panics
    ///
    /// If `tensor` is none of the architecture that the weights were opened for.
    pub fn read(&self, tensor: &EncoderTensor) -> Result<Vec<f32>> {
        let (file, name) = self.stored.get(&tensor.name).expect("a tensor of the opened architecture");
        let view = self.files[*file].get(name)?;
        let numbers: Vec<f32> = match view.dtype {
            Dtype::F32 => widen(view.bytes, f32::from_le_bytes),
            Dtype::F16 => widen(view.bytes, |bytes| f16_to_f32(u16::from_le_bytes(bytes))),
            Dtype::BF16 => {
                widen(view.bytes, |bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16))
            }
            Dtype::F8E4M3 | Dtype::U16 | Dtype::U32 | Dtype::I32 | Dtype::I64 | Dtype::U8 => {
                unreachable!("checked when opened")
            }
        };
        match numbers.iter().position(|number| !number.is_finite()) {
            None => Ok(numbers),
            Some(at) => {
                let place = Place { at, shape: &view.shape };
                let message = format!(
                    "tensor {name} is {} at {place}; these weights cannot be trained on: take others",
                    numbers[at]
                );
                Err(Error::data(self.files[*file].path(), message))
            }
        }
    }
}

impl Names {
    fn read(folder: &Path) -> Result<Self> {
        let single = folder.join(SINGLE);
        if single.is_file() {
            let file = TensorFile::open(&single)?;
            let files = file.names().map(|name| (name.to_string(), single.clone())).collect();
            return Ok(Self { listed_in: single, files });
        }
        let index = folder.join(INDEX);
        if !index.is_file() {
            return Err(folder::no_weights(folder));
        }
        let shards = folder::shards_of(&json::read(&index)?, &index)?;
        let files = shards.into_iter().map(|(name, file)| (name, folder.join(file))).collect();
        Ok(Self { listed_in: index, files })
    }

    /// The stored name of a tensor, today's or the old one.
    fn stored(&self, prefix: &str, tensor: &EncoderTensor) -> Option<String> {
        let name = format!("{prefix}{}", tensor.name);
        if self.files.contains_key(&name) {
            return Some(name);
        }
        let old = OLD_NAMES.iter().find_map(|(new, old)| Some(format!("{}{old}", name.strip_suffix(new)?)));
        old.filter(|old| self.files.contains_key(old))
    }

    /// The first prefix under which all tensors are there; and for each tensor its file and its name.
    fn find(
        &self,
        tensors: &EncoderTensors,
        prefix: Option<&str>,
    ) -> Result<(String, Vec<(&PathBuf, String)>)> {
        let prefixes = match prefix {
            Some(prefix) if prefix.is_empty() || prefix.ends_with('.') => vec![prefix.to_string()],
            Some(prefix) => vec![format!("{prefix}.")],
            None => PREFIXES.map(str::to_string).to_vec(),
        };
        let mut nearest: Option<(usize, &str, &str)> = None;
        for prefix in &prefixes {
            let names: Vec<_> = tensors.iter().map(|tensor| self.stored(prefix, tensor)).collect();
            let Some(missing) = names.iter().position(Option::is_none) else {
                let located = names.into_iter().flatten().map(|name| (&self.files[&name], name)).collect();
                return Ok((prefix.clone(), located));
            };
            let found = names.iter().flatten().count();
            if nearest.is_none_or(|(most, ..)| found > most) {
                let missing = tensors.iter().nth(missing).map_or("", |tensor| &tensor.name);
                nearest = Some((found, prefix, missing));
            }
        }
        let (found, prefix, missing) = nearest.unwrap_or((0, "", ""));
        let tried: Vec<String> = prefixes.iter().map(|prefix| format!("{prefix:?}")).collect();
        let tried = tried.join(", ");
        let message = if found == 0 {
            let some: Vec<&str> = self.files.keys().take(4).map(String::as_str).collect();
            format!(
                "tensor {missing} is missing; prefixes tried: {tried}; the file holds {}, …: give the prefix that \
                 stands before the encoder's names, or the folder of another model",
                some.join(", ")
            )
        } else {
            format!(
                "tensor {prefix}{missing} is missing, while {found} of the encoder's {} are there; prefixes tried: \
                 {tried}; is config.json that of another model?",
                tensors.iter().len()
            )
        };
        Err(Error::data(&self.listed_in, message))
    }
}

/// Whether a stored tensor is what the architecture expects.
fn check(file: &TensorFile, name: &str, tensor: &EncoderTensor) -> Result<()> {
    if !file.contains(name) {
        let message = format!("tensor {name} is missing, though {INDEX} promises it; download both again");
        return Err(Error::data(file.path(), message));
    }
    let view = file.get(name)?;
    if view.shape != tensor.shape {
        let message = format!(
            "tensor {name} is {:?}, but config.json asks for {:?}; they belong to different models",
            view.shape, tensor.shape
        );
        return Err(Error::data(file.path(), message));
    }
    if !matches!(view.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        let message = format!("tensor {name} has dtype {}; F32, F16 and BF16 are read", view.dtype.name());
        return Err(Error::data(file.path(), message));
    }
    Ok(())
}

fn widen<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks::<N>();
    numbers.iter().map(|&bytes| number(bytes)).collect()
}

/// The number that an IEEE half stands for; every half has an exact float32.
fn f16_to_f32(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let magnitude = u32::from(half & 0x7fff);
    let bits = match magnitude >> 10 {
        // Subnormal: a whole number of 2⁻²⁴.
        0 => (magnitude as f32 * (-24f32).exp2()).to_bits(),
        // Infinite or not a number: the exponent is full in both formats.
        31 => 0x7f80_0000 | (magnitude & 0x3ff) << 13,
        // The exponents' biases differ by 127 − 15.
        _ => (magnitude << 13) + (112 << 23),
    };
    f32::from_bits(sign | bits)
}

/// Where a number is in a tensor, as \[row, column\].
struct Place<'a> {
    at: usize,
    shape: &'a [usize],
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut rest, mut place) = (self.at, vec![0; self.shape.len()]);
        for (index, &extent) in place.iter_mut().zip(self.shape).rev() {
            (*index, rest) = (rest % extent, rest / extent);
        }
        write!(f, "{place:?}")
    }
}
