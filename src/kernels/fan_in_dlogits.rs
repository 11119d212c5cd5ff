//! Logits of a block of labels, their loss and its gradient: see `shaders/fan_in_dlogits.wgsl`.

use rayon::prelude::*;

use super::loss_row::loss_of_label;
use super::storage::{IndexRows, Precision, Storage};
use super::vector::vectorised;
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

impl Loss {
    /// The loss of a shader's `LOSS`; none for [`LOGITS`].
    pub(super) fn from_constant(constant: u32) -> Option<Self> {
        [Self::Bce, Self::SquaredHinge].into_iter().find(|loss| *loss as u32 == constant)
    }
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
    let (loss, storage) =
        (Loss::from_constant(call.constant("LOSS")), Storage::from_constant(call.constant("WEIGHTS")));
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
                *total = loss.map_or(0.0, |loss| {
                    loss_of_label(loss, z, batch, positives_of(positives, label), p.scale)
                });
            },
        );
    });
}
