//! Clusters in files: a text with a line a cluster, or a safetensors file with the cluster of each label.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use super::LabelClusters;
use crate::data::labels::LabelMap;
use crate::data::open::FileLines;
use crate::error::{Error, Result};
use crate::files::{Dtype, TensorFile, TensorSpec, write_atomically, write_tensors};

/// Name of the tensor in a safetensors file. \[L\], u32, i32 or i64.
pub const CLUSTER_OF_LABEL: &str = "cluster_of_label";
/// The metadata entry that tells which labels the tensor is for.
const LABELS: &str = "labels_digest";

impl LabelClusters {
    /// Reads clusters of the labels of `map`. What the file is shows in its name:
    ///
    /// * `.safetensors`: the tensor [`CLUSTER_OF_LABEL`];
    /// * anything else, also `.gz` or `.zst`: text, a line a cluster, the labels' names between spaces or tabs. In a name
    ///   `\s`, `\t`, `\n`, `\r` and `\\` stand for a space, a tab, a line feed, a carriage return and a backslash. Empty
    ///   lines count for nothing.
    ///
    /// # Errors
    /// [`Error::Line`] for a label that is unknown or stands twice, or an unknown escape; [`Error::Data`] for labels in
    /// no cluster, an empty cluster, other labels than those of the map, or a NumPy or pickle file, which takes Python to
    /// be read; [`Error::Artefact`] and [`Error::Io`] for a file that cannot be read.
    pub fn from_file(path: &Path, map: &LabelMap) -> Result<Self> {
        match extension(path) {
            "safetensors" => from_tensors(path, map),
            "npy" | "npz" | "pkl" | "pickle" => Err(Error::data(path, conversion_hint(path))),
            _ => from_text(path, map),
        }
    }

    /// Writes what [`LabelClusters::from_file`] reads, atomically; `.safetensors` or `.txt` in the path decides the form.
    ///
    /// # Errors
    /// [`Error::Usage`] for another extension; [`Error::Io`].
    ///
    /// # Panics
    /// If `map` has another number of labels.
    pub fn to_file(&self, path: &Path, map: &LabelMap) -> Result<()> {
        assert_eq!(map.len(), self.labels(), "clusters of the same labels");
        check_target(path)?;
        if extension(path) == "safetensors" {
            let metadata = BTreeMap::from([(LABELS.to_owned(), digest(map))]);
            let specs = [TensorSpec::new(CLUSTER_OF_LABEL, Dtype::U32, [self.labels()])];
            return write_tensors(path, &metadata, &specs, &mut |_, out| {
                out.write_all(bytemuck::cast_slice(&self.of_label)).map_err(Error::io("writing", path))
            });
        }
        let lists = self.lists();
        write_atomically(path, |out| {
            (0..self.count)
                .try_for_each(|cluster| write_line(out, lists.of(cluster), map))
                .map_err(Error::io("writing", path))
        })
    }
}

/// Whether clusters can be written to a file of this name: before the work is done, not after.
///
/// # Errors
/// [`Error::Usage`] unless the name ends in `.txt` or `.safetensors`.
pub fn check_target(path: &Path) -> Result<()> {
    match extension(path) {
        "txt" | "safetensors" => Ok(()),
        _ => Err(Error::Usage(format!(
            "{}: name a file that ends in .txt (a line a cluster) or .safetensors",
            path.display()
        ))),
    }
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

fn digest(map: &LabelMap) -> String {
    format!("{:016x}", map.digest())
}

/// How the reference's object arrays become text: pickle can run any program, so it is not read here.
fn conversion_hint(path: &Path) -> String {
    let load = if matches!(extension(path), "npy" | "npz") {
        "import numpy, sys; c = numpy.load(sys.argv[1], allow_pickle=True)"
    } else {
        "import pickle, sys; c = pickle.load(open(sys.argv[1], 'rb'))"
    };
    format!(
        "is not read, since a pickle may run any program; if you trust it: python3 -c \"{load}; [print(*x) for x in c]\" {} \
         > clusters.txt",
        path.display()
    )
}

fn write_line(out: &mut dyn Write, labels: &[u32], map: &LabelMap) -> std::io::Result<()> {
    for (place, label) in labels.iter().enumerate() {
        let between = if place > 0 { " " } else { "" };
        write!(out, "{between}{}", escape(map.name(*label)))?;
    }
    writeln!(out)
}

fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '\\' => escaped.push_str("\\\\"),
            ' ' => escaped.push_str("\\s"),
            '\t' => escaped.push_str("\\t"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The name that [`escape`] wrote; `None` for an unknown escape.
fn unescape(word: &str) -> Option<String> {
    let mut name = String::with_capacity(word.len());
    let mut letters = word.chars();
    while let Some(letter) = letters.next() {
        name.push(match letter {
            '\\' => match letters.next()? {
                '\\' => '\\',
                's' => ' ',
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            other => other,
        });
    }
    Some(name)
}

fn from_text(path: &Path, map: &LabelMap) -> Result<LabelClusters> {
    const NONE: u32 = u32::MAX;
    let mut of_label = vec![NONE; map.len()];
    // The line of each cluster, for messages.
    let mut lines_of: Vec<u64> = Vec::new();
    let mut lines = FileLines::open(path)?;
    while let Some(line) = lines.next_line()? {
        let words: Vec<String> =
            line.split([' ', '\t']).filter(|word| !word.is_empty()).map(str::to_owned).collect();
        if words.is_empty() {
            continue;
        }
        let cluster = lines_of.len() as u32;
        lines_of.push(lines.line());
        for word in &words {
            let name = unescape(word).ok_or_else(|| {
                lines.error(format!("{word}: after a backslash comes s, t, n, r or another backslash"))
            })?;
            let label = map
                .id(&name)
                .ok_or_else(|| lines.error(format!("label {name} is not a label of the data set")))?;
            let slot = &mut of_label[label as usize];
            if *slot != NONE {
                let first = lines_of[*slot as usize];
                return Err(lines.error(format!("label {name} stands in line {first} already")));
            }
            *slot = cluster;
        }
    }
    let missing = of_label.iter().filter(|cluster| **cluster == NONE).count();
    match of_label.iter().position(|cluster| *cluster == NONE) {
        Some(first) => Err(Error::data(
            path,
            format!(
                "{missing} of {} labels are in no cluster, the first is {}; every label must be in one",
                map.len(),
                map.name(first as u32)
            ),
        )),
        None => LabelClusters::new(of_label),
    }
}

fn from_tensors(path: &Path, map: &LabelMap) -> Result<LabelClusters> {
    let file = TensorFile::open(path)?;
    let view = file.get(CLUSTER_OF_LABEL)?;
    if view.shape != [map.len()] {
        let message = format!(
            "tensor {CLUSTER_OF_LABEL} is {:?}, but the data set has {} labels",
            view.shape,
            map.len()
        );
        return Err(Error::data(path, message));
    }
    if file.metadata().get(LABELS).is_some_and(|labels| *labels != digest(map)) {
        let message =
            "is for other labels, or for the same ones in another order; make it anew with `regrow clusters`";
        return Err(Error::data(path, message));
    }
    let (words, _) = view.bytes.as_chunks::<4>();
    let (doubles, _) = view.bytes.as_chunks::<8>();
    let numbers: Vec<i64> = match view.dtype {
        Dtype::U32 => words.iter().map(|bytes| i64::from(u32::from_le_bytes(*bytes))).collect(),
        Dtype::I32 => words.iter().map(|bytes| i64::from(i32::from_le_bytes(*bytes))).collect(),
        Dtype::I64 => doubles.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect(),
        other => {
            let message =
                format!("tensor {CLUSTER_OF_LABEL} is {}; it must be U32, I32 or I64", other.name());
            return Err(Error::data(path, message));
        }
    };
    // No cluster may be empty, so that there are no more clusters than labels.
    let too_large = |number: &i64| *number < 0 || *number >= map.len() as i64;
    if let Some(label) = numbers.iter().position(too_large) {
        let message = format!(
            "tensor {CLUSTER_OF_LABEL} puts label {} (number {label}) into cluster {}; clusters are numbered from 0, and \
             there are {} labels",
            map.name(label as u32),
            numbers[label],
            map.len()
        );
        return Err(Error::data(path, message));
    }
    LabelClusters::new(numbers.into_iter().map(|number| number as u32).collect())
        .map_err(|error| Error::data(path, error.to_string()))
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
