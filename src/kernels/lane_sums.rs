//! Sums of the lanes of vectors.

use pulp::Simd;
#[cfg(target_arch = "x86_64")]
use pulp::x86::{V3, V4};

/// The sums of the lanes of four vectors. On x86 by shuffles of two vectors at a time, which take half the instructions
/// that four sums take; the classifier's way back needs this for every four connections.
#[inline(always)]
pub(super) fn sums_of_four<S: Simd>(simd: S, lanes: [S::f32s; 4]) -> [f32; 4] {
    #[cfg(target_arch = "x86_64")]
    {
        let set: &dyn std::any::Any = &simd;
        if let Some(avx512) = set.downcast_ref::<V4>() {
            return of_sixteen(*avx512, same(lanes));
        }
        if let Some(avx2) = set.downcast_ref::<V3>() {
            return of_eight(*avx2, same(lanes));
        }
    }
    let [a, b, c, d] = lanes;
    [simd.reduce_sum_f32s(a), simd.reduce_sum_f32s(b), simd.reduce_sum_f32s(c), simd.reduce_sum_f32s(d)]
}

/// The same vectors under another type of the same size.
#[inline(always)]
fn same<A: bytemuck::NoUninit, B: bytemuck::AnyBitPattern>([a, b, c, d]: [A; 4]) -> [B; 4] {
    [bytemuck::cast(a), bytemuck::cast(b), bytemuck::cast(c), bytemuck::cast(d)]
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn of_sixteen(simd: V4, [a, b, c, d]: [std::arch::x86_64::__m512; 4]) -> [f32; 4] {
    let avx512 = simd.avx512f;
    // In every four lanes: a and b in turn, then c and d, then all four.
    let ab = avx512._mm512_add_ps(avx512._mm512_unpacklo_ps(a, b), avx512._mm512_unpackhi_ps(a, b));
    let cd = avx512._mm512_add_ps(avx512._mm512_unpacklo_ps(c, d), avx512._mm512_unpackhi_ps(c, d));
    let (ab, cd) = (avx512._mm512_castps_pd(ab), avx512._mm512_castps_pd(cd));
    let [front, back] = [avx512._mm512_unpacklo_pd(ab, cd), avx512._mm512_unpackhi_pd(ab, cd)];
    let all = avx512._mm512_add_ps(avx512._mm512_castpd_ps(front), avx512._mm512_castpd_ps(back));
    let upper = avx512._mm512_shuffle_f32x4::<0b11_10_11_10>(all, all);
    let half =
        simd.avx._mm256_add_ps(avx512._mm512_castps512_ps256(all), avx512._mm512_castps512_ps256(upper));
    quarter(*simd, half)
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn of_eight(simd: V3, [a, b, c, d]: [std::arch::x86_64::__m256; 4]) -> [f32; 4] {
    let avx = simd.avx;
    let ab = avx._mm256_add_ps(avx._mm256_unpacklo_ps(a, b), avx._mm256_unpackhi_ps(a, b));
    let cd = avx._mm256_add_ps(avx._mm256_unpacklo_ps(c, d), avx._mm256_unpackhi_ps(c, d));
    let (ab, cd) = (avx._mm256_castps_pd(ab), avx._mm256_castps_pd(cd));
    let [front, back] = [avx._mm256_unpacklo_pd(ab, cd), avx._mm256_unpackhi_pd(ab, cd)];
    quarter(simd, avx._mm256_add_ps(avx._mm256_castpd_ps(front), avx._mm256_castpd_ps(back)))
}

/// The first four lanes and the last, added.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn quarter(simd: V3, lanes: std::arch::x86_64::__m256) -> [f32; 4] {
    let [front, back] = [simd.avx._mm256_castps256_ps128(lanes), simd.avx._mm256_extractf128_ps::<1>(lanes)];
    bytemuck::cast(simd.sse._mm_add_ps(front, back))
}

#[cfg(test)]
mod tests {
    use pulp::{Simd, WithSimd};

    use super::sums_of_four;

    /// Small integers, whose sums are exact in every order.
    #[test]
    fn sums_of_four_are_sums() {
        struct Sums;
        impl WithSimd for Sums {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let number = |i: usize| (i * i % 101) as f32 - 50.0;
                let numbers: Vec<f32> = (0..4 * S::F32_LANES).map(number).collect();
                let (vectors, _) = S::as_simd_f32s(&numbers);
                let sums = sums_of_four(simd, std::array::from_fn(|i| vectors[i]));
                for (i, sum) in sums.iter().enumerate() {
                    let truth: f32 = (i * S::F32_LANES..(i + 1) * S::F32_LANES).map(number).sum();
                    assert_eq!(*sum, truth, "vector {i} of {} lanes", S::F32_LANES);
                }
            }
        }
        pulp::Arch::new().dispatch(Sums);
        Sums.with_simd(pulp::Scalar::new());
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            pulp::Simd::vectorize(simd, Sums);
        }
    }
}
