//! Gradient of the position embeddings of packed documents: see `shaders/position_gradient.wgsl`.

use rayon::prelude::*;

use super::vector::vectorised;
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    documents: u32,
    positions: u32,
    hidden: u32,
    first_position: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "position_gradient",
    source: include_str!("../../shaders/position_gradient.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Write],
    twin,
    variants: || [false, true].map(constants).to_vec(),
};

fn constants(accumulate: bool) -> Constants {
    vec![("ACCUMULATE", u32::from(accumulate)), ("WORKGROUP", WORKGROUP)]
}

/// `gradient` [P, H], P = `positions`, from `dx` [T, H] and `offsets` [B + 1] (u32): row `first_position` + j sums token
/// j of every document that has one. Rows of no token get 0; `accumulate` adds to what is there.
pub fn launch(
    documents: usize,
    tokens: usize,
    positions: usize,
    hidden: usize,
    first_position: usize,
    [dx, offsets, gradient]: [&Slice; 3],
    accumulate: bool,
) -> Launch {
    let params = Params {
        documents: documents as u32,
        positions: positions as u32,
        hidden: hidden as u32,
        first_position: first_position as u32,
    };
    Launch {
        kernel: &KERNEL,
        constants: constants(accumulate),
        bindings: [dx, offsets, gradient].map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: workgroups(positions * hidden),
        work: ((tokens + positions) * hidden) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (dx, offsets) = (call.read::<f32>(0), &call.read::<u32>(1)[..=p.documents as usize]);
    let accumulate = call.constant("ACCUMULATE") == 1;
    let (hidden, first_position) = (p.hidden as usize, p.first_position as usize);
    let gradient = &mut call.write::<f32>(2)[..p.positions as usize * hidden];
    gradient.par_chunks_mut(hidden).enumerate().for_each(|(row, gradient)| {
        vectorised(
            #[inline(always)]
            || {
                if !accumulate {
                    gradient.fill(0.0);
                }
                let Some(place) = row.checked_sub(first_position) else { return };
                for document in offsets.windows(2) {
                    let token = document[0] as usize + place;
                    if token < document[1] as usize {
                        let dx = &dx[token * hidden..][..hidden];
                        gradient.iter_mut().zip(dx).for_each(|(sum, g)| *sum += g);
                    }
                }
            },
        );
    });
}
