//! The K best of each segment of a block of labels, from logits that a matrix product gave: see
//! `shaders/logits_top_k.wgsl`.

use rayon::prelude::*;

use super::fan_in_dlogits::Block;
use super::top_k_list::{BestLists, MAX_K, SEGMENT, constants, segments};
use super::vector::vectorised;
use super::{columns_of, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    first_label: u32,
    batch: u32,
    columns: u32,
    segment: u32,
    segments: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "logits_top_k",
    source: include_str!("../../shaders/logits_top_k.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write, Access::Write],
    twin,
    variants: || [1, 5, 100, MAX_K].map(constants).to_vec(),
};

/// `scores` and `labels` [segments, columns, K], best first, of `logits` [rows, columns] and `bias` \[rows\], filtered
/// by `filter_offsets` [B + 1] and `filter_labels`. Of `block`, the connections do not matter.
pub fn launch(
    block: Block,
    k: usize,
    [logits, bias, filter_offsets, filter_labels, scores, labels]: [&Slice; 6],
) -> Launch {
    let columns = columns_of(block.batch);
    let params = Params {
        rows: block.rows as u32,
        first_label: block.first_label as u32,
        batch: block.batch as u32,
        columns: columns as u32,
        segment: SEGMENT as u32,
        segments: segments(block.rows) as u32,
    };
    Launch {
        kernel: &KERNEL,
        constants: constants(k),
        bindings: [logits, bias, filter_offsets, filter_labels, scores, labels].map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(segments(block.rows) * columns),
        work: (block.rows * columns) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let k = call.constant("K") as usize;
    let (rows, columns, segment) = (p.rows as usize, p.columns as usize, p.segment as usize);
    let (logits, bias) = (&call.read::<f32>(0)[..rows * columns], &call.read::<f32>(1)[..rows]);
    let filter = [call.read::<u32>(2), call.read::<u32>(3)];
    let area = columns * k;
    let scores = &mut call.write::<f32>(4)[..p.segments as usize * area];
    let labels = &mut call.write::<u32>(5)[..p.segments as usize * area];
    let tasks = scores.par_chunks_mut(area).zip(labels.par_chunks_mut(area)).enumerate();
    tasks.for_each(|(number, (scores, labels))| {
        let mut lists = BestLists::new(k, p.batch as usize, columns, filter, scores, labels);
        let mut z = vec![0.0_f32; columns];
        let first = number * segment;
        vectorised(
            #[inline(always)]
            || {
                for row in first..(first + segment).min(rows) {
                    let logits = &logits[row * columns..][..columns];
                    z.iter_mut().zip(logits).for_each(|(z, logit)| *z = logit + bias[row]);
                    lists.offer(p.first_label + row as u32, &z);
                }
            },
        );
    });
}
