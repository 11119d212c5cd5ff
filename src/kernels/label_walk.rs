//! The walks over a label's connections that the CPU's passes are made of: its logits, and the way back.

use pulp::Simd;

/// The sum of all lanes.
#[inline(always)]
pub(super) fn sum<S: Simd>(simd: S, numbers: &[S::f32s]) -> f32 {
    let mut sum = simd.splat_f32s(0.0);
    for number in numbers {
        sum = simd.add_f32s(sum, *number);
    }
    simd.reduce_sum_f32s(sum)
}

/// z[b] = bias + Σ_f w[f] · x[indices[f], b], in chunks of samples that stay in registers.
#[inline(always)]
pub(super) fn logits<S: Simd>(
    simd: S,
    x: &[S::f32s],
    stride: usize,
    weights: &[f32],
    indices: &[u16],
    bias: f32,
    z: &mut [S::f32s],
) {
    let mut at = 0;
    while at + 8 <= stride {
        logits_chunk::<S, 8>(simd, x, stride, at, weights, indices, bias, z);
        at += 8;
    }
    if at + 4 <= stride {
        logits_chunk::<S, 4>(simd, x, stride, at, weights, indices, bias, z);
        at += 4;
    }
    while at < stride {
        logits_chunk::<S, 1>(simd, x, stride, at, weights, indices, bias, z);
        at += 1;
    }
}

/// `N` vectors from `at` on, as an array: with its length known, sums over it stay in registers.
#[inline(always)]
fn run<T, const N: usize>(x: &[T], at: usize) -> &[T; N] {
    x[at..].first_chunk().expect("indices name features")
}

#[inline(always)]
fn logits_chunk<S: Simd, const N: usize>(
    simd: S,
    x: &[S::f32s],
    stride: usize,
    at: usize,
    weights: &[f32],
    indices: &[u16],
    bias: f32,
    z: &mut [S::f32s],
) {
    let mut sums = [simd.splat_f32s(bias); N];
    for (w, i) in weights.iter().zip(indices) {
        let w = simd.splat_f32s(*w);
        let x = run::<_, N>(x, usize::from(*i) * stride + at);
        for n in 0..N {
            sums[n] = simd.mul_add_e_f32s(w, x[n], sums[n]);
        }
    }
    z[at..at + N].copy_from_slice(&sums);
}

/// dx[indices[f], b] += w[f] · g[b] and gradients[f] += Σ_b g[b] · x[indices[f], b], in one walk over the fan-in.
#[inline(always)]
pub(super) fn backward<S: Simd>(
    simd: S,
    x: &[S::f32s],
    dx: &mut [S::f32s],
    stride: usize,
    weights: &[f32],
    indices: &[u16],
    g: &[S::f32s],
    gradients: &mut [f32],
) {
    let mut at = 0;
    while at + 8 <= stride {
        backward_chunk::<S, 8>(simd, x, dx, stride, at, weights, indices, g, gradients);
        at += 8;
    }
    if at + 4 <= stride {
        backward_chunk::<S, 4>(simd, x, dx, stride, at, weights, indices, g, gradients);
        at += 4;
    }
    while at < stride {
        backward_chunk::<S, 1>(simd, x, dx, stride, at, weights, indices, g, gradients);
        at += 1;
    }
}

#[inline(always)]
fn backward_chunk<S: Simd, const N: usize>(
    simd: S,
    x: &[S::f32s],
    dx: &mut [S::f32s],
    stride: usize,
    at: usize,
    weights: &[f32],
    indices: &[u16],
    g: &[S::f32s],
    gradients: &mut [f32],
) {
    let mut held = [simd.splat_f32s(0.0); N];
    held.copy_from_slice(&g[at..at + N]);
    for ((w, i), gradient) in weights.iter().zip(indices).zip(gradients) {
        let w = simd.splat_f32s(*w);
        let base = usize::from(*i) * stride + at;
        let x = run::<_, N>(x, base);
        let (dx, _) = dx[base..].split_first_chunk_mut::<N>().expect("indices name features");
        let mut sums = [simd.splat_f32s(0.0); 2];
        for n in 0..N {
            dx[n] = simd.mul_add_e_f32s(w, held[n], dx[n]);
            sums[n % 2] = simd.mul_add_e_f32s(held[n], x[n], sums[n % 2]);
        }
        *gradient += simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1]));
    }
}
