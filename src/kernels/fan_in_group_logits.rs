//! The forward half of a training step of labels that share the features of their connections: see
//! `shaders/fan_in_group_logits.wgsl`.

use rayon::prelude::*;

use super::fan_in_dlogits::{Block, Loss, loss_row, positives_of};
use super::fan_in_step::{StepOptions, open_features};
use super::optimizer::{PaddedRates, Rule, state_chunks, step_slices};
use super::storage::{IndexReader, IndexRows, Storage};
use super::vector::vectorised;
use super::{WORKGROUP, columns_of, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

/// Most labels of an invocation of this kernel and of `fan_in_group_update`.
pub const TILE: usize = 8;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rates: PaddedRates,
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
    train_bias: u32,
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
        Access::Write,
        Access::Write,
        Access::Write,
        Access::Write,
        Access::Write,
    ],
    twin,
    variants,
};

/// Every loss, rule, storage, layout of features and of indices.
fn variants() -> Vec<Constants> {
    let mut all = Vec::new();
    for rows in IndexRows::variants() {
        for weights in Storage::ALL {
            for features in [Storage::F32, Storage::F16] {
                let of = |loss, rule| constants(loss, rule, weights, features, rows);
                all.extend(Rule::ALL.map(|rule| of(Loss::Bce, rule)));
                all.push(of(Loss::SquaredHinge, Rule::AdamW));
            }
        }
    }
    all
}

fn constants(loss: Loss, rule: Rule, weights: Storage, features: Storage, rows: IndexRows) -> Constants {
    let own = [
        ("FEATURES", features as u32),
        ("LOSS", loss as u32),
        ("OPTIMIZER", rule as u32),
        ("WEIGHTS", weights as u32),
        ("WORKGROUP", WORKGROUP),
    ];
    [own.as_slice(), &rows.constants()].concat()
}

/// Tiles of labels in a launch.
pub(super) fn tiles(block: Block) -> usize {
    block.index_rows() * block.group.div_ceil(TILE)
}

/// Logits of a run of labels, their losses and gradients, and the step of the biases. In: `x` [D, columns], f16 in pairs
/// where the precision has them so, `indices` [rows / group, index words], `positives` (label, sample) pairs [P, 2] of
/// the batch sorted by label, then sample, `weights` [rows, weight words]. Changed: `bias` \[rows\] and its states. Out:
/// `dlogits` [rows, columns], the gradient of the loss times the scale; `label_loss` \[rows\], summed over the samples.
pub fn launch(
    block: Block,
    step: &StepOptions,
    [x, indices, positives, weights]: [&Slice; 4],
    [bias, bias_first, bias_second]: [&Slice; 3],
    [dlogits, label_loss]: [&Slice; 2],
) -> Launch {
    let columns = columns_of(block.batch);
    let params = Params {
        rates: step.rates.into(),
        rows: block.rows as u32,
        first_label: block.first_label as u32,
        fan_in: block.fan_in as u32,
        index_words: block.index_words() as u32,
        weight_words: block.weight_words() as u32,
        group: block.group as u32,
        batch: block.batch as u32,
        columns: columns as u32,
        positives: step.positives as u32,
        scale: step.scale,
        train_bias: u32::from(step.train_bias),
    };
    let precision = block.precision;
    let bindings = [x, indices, positives, weights, bias, bias_first, bias_second, dlogits, label_loss];
    Launch {
        kernel: &KERNEL,
        constants: constants(step.loss, step.rule, precision.weights, precision.features, block.indices()),
        bindings: bindings.map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(tiles(block)),
        work: (block.rows * block.fan_in * columns) as u64,
    }
}

/// Rows that one task of the twin takes.
const CHUNK: usize = 64;

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let rule = Rule::from_constant(call.constant("OPTIMIZER"));
    let hinge = call.constant("LOSS") == Loss::SquaredHinge as u32;
    let storage = Storage::from_constant(call.constant("WEIGHTS"));
    let mut room = Vec::new();
    let x = open_features(call.constant("FEATURES"), call.read::<u32>(0), &mut room);
    let index_rows = IndexRows::from_constant(call.constant("STRATIFIED_FEATURES"), p.fan_in as usize);
    let indices = call.read::<u32>(1);
    let positives = &call.read::<[u32; 2]>(2)[..p.positives as usize];
    let (rows, words, columns) = (p.rows as usize, p.weight_words as usize, p.columns as usize);
    let weights = &call.read::<u32>(3)[..rows * words];
    let chunks = rows.div_ceil(CHUNK);
    let bias = call.write::<f32>(4)[..rows].par_chunks_mut(CHUNK);
    let first = state_chunks(call.write::<f32>(5), rule.states() >= 1, CHUNK, chunks);
    let second = state_chunks(call.write::<f32>(6), rule.states() >= 2, CHUNK, chunks);
    let dlogits = call.write::<f32>(7)[..rows * columns].par_chunks_mut(CHUNK * columns);
    let label_loss = call.write::<f32>(8)[..rows].par_chunks_mut(CHUNK);
    let tasks = bias.zip(first).zip(second).zip(dlogits.zip(label_loss)).enumerate();
    tasks.for_each(|(chunk, (((bias, first), second), (dlogits, label_loss)))| {
        let mut reader = IndexReader::new(index_rows);
        let mut gradients = vec![0.0; bias.len()];
        for (i, z) in dlogits.chunks_exact_mut(columns).enumerate() {
            let row = chunk * CHUNK + i;
            let indices = reader.row(indices, row / p.group as usize);
            let weights = &weights[row * words..][..words];
            let positives = positives_of(positives, p.first_label + row as u32);
            vectorised(
                #[inline(always)]
                || {
                    z.fill(bias[i]);
                    for (slot, feature) in indices.iter().enumerate() {
                        let w = storage.get(weights, slot);
                        let x = &x[usize::from(*feature) * columns..][..columns];
                        z.iter_mut().zip(x).for_each(|(z, x)| *z += w * x);
                    }
                    label_loss[i] = if hinge {
                        loss_row::<true>(z, p.batch as usize, positives, p.scale)
                    } else {
                        loss_row::<false>(z, p.batch as usize, positives, p.scale)
                    };
                    gradients[i] = z.iter().sum();
                },
            );
        }
        if p.train_bias == 1 {
            step_slices(rule, &p.rates.rates.without_decay(), bias, &gradients, first, second);
        }
    });
}
