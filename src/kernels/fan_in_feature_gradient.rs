//! Gradient of the features from one block of labels, by its inverted index: see
//! `shaders/fan_in_feature_gradient.wgsl`.

use rayon::prelude::*;

use super::fan_in_dlogits::Block;
use super::storage::Storage;
use super::vector::vectorised;
use super::{WORKGROUP, columns_of, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    features: u32,
    rows: u32,
    fan_in: u32,
    weight_words: u32,
    group: u32,
    columns: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "fan_in_feature_gradient",
    source: include_str!("../../shaders/fan_in_feature_gradient.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
    twin,
    variants: || Storage::ALL.map(constants).to_vec(),
};

fn constants(weights: Storage) -> Constants {
    vec![("WEIGHTS", weights as u32), ("WORKGROUP", WORKGROUP)]
}

/// Adds to `dx` [D, columns] what `dlogits` [rows, columns] send back through `weights` [rows, weight words]. `offsets` [D + 1]
/// and `connections` [rows / group · F] are the block's inverted index.
pub fn launch(
    block: Block,
    features: usize,
    [dlogits, weights, offsets, connections, dx]: [&Slice; 5],
) -> Launch {
    let columns = columns_of(block.batch);
    let params = Params {
        features: features as u32,
        rows: block.rows as u32,
        fan_in: block.fan_in as u32,
        weight_words: block.weight_words() as u32,
        group: block.group as u32,
        columns: columns as u32,
    };
    Launch {
        kernel: &KERNEL,
        constants: constants(block.precision.weights),
        bindings: [dlogits, weights, offsets, connections, dx].map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(features * columns / 4),
        work: (block.rows * block.fan_in * columns) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (dlogits, weights) = (call.read::<f32>(0), call.read::<u32>(1));
    let storage = Storage::from_constant(call.constant("WEIGHTS"));
    let words = p.weight_words as usize;
    let (offsets, connections) = (call.read::<u32>(2), call.read::<u32>(3));
    let dx = call.write::<f32>(4);
    let (columns, fan_in, group) = (p.columns as usize, p.fan_in as usize, p.group as usize);
    dx.par_chunks_mut(columns).take(p.features as usize).enumerate().for_each(|(feature, dx)| {
        let list = &connections[offsets[feature] as usize..offsets[feature + 1] as usize];
        vectorised(
            #[inline(always)]
            || {
                for connection in list.iter().map(|c| *c as usize) {
                    let (index_row, slot) = (connection / fan_in, connection % fan_in);
                    for row in index_row * group..((index_row + 1) * group).min(p.rows as usize) {
                        let w = storage.get(&weights[row * words..], slot);
                        let g = &dlogits[row * columns..][..columns];
                        dx.iter_mut().zip(g).for_each(|(dx, g)| *dx += w * g);
                    }
                }
            },
        );
    });
}
