//! Loss of a block of labels and its gradient, from logits that a matrix product gave: see `shaders/label_loss.wgsl`.

use rayon::prelude::*;

use super::fan_in_dlogits::{Block, LOGITS, Loss, positives_of};
use super::loss_row::loss_of_label;
use super::vector::vectorised;
use super::{WORKGROUP, columns_of, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    first_label: u32,
    batch: u32,
    columns: u32,
    positives: u32,
    scale: f32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "label_loss",
    source: include_str!("../../shaders/label_loss.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write, Access::Write],
    twin,
    variants: || [0, 1, LOGITS].map(|loss| vec![("LOSS", loss), ("WORKGROUP", WORKGROUP)]).to_vec(),
};

/// Gradient of `loss` with respect to the logits, times `scale`, into `dlogits` [rows, columns]; the loss of each
/// label summed over the samples into `label_loss` \[rows\].
///
/// `logits` [rows, columns] come without `bias` \[rows\]; `positives` are (label, sample) pairs [P, 2] of the batch,
/// sorted by label, then sample. With `loss` `None`, `dlogits` gets logits and bias added. Of `block`, the connections
/// do not matter.
pub fn launch(
    block: Block,
    loss: Option<Loss>,
    scale: f32,
    positive_count: usize,
    [logits, bias, positives, dlogits, label_loss]: [&Slice; 5],
) -> Launch {
    let columns = columns_of(block.batch);
    let params = Params {
        rows: block.rows as u32,
        first_label: block.first_label as u32,
        batch: block.batch as u32,
        columns: columns as u32,
        positives: positive_count as u32,
        scale,
    };
    Launch {
        kernel: &KERNEL,
        constants: vec![("LOSS", loss.map_or(LOGITS, |loss| loss as u32)), ("WORKGROUP", WORKGROUP)],
        bindings: [logits, bias, positives, dlogits, label_loss].map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(block.rows),
        work: (block.rows * columns * 16) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (rows, columns, batch) = (p.rows as usize, p.columns as usize, p.batch as usize);
    let (logits, bias) = (call.read::<f32>(0), call.read::<f32>(1));
    let positives = &call.read::<[u32; 2]>(2)[..p.positives as usize];
    let (dlogits, label_loss) = (call.write::<f32>(3), call.write::<f32>(4));
    let loss = Loss::from_constant(call.constant("LOSS"));
    let tasks = dlogits.par_chunks_mut(columns).zip(logits.par_chunks(columns)).zip(label_loss).take(rows);
    tasks.enumerate().for_each(|(row, ((z, logits), total))| {
        vectorised(
            #[inline(always)]
            || {
                z.iter_mut().zip(logits).for_each(|(z, logit)| *z = logit + bias[row]);
                let label = p.first_label + row as u32;
                *total = loss.map_or(0.0, |loss| {
                    loss_of_label(loss, z, batch, positives_of(positives, label), p.scale)
                });
            },
        );
    });
}
