//! Data, golden model folders and tensor files for whole runs with a transformer or with features.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::cli::{Place, pseudo_random};
use super::golden;

/// Words that the tokenizers of the golden models know whole.
pub const WORDS: [&str; 11] =
    ["river", "stone", "music", "paper", "light", "water", "green", "house", "tree", "graph", "label"];

/// A transformer of two layers that computes a step in milliseconds, with every dropout. Steps of two micro-batches.
pub const SMALL: &str = "\
[data]
max_tokens = 16
[encoder]
kind = \"transformer\"
init = \"scratch\"
layers = 2
dim = 16
heads = 2
intermediate = 24
positions = 16
dropout = 0.2
hidden_dropout = 0.1
attention_dropout = 0.1
[classifier]
fan_in = 4
bias_init = -1.0
[rewire]
interval = 3
[optimizer.encoder]
lr = 0.003
warmup_steps = 4
[optimizer.classifier]
lr = 0.02
warmup_steps = 4
[train]
batch_size = 4
accumulate = 2
epochs = 3
";

/// A text of 1 to 12 words; another number gives another one.
pub fn text(number: usize) -> String {
    let draw = |place: u32, limit: u32| pseudo_random(number as u32 * 64 + place, limit);
    let words: Vec<&str> =
        (0..=draw(0, 12)).map(|place| WORDS[draw(1 + place, WORDS.len() as u32) as usize]).collect();
    words.join(" ")
}

/// The label of a document of [`jsonl`].
pub fn label(number: usize) -> String {
    format!("l{}", number % 7)
}

/// JSON lines of documents with these numbers, a label each, of seven in all.
pub fn jsonl(numbers: std::ops::Range<usize>) -> String {
    numbers.fold(String::new(), |mut lines, number| {
        let (text, label) = (text(number), label(number));
        writeln!(lines, "{{\"text\": \"{text}\", \"labels\": [\"{label}\"]}}").expect("memory");
        lines
    })
}

impl Place {
    /// A place whose `tiny.toml` is [`SMALL`] and whose `data` are 29 training documents: three steps of eight and a
    /// last one of a whole micro-batch and one with a single document.
    pub fn small() -> Self {
        let place = Self::new();
        place.write("tiny.toml", SMALL);
        place.write("data/train.jsonl", jsonl(0..29));
        place
    }

    /// Copies a golden model folder to `to`.
    pub fn golden(&self, name: &str, to: &str) {
        let folder = golden::folder().join("encoder").join(name);
        for entry in fs::read_dir(folder).expect("a golden model") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            self.write(&format!("{to}/{name}"), fs::read(&path).expect("a file"));
        }
    }

    /// The tensors of a file.
    pub fn tensors(&self, name: &str) -> Tensors {
        tensors(&self.read(name))
    }

    /// The encoder's tensors of the last model of a run, without the prefix of their names.
    pub fn encoder(&self, run: &str) -> Tensors {
        let all = self.tensors(&format!("{run}/model/model.safetensors"));
        let own = all
            .into_iter()
            .filter_map(|(name, tensor)| name.strip_prefix("encoder.").map(|name| (name.to_owned(), tensor)));
        let own: Tensors = own.collect();
        assert!(!own.is_empty(), "{run} has no encoder");
        own
    }
}

/// A tensor as it stands in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

pub type Tensors = BTreeMap<String, Stored>;

impl Stored {
    pub fn f32s(shape: &[usize], numbers: &[f32]) -> Self {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    pub fn floats(&self) -> Vec<f32> {
        assert_eq!(self.dtype, Dtype::F32);
        self.bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }
}

/// The tensors of a file's bytes, by the `safetensors` crate.
pub fn tensors(bytes: &[u8]) -> Tensors {
    let file = SafeTensors::deserialize(bytes).expect("a safetensors file");
    let stored = |view: TensorView<'_>| Stored {
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    file.tensors().into_iter().map(|(name, view)| (name, stored(view))).collect()
}

/// The bytes of a file of these tensors.
pub fn serialized(tensors: &Tensors) -> Vec<u8> {
    let views = tensors.iter().map(|(name, tensor)| {
        (
            name,
            TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).expect("bytes of its shape"),
        )
    });
    safetensors::serialize(views, None).expect("memory")
}

/// Optimizer steps that a checkpoint's bytes say were done.
pub fn steps_done(checkpoint: &[u8]) -> u64 {
    let (_, metadata) = SafeTensors::read_metadata(checkpoint).expect("a safetensors file");
    let progress = &metadata.metadata().as_ref().expect("metadata")["progress"];
    let progress: serde_json::Value = serde_json::from_str(progress).expect("JSON");
    progress["step"].as_u64().expect("a number of steps")
}
