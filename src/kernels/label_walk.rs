//! The walks over a label's connections that the CPU's passes are made of: its logits, and the way back.

use pulp::Simd;

use super::vector::SumsOfFour;

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
    let held = *run::<_, N>(g, at);
    let sums_of_four = SumsOfFour::<S>::new(simd);
    // Rows of weights may be padded to whole words.
    let (weights, indices) = (&weights[..gradients.len()], &indices[..gradients.len()]);
    let ((weights, weights_left), (indices, indices_left)) =
        (weights.as_chunks::<4>(), indices.as_chunks::<4>());
    let (gradients, gradients_left) = gradients.as_chunks_mut::<4>();
    for ((weights, indices), gradients) in weights.iter().zip(indices).zip(gradients) {
        let mut lanes = [simd.splat_f32s(0.0); 4];
        for ((lanes, w), i) in lanes.iter_mut().zip(weights).zip(indices) {
            *lanes = backward_connection(simd, x, dx, usize::from(*i) * stride + at, *w, &held);
        }
        let sums = sums_of_four.of(simd, lanes);
        gradients.iter_mut().zip(sums).for_each(|(gradient, sum)| *gradient += sum);
    }
    for ((w, i), gradient) in weights_left.iter().zip(indices_left).zip(gradients_left) {
        let lanes = backward_connection(simd, x, dx, usize::from(*i) * stride + at, *w, &held);
        *gradient += simd.reduce_sum_f32s(lanes);
    }
}

/// The way back of one connection, whose samples begin at vector `at` of x and dx. What the gradient is the sum of, in lanes.
#[inline(always)]
fn backward_connection<S: Simd, const N: usize>(
    simd: S,
    x: &[S::f32s],
    dx: &mut [S::f32s],
    at: usize,
    weight: f32,
    g: &[S::f32s; N],
) -> S::f32s {
    let w = simd.splat_f32s(weight);
    let x = run::<_, N>(x, at);
    let (dx, _) = dx[at..].split_first_chunk_mut::<N>().expect("indices name features");
    let mut sums = [simd.splat_f32s(0.0); 2];
    for n in 0..N {
        dx[n] = simd.mul_add_e_f32s(w, g[n], dx[n]);
        sums[n % 2] = simd.mul_add_e_f32s(g[n], x[n], sums[n % 2]);
    }
    simd.add_f32s(sums[0], sums[1])
}
