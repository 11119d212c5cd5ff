//! Tensors between device and file: pieces of several buffers that are one tensor in the file, streamed.

use std::io::Write;
use std::path::Path;

use super::devices::Devices;
use super::model::Model;
use crate::classifier::{Dense, DenseBlock, FanIn, Head, LabelBlock};
use crate::device::{Buffer, Device};
use crate::encoder::{Encoder, Parameter, States};
use crate::error::{Error, Result};
use crate::files::{Dtype, TensorFile, TensorSpec};
use crate::kernels::rewire_mask::mask_words;
use crate::kernels::storage::{Indices, Storage};
use crate::optimize::Rule;

/// Bytes that are read from the device at once.
pub(super) const PIECE: usize = 8 << 20;
/// Rows of indices that are unpacked at once, in memory of their own.
const UNPACKED_ROWS: usize = 1024;
/// Bytes that are written to the device at once: so many that it waits for them, and copies do not pile up.
const LOADED: usize = 32 << 20;

/// A tensor of the file and where its rows lie on the device.
pub(super) struct Stored {
    /// Name, type and shape in the file.
    pub(super) spec: TensorSpec,
    /// (buffer, rows), in the order of the file.
    parts: Vec<(Buffer, usize)>,
    /// Bytes of a row in the file.
    row_bytes: usize,
    /// Bytes from row to row on the device.
    stride: usize,
    /// Of indices: where they may point. Files hold features, the device may hold offsets.
    indices: Option<(Indices, usize)>,
}

impl Stored {
    fn whole(name: &str, shape: &[usize], buffer: &Buffer, storage: Storage) -> Self {
        Self {
            spec: TensorSpec::new(name, Dtype::of(storage), shape.to_vec()),
            parts: vec![(buffer.clone(), shape.iter().product())],
            row_bytes: storage.bytes(),
            stride: storage.bytes(),
            indices: None,
        }
    }

    /// [L, width] of f32, a row a label, or \[L\] without a width.
    fn per_label(name: String, labels: usize, width: Option<usize>, parts: Vec<(Buffer, usize)>) -> Self {
        let row_bytes = width.unwrap_or(1) * 4;
        let shape: Vec<usize> = [labels].into_iter().chain(width).collect();
        let spec = TensorSpec::new(&name, Dtype::F32, shape);
        Self { spec, parts, row_bytes, stride: row_bytes, indices: None }
    }

    /// Writes the tensor's bytes.
    ///
    /// # Errors
    /// [`Error::Diverged`] when a number is not finite: it must not take the place of what was saved before.
    pub(super) fn write(&self, device: &Device, path: &Path, out: &mut dyn Write) -> Result<()> {
        let rows_at_once = self.rows_of(PIECE);
        for (buffer, rows) in &self.parts {
            for first in (0..*rows).step_by(rows_at_once) {
                let count = rows_at_once.min(rows - first);
                let bytes = (count * self.stride).next_multiple_of(4);
                let bytes = device.read(buffer, (first * self.stride) as u64, bytes as u64)?;
                self.check_finite(&bytes)?;
                let written = if let Some((indices, fan_in)) = self.indices {
                    bytes.chunks(UNPACKED_ROWS * self.stride).try_for_each(|rows| {
                        let features = indices.rows(fan_in).unpack(&bytemuck::pod_collect_to_vec(rows));
                        out.write_all(bytemuck::cast_slice(&features))
                    })
                } else if self.stride == self.row_bytes {
                    out.write_all(&bytes[..count * self.stride])
                } else {
                    bytes.chunks_exact(self.stride).try_for_each(|row| out.write_all(&row[..self.row_bytes]))
                };
                written.map_err(Error::io("writing", path))?;
            }
        }
        Ok(())
    }

    /// Rows of a piece of so many bytes: whole words.
    fn rows_of(&self, bytes: usize) -> usize {
        (bytes / self.stride).max(1).next_multiple_of(4)
    }

    fn check_finite(&self, bytes: &[u8]) -> Result<()> {
        let diverged =
            |number: f32| Err(Error::Diverged(format!("tensor {} came to hold {number}", self.spec.name)));
        let Some(storage) = self.spec.dtype.storage() else { return Ok(()) };
        let mut numbers = storage.numbers(bytes);
        numbers.find(|number| !number.is_finite()).map_or(Ok(()), diverged)
    }

    /// Fills the device's buffers from the file.
    pub(super) fn load(&self, device: &Device, file: &TensorFile, path: &Path) -> Result<()> {
        let view = file.get(&self.spec.name)?;
        if view.dtype != self.spec.dtype || view.shape != self.spec.shape {
            return Err(Error::artefact(
                path,
                format!(
                    "tensor {} is {} {:?}, expected {} {:?}",
                    self.spec.name,
                    view.dtype.name(),
                    view.shape,
                    self.spec.dtype.name(),
                    self.spec.shape
                ),
            ));
        }
        let mut bytes = view.bytes;
        let mut first_row = 0;
        let rows_at_once = self.rows_of(LOADED);
        let mut padded = Vec::with_capacity(
            rows_at_once.min(self.parts.iter().map(|part| part.1).max().unwrap_or(0)) * self.stride + 4,
        );
        for (buffer, rows) in &self.parts {
            for first in (0..*rows).step_by(rows_at_once) {
                let count = rows_at_once.min(rows - first);
                let (mine, rest) = bytes.split_at(count * self.row_bytes);
                bytes = rest;
                if let Some((indices, fan_in)) = self.indices {
                    let features: Vec<u16> = bytemuck::pod_collect_to_vec(mine);
                    if let Some(wrong) = indices.misplaced(fan_in, first_row, &features) {
                        return Err(Error::artefact(path, format!("tensor {}: {wrong}", self.spec.name)));
                    }
                    let packed = indices.rows(fan_in).pack(&features);
                    device.write(buffer, (first * self.stride) as u64, bytemuck::cast_slice(&packed))?;
                    first_row += count;
                    continue;
                }
                padded.clear();
                for row in mine.chunks_exact(self.row_bytes) {
                    padded.extend_from_slice(row);
                    padded.resize(padded.len() + self.stride - self.row_bytes, 0);
                }
                padded.resize(padded.len().next_multiple_of(4), 0);
                device.write(buffer, (first * self.stride) as u64, &padded)?;
            }
        }
        Ok(())
    }
}

/// What a file holds besides the weights.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// What prediction needs.
    Model,
    /// What training needs to go on: states and regrown slots too.
    Checkpoint,
}

/// The tensors of the encoder, in the order of the file.
pub(super) fn encoder_tensors(encoder: &dyn Encoder, content: Content) -> Vec<Stored> {
    parameter_tensors(encoder.parameters(), content)
}

fn parameter_tensors(parameters: &[Parameter], content: Content) -> Vec<Stored> {
    let mut out = Vec::new();
    for tensor in parameters {
        out.push(Stored::whole(&tensor.name, &tensor.shape, &tensor.values, Storage::F32));
        let Some(States { rule, moments }) = tensor.states else { continue };
        let states = [(&tensor.first, "first"), (&tensor.second, "second")];
        for (buffer, name) in &states[..states_of(rule, content)] {
            out.push(Stored::whole(&format!("{}.{name}", tensor.name), &tensor.shape, buffer, moments));
        }
    }
    out
}

/// The tensors of a model, in the order of the file, each with the device that it lies on. The auxiliary head is there
/// for training alone.
pub(super) fn tensors<'d>(
    devices: Devices<'d>,
    model: &Model,
    content: Content,
) -> Vec<(&'d Device, Stored)> {
    let below = encoder_tensors(&*model.encoder, content).into_iter().map(|tensor| (devices.encoder, tensor));
    let above = tensors_above(model, content).into_iter().map(|tensor| (devices.classifier, tensor));
    below.chain(above).collect()
}

/// The tensors of all that lies on the encoder.
fn tensors_above(model: &Model, content: Content) -> Vec<Stored> {
    let mut out = Vec::new();
    if let Some(layer) = &model.intermediate {
        out.extend(parameter_tensors(layer.parameters(), content));
    }
    match &model.classifier {
        Head::FanIn(layer) => out.extend(fan_in_tensors(layer, content)),
        Head::Dense(layer) => out.extend(dense_tensors(layer, content)),
        Head::Mixed(layer) => {
            out.extend(dense_tensors(&layer.dense, content));
            out.extend(fan_in_tensors(&layer.tail, content));
        }
    }
    if let Some(head) = &model.auxiliary
        && content == Content::Checkpoint
    {
        out.extend(dense_tensors(head, content));
    }
    out
}

fn states_of(rule: Rule, content: Content) -> usize {
    if content == Content::Checkpoint { rule.states() } else { 0 }
}

fn dense_tensors(layer: &Dense, content: Content) -> Vec<Stored> {
    let o = &layer.options;
    let per_label = |name: &str, width: Option<usize>, buffer: fn(&DenseBlock) -> &Buffer| {
        let parts = layer.blocks.iter().map(|block| (buffer(block).clone(), block.shape.rows)).collect();
        Stored::per_label(format!("{}.{name}", o.role.name()), o.labels, width, parts)
    };
    let width = Some(o.features);
    let mut out = vec![
        per_label("weights", width, |block| &block.weights),
        per_label("bias", None, |block| &block.bias),
    ];
    let states = states_of(o.rule, content);
    if states >= 1 {
        out.push(per_label("weights.first", width, |block| &block.first));
        out.push(per_label("bias.first", None, |block| &block.bias_first));
    }
    if states >= 2 {
        out.push(per_label("weights.second", width, |block| &block.second));
        out.push(per_label("bias.second", None, |block| &block.bias_second));
    }
    out
}

fn fan_in_tensors(layer: &FanIn, content: Content) -> Vec<Stored> {
    let o = &layer.options;
    let index_rows = o.labels.div_ceil(o.group);
    let rows_of = |buffer: fn(&LabelBlock) -> &Buffer| {
        layer.blocks.iter().map(|block| (buffer(block).clone(), block.shape.rows)).collect()
    };
    let per_label = |name: &str, buffer: fn(&LabelBlock) -> &Buffer| {
        Stored::per_label(format!("classifier.{name}"), o.labels, None, rows_of(buffer))
    };
    let per_connection =
        |name: &str, storage: Storage, words: usize, buffer: fn(&LabelBlock) -> &Buffer| Stored {
            spec: TensorSpec::new(format!("classifier.{name}"), Dtype::of(storage), vec![o.labels, o.fan_in]),
            parts: rows_of(buffer),
            row_bytes: o.fan_in * storage.bytes(),
            stride: words * 4,
            indices: None,
        };
    let words = o.precision.weight_words(o.fan_in);
    let mut out = vec![per_connection("weights", o.precision.weights, words, |block| &block.weights)];
    out.push(Stored {
        spec: TensorSpec::new("classifier.indices", Dtype::U16, vec![index_rows, o.fan_in]),
        parts: layer.blocks.iter().map(|block| (block.indices.clone(), block.shape.index_rows())).collect(),
        row_bytes: o.fan_in * 2,
        stride: o.precision.indices.rows(o.fan_in).words() * 4,
        indices: Some((o.precision.indices, o.fan_in)),
    });
    out.push(per_label("bias", |block| &block.bias));
    let states = states_of(o.rule, content);
    let moments = |name: &str, buffer| {
        per_connection(name, o.precision.moments, o.precision.moment_words(o.fan_in), buffer)
    };
    if states >= 1 {
        out.push(moments("weights.first", |block| &block.first));
        out.push(per_label("bias.first", |block| &block.bias_first));
    }
    if states >= 2 {
        out.push(moments("weights.second", |block| &block.second));
        out.push(per_label("bias.second", |block| &block.bias_second));
    }
    if content == Content::Checkpoint {
        let words = mask_words(o.fan_in);
        out.push(Stored {
            spec: TensorSpec::new("classifier.regrown", Dtype::U32, vec![index_rows, words]),
            parts: layer
                .blocks
                .iter()
                .map(|block| (block.regrown.clone(), block.shape.index_rows()))
                .collect(),
            row_bytes: words * 4,
            stride: words * 4,
            indices: None,
        });
    }
    out
}
