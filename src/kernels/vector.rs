//! Inner loops compiled for the vector instructions of this very processor, chosen at run time.

/// Runs `op` compiled for the best instruction set there is. What it calls must be `#[inline(always)]`.
#[inline]
pub(crate) fn vectorised<R>(op: impl FnOnce() -> R) -> R {
    struct Once<F>(F);
    impl<R, F: FnOnce() -> R> pulp::NullaryFnOnce for Once<F> {
        type Output = R;
        #[inline(always)]
        fn call(self) -> R {
            (self.0)()
        }
    }
    pulp::Arch::new().dispatch(Once(op))
}

/// exp(x) for x ≤ 0, relative error below 2e-7, and 1.6e-38 below -87; NaN stays NaN. Plain arithmetic, so that a
/// loop over it vectorises.
#[inline(always)]
pub(crate) fn exp_negative(x: f32) -> f32 {
    // Adding 1.5 · 2²³ leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    // ln 2 in two parts: the first is exact in few bits, so that n times it is exact.
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4_f32;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = (p * r) * r + r + 1.0;
    let exponent = ((n + ROUND).to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32) + 127;
    p * f32::from_bits((exponent << 23) as u32)
}

#[cfg(test)]
mod tests {
    use super::exp_negative;

    #[test]
    fn exp_negative_is_exp() {
        for i in 0..200_000 {
            let x = -(i as f32) * 4.3e-4;
            let (got, truth) = (f64::from(exp_negative(x)), f64::from(x).exp());
            assert!((got - truth).abs() <= 2e-7 * truth, "exp({x}) = {truth}, got {got}");
        }
        assert!(exp_negative(f32::NAN).is_nan());
        assert!(exp_negative(f32::NEG_INFINITY) < 1e-37);
    }
}
