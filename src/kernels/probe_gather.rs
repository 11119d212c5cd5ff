//! How fast rows of features are fetched at random: see `shaders/probe_gather.wgsl`.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::label_walk::in_pieces;
use super::{Fetch, WORKGROUP, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    lanes: u32,
    rounds: u32,
    features: u32,
    quads: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "probe_gather",
    source: include_str!("../../shaders/probe_gather.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// The kernel with fetches of 64 bits.
pub static PAIRS: Kernel = Kernel {
    name: "probe_gather_pairs",
    source: include_str!("../../shaders/probe_gather_pairs.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// The kernel that fetches from a texture.
pub static TEXTURES: Kernel = Kernel {
    name: "probe_gather_textures",
    source: include_str!("../../shaders/probe_gather_textures.wgsl"),
    bindings: &[Access::ReadTexture, Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// `lanes` · `rounds` random rows of `x` [features, columns], added up in tiles of 16 samples: `sums` [lanes, 16].
/// `columns` is a multiple of 16; for [`Fetch::Textures`] `x` is a texture.
pub fn launch(
    lanes: usize,
    rounds: usize,
    [features, columns]: [usize; 2],
    fetch: Fetch,
    [x, sums]: [&Slice; 2],
) -> Launch {
    Launch {
        kernel: match fetch {
            Fetch::Textures => &TEXTURES,
            Fetch::DearPairs => &PAIRS,
            Fetch::Dear | Fetch::Cheap => &KERNEL,
        },
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: vec![x.clone(), sums.clone()],
        params: words_of(&Params {
            lanes: lanes as u32,
            rounds: rounds as u32,
            features: features as u32,
            quads: (columns / 4) as u32,
        }),
        workgroups: workgroups(lanes),
        work: (lanes * rounds * columns) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let x = call.read::<f32>(0);
    let sums = &mut call.write::<f32>(1)[..p.lanes as usize * 16];
    sums.par_chunks_mut(64 * 16).enumerate().for_each(|(chunk, sums)| {
        pulp::Arch::new().dispatch(Lanes { p: &p, x, first: chunk as u32 * 64, sums });
    });
}

struct Lanes<'a> {
    p: &'a Params,
    x: &'a [f32],
    first: u32,
    sums: &'a mut [f32],
}

impl WithSimd for Lanes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (x, _) = S::as_simd_f32s(self.x);
        let vectors = 16 / S::F32_LANES;
        let stride = self.p.quads as usize * 4 / S::F32_LANES;
        for (lane, sums) in self.sums.chunks_exact_mut(16).enumerate() {
            let (sums, _) = S::as_mut_simd_f32s(sums);
            sums.fill(simd.splat_f32s(0.0));
            let seed = (self.first + lane as u32).wrapping_mul(2_654_435_761);
            in_pieces!(stride, add_rows::<S>(simd, self.p, (x, stride), seed, &mut sums[..vectors]));
        }
    }
}

/// Adds `N` vectors of each row, from vector `at` on, to the sums of their samples. No addition waits for another of its row.
#[inline(always)]
fn add_rows<S: Simd, const N: usize>(
    simd: S,
    p: &Params,
    (x, stride): (&[S::f32s], usize),
    seed: u32,
    sums: &mut [S::f32s],
    at: usize,
) {
    let mut held = [simd.splat_f32s(0.0); N];
    let mut state = seed;
    for _ in 0..p.rounds {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let row = (((state >> 16) * p.features) >> 16) as usize * stride;
        let x = x[row + at..].first_chunk::<N>().expect("rows of whole vectors");
        for n in 0..N {
            held[n] = simd.add_f32s(held[n], x[n]);
        }
    }
    for (n, held) in held.into_iter().enumerate() {
        let sum = &mut sums[(at + n) % sums.len()];
        *sum = simd.add_f32s(*sum, held);
    }
}
