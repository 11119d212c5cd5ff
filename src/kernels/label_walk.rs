//! The walks over a label's connections that the CPU's passes are made of: its logits, and the way back.
//!
//! Samples are walked over in pieces of a few vectors, whose sums stay in registers.

use pulp::Simd;

use super::lane_sums::sums_of_four;

/// The sum of all lanes.
#[inline(always)]
pub(super) fn sum<S: Simd>(simd: S, numbers: &[S::f32s]) -> f32 {
    let mut sum = simd.splat_f32s(0.0);
    for number in numbers {
        sum = simd.add_f32s(sum, *number);
    }
    simd.reduce_sum_f32s(sum)
}

/// Calls `$walk` of `N` vectors, for pieces of 8, 4, 2 and 1 vectors one after the other, with where each begins.
macro_rules! in_pieces {
    ($stride:expr, $walk:ident::<$S:ident>($($argument:expr),*)) => {
        let (stride, mut at) = ($stride, 0);
        while at + 8 <= stride {
            $walk::<$S, 8>($($argument,)* at);
            at += 8;
        }
        if at + 4 <= stride {
            $walk::<$S, 4>($($argument,)* at);
            at += 4;
        }
        if at + 2 <= stride {
            $walk::<$S, 2>($($argument,)* at);
            at += 2;
        }
        if at < stride {
            $walk::<$S, 1>($($argument,)* at);
        }
    };
}

pub(super) use in_pieces;

/// z[b] = bias + Σ_f w[f] · x[indices[f], b]; rows of x begin `stride` vectors apart.
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
    in_pieces!(stride, logits_piece::<S>(simd, x, stride, (weights, indices, bias), z));
}

#[inline(always)]
fn logits_piece<S: Simd, const N: usize>(
    simd: S,
    x: &[S::f32s],
    stride: usize,
    (weights, indices, bias): (&[f32], &[u16], f32),
    z: &mut [S::f32s],
    at: usize,
) {
    let mut sums = [simd.splat_f32s(bias); N];
    for (w, i) in weights.iter().zip(indices) {
        let x = x[usize::from(*i) * stride + at..].first_chunk::<N>().expect("indices name features");
        add_product(simd, *w, x, &mut sums);
    }
    z[at..at + N].copy_from_slice(&sums);
}

/// sums += w · x.
#[inline(always)]
fn add_product<S: Simd, const N: usize>(simd: S, w: f32, x: &[S::f32s; N], sums: &mut [S::f32s; N]) {
    let w = simd.splat_f32s(w);
    for n in 0..N {
        sums[n] = simd.mul_add_e_f32s(w, x[n], sums[n]);
    }
}

/// The features of a batch and their gradient, [D, columns] each, side by side.
///
/// For each piece of `N` vectors of samples lie the rows of the features, each followed by its gradient's. A connection finds
/// both by one comparison, and no load of a feature waits for a store of a gradient that only looks as if it were to
/// the same address, 4 KiB away.
pub(super) struct SideBySide<'a, S: Simd> {
    vectors: &'a mut [S::f32s],
    features: usize,
    stride: usize,
}

impl<'a, S: Simd> SideBySide<'a, S> {
    /// The features `x`, and zeros; `room` has twice the length of `x`, whose rows have `stride` vectors.
    #[inline(always)]
    pub(super) fn new(simd: S, x: &[f32], room: &'a mut [f32], stride: usize) -> Self {
        let (x, _) = S::as_simd_f32s(x);
        let (vectors, _) = S::as_mut_simd_f32s(room);
        let features = x.len() / stride;
        in_pieces!(stride, lay_piece::<S>(simd, x, vectors, features));
        Self { vectors, features, stride }
    }

    /// See [`logits`].
    #[inline(always)]
    pub(super) fn logits(&self, simd: S, weights: &[f32], indices: &[u16], bias: f32, z: &mut [S::f32s]) {
        let label = (weights, indices, bias);
        in_pieces!(self.stride, logits_beside::<S>(simd, self.vectors, self.features, label, z));
    }

    /// dx[indices[f], b] += w[f] · g[b] and gradients[f] = Σ_b g[b] · x[indices[f], b], in one walk over the fan-in.
    #[inline(always)]
    pub(super) fn backward(
        &mut self,
        simd: S,
        weights: &[f32],
        indices: &[u16],
        g: &[S::f32s],
        gradients: &mut [f32],
    ) {
        let label = (weights, indices);
        in_pieces!(self.stride, backward_piece::<S>(simd, self.vectors, self.features, label, g, gradients));
    }

    /// Writes the gradient of the features to `dx` [D, columns].
    #[inline(always)]
    pub(super) fn take_gradient(&self, dx: &mut [f32]) {
        let (dx, _) = S::as_mut_simd_f32s(dx);
        in_pieces!(self.stride, take_piece::<S>(self.vectors, self.features, dx));
    }
}

/// Rows of features and gradients of the piece from vector `at` on, which [`SideBySide::new`] made.
#[inline(always)]
fn piece<T, const N: usize>(vectors: &[T], features: usize, at: usize) -> &[[[T; N]; 2]] {
    vectors[2 * features * at..][..2 * features * N].as_chunks().0.as_chunks().0
}

/// [`piece`], to be written.
#[inline(always)]
fn piece_mut<T, const N: usize>(vectors: &mut [T], features: usize, at: usize) -> &mut [[[T; N]; 2]] {
    vectors[2 * features * at..][..2 * features * N].as_chunks_mut().0.as_chunks_mut().0
}

#[inline(always)]
fn lay_piece<S: Simd, const N: usize>(
    simd: S,
    x: &[S::f32s],
    vectors: &mut [S::f32s],
    features: usize,
    at: usize,
) {
    let stride = x.len() / features;
    let rows = piece_mut::<_, N>(vectors, features, at);
    for ([feature, gradient], x) in rows.iter_mut().zip(x.chunks_exact(stride)) {
        feature.copy_from_slice(&x[at..at + N]);
        gradient.fill(simd.splat_f32s(0.0));
    }
}

#[inline(always)]
fn logits_beside<S: Simd, const N: usize>(
    simd: S,
    vectors: &[S::f32s],
    features: usize,
    (weights, indices, bias): (&[f32], &[u16], f32),
    z: &mut [S::f32s],
    at: usize,
) {
    let rows = piece::<_, N>(vectors, features, at);
    let mut sums = [simd.splat_f32s(bias); N];
    for (w, i) in weights.iter().zip(indices) {
        add_product(simd, *w, &rows[usize::from(*i)][0], &mut sums);
    }
    z[at..at + N].copy_from_slice(&sums);
}

#[inline(always)]
fn backward_piece<S: Simd, const N: usize>(
    simd: S,
    vectors: &mut [S::f32s],
    features: usize,
    (weights, indices): (&[f32], &[u16]),
    g: &[S::f32s],
    gradients: &mut [f32],
    at: usize,
) {
    let rows = piece_mut::<_, N>(vectors, features, at);
    let g = *g[at..].first_chunk::<N>().expect("as many gradients as samples");
    // Rows of weights may be padded to whole words.
    let (weights, indices) = (&weights[..gradients.len()], &indices[..gradients.len()]);
    let ((weights, weights_left), (indices, indices_left)) =
        (weights.as_chunks::<4>(), indices.as_chunks::<4>());
    let (gradients, gradients_left) = gradients.as_chunks_mut::<4>();
    for ((weights, indices), gradients) in weights.iter().zip(indices).zip(gradients) {
        let mut lanes = [simd.splat_f32s(0.0); 4];
        for ((lanes, w), i) in lanes.iter_mut().zip(weights).zip(indices) {
            *lanes = backward_connection(simd, &mut rows[usize::from(*i)], *w, &g);
        }
        let sums = sums_of_four(simd, lanes);
        gradients.iter_mut().zip(sums).for_each(
            #[inline(always)]
            |(gradient, sum)| *gradient = if at == 0 { sum } else { *gradient + sum },
        );
    }
    for ((w, i), gradient) in weights_left.iter().zip(indices_left).zip(gradients_left) {
        let lanes = backward_connection(simd, &mut rows[usize::from(*i)], *w, &g);
        let sum = simd.reduce_sum_f32s(lanes);
        *gradient = if at == 0 { sum } else { *gradient + sum };
    }
}

/// The way back of one connection. Returns what the weight's gradient is the sum of, in lanes.
#[inline(always)]
fn backward_connection<S: Simd, const N: usize>(
    simd: S,
    [x, dx]: &mut [[S::f32s; N]; 2],
    weight: f32,
    g: &[S::f32s; N],
) -> S::f32s {
    let mut sum = simd.mul_f32s(g[0], x[0]);
    for n in 1..N {
        sum = simd.mul_add_e_f32s(g[n], x[n], sum);
    }
    add_product(simd, weight, g, dx);
    sum
}

#[inline(always)]
fn take_piece<S: Simd, const N: usize>(vectors: &[S::f32s], features: usize, dx: &mut [S::f32s], at: usize) {
    let rows = piece::<_, N>(vectors, features, at);
    let stride = dx.len() / features;
    for ([_, gradient], dx) in rows.iter().zip(dx.chunks_exact_mut(stride)) {
        dx[at..at + N].copy_from_slice(gradient);
    }
}

#[cfg(test)]
mod tests {
    use pulp::{Simd, WithSimd};

    use super::{SideBySide, logits, sum};

    /// Walks over a label with small integers, whose products and sums are exact in every order.
    struct Walks {
        features: usize,
        columns: usize,
        fan_in: usize,
    }

    impl WithSimd for Walks {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let Self { features, columns, fan_in } = self;
            let stride = columns / S::F32_LANES;
            let number = |i: usize, most: usize| (i * i % (2 * most + 1)) as f32 - most as f32;
            let x: Vec<f32> = (0..features * columns).map(|i| number(i, 9)).collect();
            let weights: Vec<f32> = (0..fan_in).map(|i| number(i + 3, 7)).collect();
            // A feature twice, the first and the last.
            let mut indices: Vec<u16> = (0..fan_in).map(|i| (i * 5 % features) as u16).collect();
            indices[fan_in - 1] = indices[0];
            let g: Vec<f32> = (0..columns).map(|i| number(i + 1, 5)).collect();

            let mut room = vec![f32::NAN; 2 * features * columns];
            let mut sides = SideBySide::<S>::new(simd, &x, &mut room, stride);
            let [mut beside, mut plain] = [vec![0.0; columns], vec![0.0; columns]];
            sides.logits(simd, &weights, &indices, 4.0, S::as_mut_simd_f32s(&mut beside).0);
            logits(
                simd,
                S::as_simd_f32s(&x).0,
                stride,
                &weights,
                &indices,
                4.0,
                S::as_mut_simd_f32s(&mut plain).0,
            );
            let mut gradients = vec![f32::NAN; fan_in];
            sides.backward(simd, &weights, &indices, S::as_simd_f32s(&g).0, &mut gradients);
            let mut dx = vec![2.0; features * columns];
            sides.take_gradient(&mut dx);

            let what = format!("{features} features, {columns} columns, {} lanes", S::F32_LANES);
            let connections = || weights.iter().zip(indices.iter().map(|i| usize::from(*i)));
            for b in 0..columns {
                let truth = connections().fold(4.0, |z, (w, i)| z + w * x[i * columns + b]);
                assert_eq!([beside[b], plain[b]], [truth; 2], "logit of sample {b}, {what}");
            }
            for (f, (_, i)) in connections().enumerate() {
                let truth = (0..columns).fold(0.0, |sum, b| sum + g[b] * x[i * columns + b]);
                assert_eq!(gradients[f], truth, "gradient of weight {f}, {what}");
            }
            for (at, dx) in dx.iter().enumerate() {
                let (feature, b) = (at / columns, at % columns);
                let truth =
                    connections().filter(|(_, i)| *i == feature).fold(0.0, |dx, (w, _)| dx + w * g[b]);
                assert_eq!(*dx, truth, "gradient of feature {feature}, sample {b}, {what}");
            }
            assert_eq!(sum(simd, S::as_simd_f32s(&g).0), g.iter().sum::<f32>(), "{what}");
        }
    }

    #[test]
    fn walks_are_what_they_say() {
        // Pieces of every length, and fan-ins that are no multiple of four.
        for (columns, fan_in) in [(16, 1), (32, 4), (48, 7), (112, 32), (240, 6)] {
            let walks = || Walks { features: 13, columns, fan_in };
            pulp::Arch::new().dispatch(walks());
            walks().with_simd(pulp::Scalar::new());
            #[cfg(target_arch = "x86_64")]
            if let Some(simd) = pulp::x86::V3::try_new() {
                pulp::Simd::vectorize(simd, walks());
            }
        }
    }
}
