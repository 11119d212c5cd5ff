//! The forward half of a training step of labels that share the features of their connections: see
//! `shaders/fan_in_group_logits.wgsl`.

use rayon::prelude::*;

use super::fan_in_dlogits::{Block, Loss, positives_of};
use super::fan_in_step::open_features;
use super::loss_row::loss_of_label;
use super::storage::{IndexReader, IndexRows, Storage};
use super::vector::vectorised;
use super::{WORKGROUP, columns_of, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

/// Most labels of an invocation of this kernel and of `fan_in_group_update`.
pub const TILE: usize = 8;

/// Samples of an invocation.
const SAMPLES: usize = 8;

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
    name: "fan_in_group_logits",
    source: include_str!("../../shaders/fan_in_group_logits.wgsl"),
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
    variants,
};

/// Every loss, storage, layout of features and of indices.
fn variants() -> Vec<Constants> {
    let mut all = Vec::new();
    for rows in IndexRows::variants() {
        for weights in Storage::ALL {
            for features in [Storage::F32, Storage::F16] {
                let losses = [Loss::Bce, Loss::SquaredHinge];
                all.extend(losses.map(|loss| constants(loss, weights, features, rows)));
            }
        }
    }
    all
}

fn constants(loss: Loss, weights: Storage, features: Storage, rows: IndexRows) -> Constants {
    let own = [
        ("FEATURES", features as u32),
        ("LOSS", loss as u32),
        ("WEIGHTS", weights as u32),
        ("WORKGROUP", WORKGROUP),
    ];
    [own.as_slice(), &rows.constants()].concat()
}

/// Tiles of labels in a launch.
pub(super) fn tiles(block: Block) -> usize {
    block.index_rows() * block.group.div_ceil(TILE)
}

/// Losses that a launch gives: one for each tile of labels and eight samples.
#[must_use]
pub fn losses(block: Block) -> usize {
    tiles(block) * columns_of(block.batch) / SAMPLES
}

/// Logits of a run of labels, their losses and gradients. In: `x` [D, columns], f16 in pairs where the precision has them
/// so, `weights` [rows, weight words], `indices` [rows / group, index words], `bias` \[rows\], `positives` (label, sample)
/// pairs [P, 2] of the batch sorted by label, then sample. Out: `dlogits` [rows, columns], the gradient of the loss times
/// the scale; `tile_loss` \[[`losses`]\], summed over a tile's labels and eight samples.
pub fn launch(
    block: Block,
    loss: Loss,
    scale: f32,
    positive_count: usize,
    [x, weights, indices, bias, positives, dlogits, tile_loss]: [&Slice; 7],
) -> Launch {
    let columns = columns_of(block.batch);
    let params = Params {
        rows: block.rows as u32,
        first_label: block.first_label as u32,
        fan_in: block.fan_in as u32,
        index_words: block.index_words() as u32,
        weight_words: block.weight_words() as u32,
        group: block.group as u32,
        batch: block.batch as u32,
        columns: columns as u32,
        positives: positive_count as u32,
        scale,
    };
    let precision = block.precision;
    Launch {
        kernel: &KERNEL,
        constants: constants(loss, precision.weights, precision.features, block.indices()),
        bindings: [x, weights, indices, bias, positives, dlogits, tile_loss].map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(losses(block)),
        work: (block.rows * block.fan_in * columns) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let loss = Loss::from_constant(call.constant("LOSS")).expect("a loss");
    let storage = Storage::from_constant(call.constant("WEIGHTS"));
    let mut room = Vec::new();
    let x = open_features(call.constant("FEATURES"), call.read::<u32>(0), &mut room);
    let index_rows = IndexRows::from_constant(call.constant("STRATIFIED_FEATURES"), p.fan_in as usize);
    let (weights, indices, bias) = (call.read::<u32>(1), call.read::<u32>(2), call.read::<f32>(3));
    let positives = &call.read::<[u32; 2]>(4)[..p.positives as usize];
    let (rows, words, columns) = (p.rows as usize, p.weight_words as usize, p.columns as usize);
    let group = p.group as usize;
    let (tiles, eights) = (group.div_ceil(TILE), columns / SAMPLES);
    let dlogits = call.write::<f32>(5)[..rows * columns].par_chunks_mut(group * columns);
    let losses = call.write::<f32>(6)[..rows.div_ceil(group) * tiles * eights].par_chunks_mut(tiles * eights);
    dlogits.zip(losses).enumerate().for_each(|(index_row, (dlogits, losses))| {
        let mut reader = IndexReader::new(index_rows);
        let indices = reader.row(indices, index_row);
        losses.fill(0.0);
        for (member, z) in dlogits.chunks_exact_mut(columns).enumerate() {
            let row = index_row * group + member;
            let weights = &weights[row * words..][..words];
            let positives = positives_of(positives, p.first_label + row as u32);
            vectorised(
                #[inline(always)]
                || {
                    z.fill(bias[row]);
                    for (slot, feature) in indices.iter().enumerate() {
                        let w = storage.get(weights, slot);
                        let x = &x[usize::from(*feature) * columns..][..columns];
                        z.iter_mut().zip(x).for_each(|(z, x)| *z += w * x);
                    }
                },
            );
            let losses = &mut losses[member / TILE * eights..][..eights];
            losses_by_eights(z, positives, p.batch, (loss, p.scale), losses);
        }
    });
}

/// The logits `z` of a label become their gradients; to `losses` the losses of each eight samples are added.
pub(super) fn losses_by_eights(
    z: &mut [f32],
    positives: &[[u32; 2]],
    batch: u32,
    (kind, scale): (Loss, f32),
    losses: &mut [f32],
) {
    for (eight, (z, loss)) in z.chunks_exact_mut(SAMPLES).zip(losses).enumerate() {
        let first = (eight * SAMPLES) as u32;
        let mine: Vec<[u32; 2]> = positives
            .iter()
            .filter(|pair| (first..first + SAMPLES as u32).contains(&pair[1]))
            .map(|[label, sample]| [*label, sample - first])
            .collect();
        let batch = (batch - batch.min(first)).min(SAMPLES as u32) as usize;
        *loss += loss_of_label(kind, z, batch, &mine, scale);
    }
}
