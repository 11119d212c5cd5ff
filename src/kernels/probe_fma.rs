//! How fast f32 arithmetic is: see `shaders/probe_fma.wgsl`.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{WORKGROUP, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

/// Independent chains of an invocation.
pub const CHAINS: usize = 32;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    lanes: u32,
    rounds: u32,
    half: f32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "probe_fma",
    source: include_str!("../../shaders/probe_fma.wgsl"),
    bindings: &[Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// `lanes` · `rounds` · [`CHAINS`] multiply-adds; `sums` \[lanes\] gets the sums of the chains' ends.
pub fn launch(lanes: usize, rounds: usize, sums: &Slice) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: vec![sums.clone()],
        params: words_of(&Params { lanes: lanes as u32, rounds: rounds as u32, half: 0.5 }),
        workgroups: workgroups(lanes),
        work: (lanes * rounds * CHAINS) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let sums = &mut call.write::<f32>(0)[..p.lanes as usize];
    sums.par_chunks_mut(64).for_each(|sums| pulp::Arch::new().dispatch(Chains { p: &p, sums }));
}

struct Chains<'a> {
    p: &'a Params,
    sums: &'a mut [f32],
}

impl WithSimd for Chains<'_> {
    type Output = ();

    /// Lanes beside each other in vectors, four chains of each at a time and all starts of a lane in turn.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let half = simd.splat_f32s(self.p.half);
        for sums in self.sums.chunks_mut(S::F32_LANES) {
            // The chains 4i … 4i + 3 of a lane start alike; eight different ones fill the pipeline.
            let mut chains = [half; 8];
            for (i, chain) in chains.iter_mut().enumerate() {
                *chain = simd.splat_f32s(i as f32);
            }
            let mut total = [0.0_f32; 64];
            for _ in 0..4 {
                let mut ends = chains;
                for _ in 0..self.p.rounds {
                    for end in &mut ends {
                        *end = simd.mul_add_e_f32s(*end, half, half);
                    }
                }
                let mut sum = simd.splat_f32s(0.0);
                for end in ends {
                    sum = simd.add_f32s(sum, end);
                }
                let (vectors, _) = S::as_mut_simd_f32s(&mut total);
                vectors[0] = simd.add_f32s(vectors[0], sum);
            }
            sums.copy_from_slice(&total[..sums.len()]);
        }
    }
}
