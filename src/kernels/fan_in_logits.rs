//! Logits of a run of labels whose features lie in a texture, for software Vulkan: see `shaders/fan_in_logits.wgsl`.

use rayon::prelude::*;

use super::fan_in_dlogits::Block;
use super::storage::{IndexReader, IndexRows, Storage};
use super::vector::vectorised;
use super::{WORKGROUP, columns_of, divisor_of, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

/// Quads of samples that a lane takes at most.
const MOST_QUADS: u32 = 16;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    fan_in: u32,
    index_words: u32,
    weight_words: u32,
    group: u32,
    quads: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "fan_in_logits",
    source: include_str!("../../shaders/fan_in_logits.wgsl"),
    bindings: &[Access::ReadTexture, Access::Read, Access::Read, Access::Read, Access::Write],
    twin,
    variants: || {
        let of =
            |rows| Storage::ALL.map(|weights| [4, MOST_QUADS].map(|quads| constants(quads, weights, rows)));
        IndexRows::variants().map(of).concat().concat()
    },
};

fn constants(quads: u32, weights: Storage, rows: IndexRows) -> Constants {
    let own = vec![("QUADS", quads), ("WEIGHTS", weights as u32), ("WORKGROUP", WORKGROUP)];
    [own, rows.constants().to_vec()].concat()
}

/// `logits` [rows, columns] of the samples in `x`, a texture [D, columns], which may have more columns, by `weights`
/// [rows, weight words], `indices` [rows / group, index words] and `bias` \[rows\].
pub fn launch(block: Block, [x, weights, indices, bias, logits]: [&Slice; 5]) -> Launch {
    let columns = columns_of(block.batch);
    let quads = columns as u32 / 4;
    let own = divisor_of(quads, MOST_QUADS);
    let params = Params {
        rows: block.rows as u32,
        fan_in: block.fan_in as u32,
        index_words: block.index_words() as u32,
        weight_words: block.weight_words() as u32,
        group: block.group as u32,
        quads,
    };
    Launch {
        kernel: &KERNEL,
        constants: constants(own, block.precision.weights, block.indices()),
        bindings: [x, weights, indices, bias, logits].map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(block.rows * (quads / own) as usize),
        work: (block.rows * block.fan_in * columns) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let storage = Storage::from_constant(call.constant("WEIGHTS"));
    let stored = IndexRows::from_constant(call.constant("STRATIFIED_FEATURES"), p.fan_in as usize);
    let (x, weights, indices, bias) =
        (call.read::<f32>(0), call.read::<u32>(1), call.read::<u32>(2), call.read::<f32>(3));
    let columns = p.quads as usize * 4;
    let logits = call.write::<f32>(4).par_chunks_mut(columns).take(p.rows as usize).enumerate();
    logits.for_each_init(
        || IndexReader::new(stored),
        |reader, (row, z)| {
            let indices = reader.row(indices, row / p.group as usize);
            let weights = &weights[row * p.weight_words as usize..];
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
        },
    );
}
