//! LayerNorm over the features of each row: see `shaders/layer_norm.wgsl`.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

/// Lanes of a workgroup; it owns one row.
pub(super) const LANES: u32 = 64;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    hidden: u32,
    epsilon: f32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "layer_norm",
    source: include_str!("../../shaders/layer_norm.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write, Access::Write],
    twin,
    variants: || vec![vec![("LANES", LANES)]],
};

/// `y` [B, H] and `stats` [B, 2] (mean, 1/σ) from `x` [B, H], `gamma` \[H\], `beta` \[H\].
pub fn launch(rows: usize, hidden: usize, epsilon: f32, [x, gamma, beta, y, stats]: [&Slice; 5]) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("LANES", LANES)],
        bindings: [x, gamma, beta, y, stats].map(Clone::clone).to_vec(),
        params: words_of(&Params { rows: rows as u32, hidden: hidden as u32, epsilon }),
        workgroups: rows as u32,
        work: (rows * hidden * 4) as u64,
    }
}

/// Σ `terms`(a, b) over two slices of equal length: four vectors of partial sums, added in a fixed order. The term is
/// given for vectors and for the numbers that fill none.
#[inline(always)]
pub(super) fn sum_of<S: Simd>(
    simd: S,
    (a, b): (&[f32], &[f32]),
    vector: impl Fn(S::f32s, S::f32s) -> S::f32s,
    number: impl Fn(f32, f32) -> f32,
) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let ((a_runs, a), (b_runs, b)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [simd.splat_f32s(0.0); 4];
    for (a, b) in a_runs.iter().zip(b_runs) {
        for n in 0..4 {
            sums[n] = simd.add_f32s(sums[n], vector(a[n], b[n]));
        }
    }
    for (a, b) in a.iter().zip(b) {
        sums[0] = simd.add_f32s(sums[0], vector(*a, *b));
    }
    let [s0, s1, s2, s3] = sums;
    let sums = simd.add_f32s(simd.add_f32s(s0, s1), simd.add_f32s(s2, s3));
    let rest = a_rest.iter().zip(b_rest);
    rest.fold(simd.reduce_sum_f32s(sums), |sum, (a, b)| sum + number(*a, *b))
}

/// Σ (x − `mean`)² over a slice.
#[inline(always)]
pub(super) fn squares<S: Simd>(simd: S, x: &[f32], mean: f32) -> f32 {
    let means = simd.splat_f32s(mean);
    let vector = |x, _| {
        let d = simd.sub_f32s(x, means);
        simd.mul_f32s(d, d)
    };
    sum_of(simd, (x, x), vector, |x, _| (x - mean) * (x - mean))
}

/// LayerNorm of the row `x` into `y`; gives (mean, 1/σ).
pub(super) struct NormRow<'a> {
    pub(super) x: &'a [f32],
    pub(super) gamma: &'a [f32],
    pub(super) beta: &'a [f32],
    pub(super) epsilon: f32,
    pub(super) y: &'a mut [f32],
}

impl WithSimd for NormRow<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [f32; 2] {
        let Self { x, gamma, beta, epsilon, y } = self;
        let count = x.len() as f32;
        let mean = sum_of(simd, (x, x), |x, _| x, |x, _| x) / count;
        let rstd = 1.0 / (squares(simd, x, mean) / count + epsilon).sqrt();
        for (((y, x), gamma), beta) in y.iter_mut().zip(x).zip(gamma).zip(beta) {
            *y = (x - mean) * rstd * gamma + beta;
        }
        [mean, rstd]
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let hidden = p.hidden as usize;
    let x = call.read::<f32>(0);
    let (gamma, beta) = (&call.read::<f32>(1)[..hidden], &call.read::<f32>(2)[..hidden]);
    let y = &mut call.write::<f32>(3)[..p.rows as usize * hidden];
    let stats = call.write::<f32>(4);
    let rows = y.par_chunks_mut(hidden).zip(x.par_chunks(hidden)).zip(stats.par_chunks_mut(2));
    rows.with_min_len(8).for_each(|((y, x), stats)| {
        let row = NormRow { x, gamma, beta, epsilon: p.epsilon, y };
        stats.copy_from_slice(&pulp::Arch::new().dispatch(row));
    });
}
