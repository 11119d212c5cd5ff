//! Logits of a block of labels, their loss and its gradient: see `shaders/fan_in_dlogits.wgsl`.

use rayon::prelude::*;

use super::storage::{IndexRows, Precision, Storage};
use super::vector::{exp_negative, mul_add, vectorised};
use super::{WORKGROUP, columns_of, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

/// Loss over every (sample, label) pair; the number is the shader's `LOSS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum Loss {
    /// Binary cross-entropy with logits.
    Bce = 0,
    /// max(0, 1 − (2y − 1)·z)².
    SquaredHinge = 1,
}

/// The shader's `LOSS` that writes the logits themselves.
pub(super) const LOGITS: u32 = 2;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    first_label: u32,
    fan_in: u32,
    index_words: u32,
    weight_words: u32,
    group: u32,
    batch: u32,
    columns: u32,
    positives: u32,
    scale: f32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "fan_in_dlogits",
    source: include_str!("../../shaders/fan_in_dlogits.wgsl"),
    bindings: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
    ],
    twin,
    variants: || {
        let of = |rows| Storage::ALL.map(|weights| [0, 1, LOGITS].map(|loss| constants(loss, weights, rows)));
        IndexRows::variants().map(of).concat().concat()
    },
};

/// The block of labels that a launch is about, and the batch.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Labels in the block.
    pub rows: usize,
    /// Number of the block's first label.
    pub first_label: usize,
    /// Connections of a label, F.
    pub fan_in: usize,
    /// Consecutive labels that share a row of indices; 1: every label has its own.
    pub group: usize,
    /// Samples, B.
    pub batch: usize,
    /// How weights and their states are stored.
    pub precision: Precision,
}

impl Block {
    /// Rows of indices.
    #[must_use]
    pub fn index_rows(&self) -> usize {
        self.rows.div_ceil(self.group)
    }

    /// How rows of indices are stored.
    #[must_use]
    pub fn indices(&self) -> IndexRows {
        self.precision.indices.rows(self.fan_in)
    }

    /// Words in a row of indices.
    #[must_use]
    pub fn index_words(&self) -> usize {
        self.indices().words()
    }

    /// Words in a row of weights.
    #[must_use]
    pub fn weight_words(&self) -> usize {
        self.precision.weight_words(self.fan_in)
    }

    /// Words in a row of the weights' states.
    #[must_use]
    pub fn moment_words(&self) -> usize {
        self.precision.moment_words(self.fan_in)
    }
}

fn constants(loss: u32, weights: Storage, rows: IndexRows) -> Constants {
    let own = vec![("LOSS", loss), ("WEIGHTS", weights as u32), ("WORKGROUP", WORKGROUP)];
    [own, rows.constants().to_vec()].concat()
}

/// Gradient of `loss` with respect to the logits, times `scale`, into `dlogits` [rows, columns]; the loss of each
/// label summed over the samples into `label_loss` \[rows\].
///
/// `x` [D, columns], `weights` [rows, weight words], `indices` [rows / group, index words], `bias` \[rows\], `positives`
/// (label, sample) pairs [P, 2] of the batch sorted by label, then sample. With `loss` `None`, `dlogits` gets the
/// logits themselves.
pub fn launch(
    block: Block,
    loss: Option<Loss>,
    scale: f32,
    positive_count: usize,
    [x, weights, indices, bias, positives, dlogits, label_loss]: [&Slice; 7],
) -> Launch {
    let params = Params {
        rows: block.rows as u32,
        first_label: block.first_label as u32,
        fan_in: block.fan_in as u32,
        index_words: block.index_words() as u32,
        weight_words: block.weight_words() as u32,
        group: block.group as u32,
        batch: block.batch as u32,
        columns: columns_of(block.batch) as u32,
        positives: positive_count as u32,
        scale,
    };
    Launch {
        kernel: &KERNEL,
        constants: constants(
            loss.map_or(LOGITS, |loss| loss as u32),
            block.precision.weights,
            block.indices(),
        ),
        bindings: [x, weights, indices, bias, positives, dlogits, label_loss].map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(block.rows),
        work: (block.rows * block.fan_in * columns_of(block.batch)) as u64,
    }
}

/// (loss, gradient) of a logit; `sign` is −1 for a positive label, +1 for a negative one; `FUSED` as in [`mul_add`].
#[inline(always)]
fn loss_of<const HINGE: bool, const FUSED: bool>(z: f32, sign: f32) -> (f32, f32) {
    let u = z * sign;
    if HINGE {
        // By comparison, not max: a NaN must reach the loss.
        let margin = if 1.0 + u <= 0.0 { 0.0 } else { 1.0 + u };
        return (margin * margin, 2.0 * sign * margin);
    }
    let e = exp_negative::<FUSED>(-u.abs());
    // log(1 + e) = 2 artanh(s) by its series; s is at most 1/3.
    // One division serves both this s and the sigmoid.
    let reciprocal = 1.0 / ((1.0 + e) * (2.0 + e));
    let s = e * (1.0 + e) * reciprocal;
    let t = s * s;
    let mut series = 1.0 / 13.0;
    for term in [1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 0.2, 1.0 / 3.0, 1.0] {
        series = mul_add::<FUSED>(t, series, term);
    }
    let positive_part = if u > 0.0 { u } else { 0.0 };
    let sigmoid = if u >= 0.0 { 1.0 } else { e } * (2.0 + e) * reciprocal;
    (mul_add::<FUSED>(2.0 * s, series, positive_part), sign * sigmoid)
}

/// Turns the logits `z` of one label into loss gradients times `scale` in place; columns beyond `batch` become 0.
/// Returns the sum of the losses. `positives` are the (label, sample) pairs of this label; `FUSED` as in [`mul_add`].
#[inline(always)]
pub(crate) fn loss_row<const HINGE: bool, const FUSED: bool>(
    z: &mut [f32],
    batch: usize,
    positives: &[[u32; 2]],
    scale: f32,
) -> f32 {
    // Positives are few: they sit out the loop over all samples, which then has no branches, and come after it.
    let mut kept = [0.0_f32; 16];
    if positives.len() > kept.len() {
        return loss_row_slow::<HINGE, FUSED>(z, batch, positives, scale);
    }
    for (keep, [_, sample]) in kept.iter_mut().zip(positives) {
        *keep = std::mem::replace(&mut z[*sample as usize], NO_LOSS);
    }
    let mut lanes = [0.0_f32; 16];
    let (inside, beyond) = z.split_at_mut(batch);
    beyond.fill(0.0);
    for chunk in inside.chunks_mut(16) {
        for (z, lane) in chunk.iter_mut().zip(&mut lanes) {
            let (loss, gradient) = loss_of::<HINGE, FUSED>(*z, 1.0);
            *lane += loss;
            *z = scale * gradient;
        }
    }
    // By halves: sixteen additions one after the other would take as long as the losses of a vector.
    for half in [8, 4, 2, 1] {
        let (front, back) = lanes.split_at_mut(half);
        front.iter_mut().zip(back).for_each(|(sum, lane)| *sum += *lane);
    }
    let mut total = lanes[0];
    for (keep, [_, sample]) in kept.iter().zip(positives) {
        let (loss, gradient) = loss_of::<HINGE, FUSED>(*keep, -1.0);
        total += loss;
        z[*sample as usize] = scale * gradient;
    }
    total
}

/// The logit of a negative label whose loss and gradient are nothing.
const NO_LOSS: f32 = -1e30;

/// [`loss_row`] for a label with many positives in the batch.
#[inline(always)]
fn loss_row_slow<const HINGE: bool, const FUSED: bool>(
    z: &mut [f32],
    batch: usize,
    positives: &[[u32; 2]],
    scale: f32,
) -> f32 {
    let mut total = 0.0;
    let mut next = positives.iter().map(|pair| pair[1] as usize).peekable();
    for (sample, z) in z.iter_mut().enumerate() {
        let sign = if next.next_if_eq(&sample).is_some() { -1.0 } else { 1.0 };
        let (loss, gradient) = loss_of::<HINGE, FUSED>(*z, sign);
        let inside = sample < batch;
        total += if inside { loss } else { 0.0 };
        *z = if inside { scale * gradient } else { 0.0 };
    }
    total
}

/// The pairs of `label` among `positives`, which are sorted by label.
pub(crate) fn positives_of(positives: &[[u32; 2]], label: u32) -> &[[u32; 2]] {
    let start = positives.partition_point(|pair| pair[0] < label);
    let end = start + positives[start..].partition_point(|pair| pair[0] == label);
    &positives[start..end]
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (x, weights, indices, bias) =
        (call.read::<f32>(0), call.read::<u32>(1), call.read::<u32>(2), call.read::<f32>(3));
    let positives = &call.read::<[u32; 2]>(4)[..p.positives as usize];
    let (dlogits, label_loss) = (call.write::<f32>(5), call.write::<f32>(6));
    let (loss, storage) = (call.constant("LOSS"), Storage::from_constant(call.constant("WEIGHTS")));
    let (columns, fan_in, batch) = (p.columns as usize, p.fan_in as usize, p.batch as usize);
    let stored = IndexRows::from_constant(call.constant("STRATIFIED_FEATURES"), fan_in);
    let rows = dlogits.par_chunks_mut(columns).zip(label_loss).take(p.rows as usize).enumerate();
    rows.for_each(|(row, (z, total))| {
        let weights = &weights[row * p.weight_words as usize..][..p.weight_words as usize];
        let indices = &indices[row / p.group as usize * p.index_words as usize..];
        vectorised(
            #[inline(always)]
            || {
                z.fill(bias[row]);
                for slot in 0..fan_in {
                    let w = storage.get(weights, slot);
                    let x = &x[stored.get(indices, slot) * columns..][..columns];
                    z.iter_mut().zip(x).for_each(|(z, x)| *z += w * x);
                }
                let label = p.first_label + row as u32;
                *total = match loss {
                    0 => loss_row::<false, false>(z, batch, positives_of(positives, label), p.scale),
                    1 => loss_row::<true, false>(z, batch, positives_of(positives, label), p.scale),
                    _ => 0.0,
                };
            },
        );
    });
}
