//! Merges the best lists of a block's segments: see `shaders/top_k_merge.wgsl`.

use super::top_k_list::{LOWEST, MAX_K, NOTHING, constants, insert};
use super::workgroups;
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    columns: u32,
    segments: u32,
    fresh: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "top_k_merge",
    source: include_str!("../../shaders/top_k_merge.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Write, Access::Write],
    twin,
    variants: || [1, 5, 100, MAX_K].map(constants).to_vec(),
};

/// Merges `scores` and `labels` [segments, columns, K] into `best_scores` and `best_labels` [columns, K]; with
/// `fresh`, these hold nothing yet.
pub fn launch(
    columns: usize,
    segments: usize,
    k: usize,
    fresh: bool,
    [scores, labels, best_scores, best_labels]: [&Slice; 4],
) -> Launch {
    let params = Params { columns: columns as u32, segments: segments as u32, fresh: u32::from(fresh) };
    Launch {
        kernel: &KERNEL,
        constants: constants(k),
        bindings: [scores, labels, best_scores, best_labels].map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(columns),
        work: (columns * segments * k) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let k = call.constant("K") as usize;
    let columns = p.columns as usize;
    let (scores, labels) = (call.read::<f32>(0), call.read::<u32>(1));
    let best_scores = &mut call.write::<f32>(2)[..columns * k];
    let best_labels = &mut call.write::<u32>(3)[..columns * k];
    if p.fresh == 1 {
        best_scores.fill(LOWEST);
        best_labels.fill(NOTHING);
    }
    for segment in 0..p.segments as usize {
        for sample in 0..columns {
            let theirs = (segment * columns + sample) * k..;
            let mine = sample * k..(sample + 1) * k;
            let (best_scores, best_labels) = (&mut best_scores[mine.clone()], &mut best_labels[mine]);
            for (score, label) in scores[theirs.clone()].iter().zip(&labels[theirs]).take(k) {
                if *score <= best_scores[k - 1] {
                    break;
                }
                insert(best_scores, best_labels, *score, *label);
            }
        }
    }
}
