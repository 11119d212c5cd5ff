//! What groups of labels send back through their connections: see `shaders/fan_in_group_gradient.wgsl`.

use rayon::prelude::*;

use super::fan_in_dlogits::Block;
use super::storage::Storage;
use super::vector::vectorised;
use super::{WORKGROUP, columns_of, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

/// Connections and samples of an invocation, each.
const TILE: usize = 8;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    fan_in: u32,
    weight_words: u32,
    group: u32,
    columns: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "fan_in_group_gradient",
    source: include_str!("../../shaders/fan_in_group_gradient.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Write],
    twin,
    variants: || Storage::ALL.map(constants).to_vec(),
};

fn constants(weights: Storage) -> Constants {
    vec![("WEIGHTS", weights as u32), ("WORKGROUP", WORKGROUP)]
}

/// Σ over the labels of a group of `weights` [rows, weight words] · `dlogits` [rows, columns], for each connection:
/// into `by_slot` [rows / group, F, columns].
pub fn launch(block: Block, [weights, dlogits, by_slot]: [&Slice; 3]) -> Launch {
    let columns = columns_of(block.batch);
    let params = Params {
        rows: block.rows as u32,
        fan_in: block.fan_in as u32,
        weight_words: block.weight_words() as u32,
        group: block.group as u32,
        columns: columns as u32,
    };
    Launch {
        kernel: &KERNEL,
        constants: constants(block.precision.weights),
        bindings: [weights, dlogits, by_slot].map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(block.index_rows() * block.fan_in.div_ceil(TILE) * columns / TILE),
        work: (block.rows * block.fan_in * columns) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let storage = Storage::from_constant(call.constant("WEIGHTS"));
    let (weights, dlogits) = (call.read::<u32>(0), call.read::<f32>(1));
    let (rows, words) = (p.rows as usize, p.weight_words as usize);
    let (group, fan_in, columns) = (p.group as usize, p.fan_in as usize, p.columns as usize);
    let connections = rows.div_ceil(group) * fan_in;
    let sums = call.write::<f32>(2)[..connections * columns].par_chunks_mut(columns);
    sums.enumerate().for_each(|(connection, sum)| {
        let (index_row, slot) = (connection / fan_in, connection % fan_in);
        vectorised(
            #[inline(always)]
            || {
                sum.fill(0.0);
                for row in index_row * group..((index_row + 1) * group).min(rows) {
                    let w = storage.get(&weights[row * words..], slot);
                    let g = &dlogits[row * columns..][..columns];
                    sum.iter_mut().zip(g).for_each(|(sum, g)| *sum += w * g);
                }
            },
        );
    });
}
