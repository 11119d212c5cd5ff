//! Lists of connections in 16 bits from such in 32: see `shaders/inverted_index_pack.wgsl`.

use rayon::prelude::*;

use super::lists::Lists;
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    connections: u32,
    slot_bits: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "inverted_index_pack",
    source: include_str!("../../shaders/inverted_index_pack.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// Packs `wide`, the lists of so many connections of rows of `fan_in` slots as [`super::inverted_index::Sort`] makes them,
/// into `narrow` [connections / 2, rounded up], for `lists` that are narrow.
pub fn launch(lists: Lists, fan_in: usize, connections: usize, wide: &Slice, narrow: &Slice) -> Launch {
    let params = Params { connections: connections as u32, slot_bits: lists.slot_bits(fan_in) };
    Launch {
        kernel: &KERNEL,
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: vec![wide.clone(), narrow.clone()],
        params: words_of(&params),
        workgroups: workgroups(lists.words(connections)),
        work: connections as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let wide = &call.read::<u32>(0)[..p.connections as usize];
    let narrow = |connection: u32| (connection >> 16) << p.slot_bits | connection & 0xffff;
    call.write::<u32>(1).par_iter_mut().zip(wide.par_chunks(2)).for_each(|(word, pair)| {
        *word = narrow(pair[0]) | pair.get(1).map_or(0, |second| narrow(*second) << 16);
    });
}
