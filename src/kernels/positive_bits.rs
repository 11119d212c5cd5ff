//! Which samples of a batch are positive for each label, a bit each: see `shaders/positive_bits.wgsl`.

use rayon::prelude::*;

use super::fan_in_dlogits::positives_of;
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

/// Samples in a word.
const SAMPLES: usize = u32::BITS as usize;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    first_label: u32,
    words: u32,
    positives: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "positive_bits",
    source: include_str!("../../shaders/positive_bits.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// 32-bit words of a label for `columns` samples.
#[must_use]
pub fn words(columns: usize) -> usize {
    columns.div_ceil(SAMPLES)
}

/// Bits [rows, [`words`] of `columns`] of the labels from `first_label` on. In: `positives` (label, sample) pairs \[P, 2\] of
/// the batch sorted by label, then sample, of which `count` are looked at.
pub fn launch(
    rows: usize,
    first_label: usize,
    columns: usize,
    count: usize,
    [positives, bits]: [&Slice; 2],
) -> Launch {
    let params = Params {
        rows: rows as u32,
        first_label: first_label as u32,
        words: words(columns) as u32,
        positives: count as u32,
    };
    Launch {
        kernel: &KERNEL,
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: [positives, bits].map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(rows),
        work: (rows * words(columns)) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let positives = &call.read::<[u32; 2]>(0)[..p.positives as usize];
    let (rows, words) = (p.rows as usize, p.words as usize);
    let bits = call.write::<u32>(1)[..rows * words].par_chunks_mut(words);
    bits.enumerate().for_each(|(row, bits)| {
        bits.fill(0);
        for [_, sample] in positives_of(positives, p.first_label + row as u32) {
            bits[*sample as usize / SAMPLES] |= 1 << (*sample as usize % SAMPLES);
        }
    });
}

/// The (label, sample) pairs of a label, from its bits.
pub(super) fn pairs(label: u32, bits: &[u32]) -> Vec<[u32; 2]> {
    let samples = 0..(bits.len() * SAMPLES) as u32;
    let positive = |sample: &u32| bits[*sample as usize / SAMPLES] >> (*sample as usize % SAMPLES) & 1 == 1;
    samples.filter(positive).map(|sample| [label, sample]).collect()
}
