//! Losses of a label's logits and their gradients, on the CPU.

use super::fan_in_dlogits::Loss;
use super::vector::{exp_negative, mul_add};

/// Samples that are computed side by side.
const LANES: usize = 16;

/// Factors of at most 2 after which the product of [`LANES`] products is still a number in 64 bits.
const MAX_FACTORS: usize = 1000 / LANES;

/// The logit of a negative label whose loss and gradient are nothing.
const NO_LOSS: f32 = -1e30;

/// A sum of losses.
///
/// Binary cross-entropy of a logit is max(u, 0) + log(1 + exp(−|u|)), and a sum of logarithms is the logarithm of a
/// product. Of the product only what it is above 1 is kept: 1e-5 must not drown in a 1.
#[derive(Default)]
pub(crate) struct LossSum {
    /// Π (1 + exp(−|u|)) − 1 of each lane.
    above_one: [f32; LANES],
    /// Σ max(u, 0), or of squared hinges, of each lane.
    sums: [f32; LANES],
    factors: usize,
    total: f64,
}

impl LossSum {
    /// The sum of all losses so far.
    pub(crate) fn total(mut self) -> f64 {
        self.flush();
        self.total
    }

    #[inline(never)]
    fn flush(&mut self) {
        let mut above_one = self.above_one.map(f64::from);
        // By halves: sixteen products one after the other would take four times as long.
        for half in [8, 4, 2, 1] {
            let (front, back) = above_one.split_at_mut(half);
            front.iter_mut().zip(back).for_each(|(product, lane)| *product += *lane * (1.0 + *product));
        }
        let sum: f64 = self.sums.iter().map(|lane| f64::from(*lane)).sum();
        self.total += above_one[0].ln_1p() + sum;
        (self.above_one, self.sums, self.factors) = ([0.0; LANES], [0.0; LANES], 0);
    }

    /// Turns logits of labels whose sign is `sign` (−1: positive) into gradients times `scale`, and adds their losses.
    #[inline(always)]
    fn add<const HINGE: bool, const FUSED: bool>(
        &mut self,
        logits: &mut [[f32; LANES]],
        sign: f32,
        scale: f32,
    ) {
        for logits in logits.chunks_mut(MAX_FACTORS) {
            if self.factors + logits.len() > MAX_FACTORS {
                self.flush();
            }
            self.factors += logits.len();
            let (mut above_one, mut sums) = (self.above_one, self.sums);
            for logits in logits {
                for ((z, above_one), sum) in logits.iter_mut().zip(&mut above_one).zip(&mut sums) {
                    *z = scale * add_loss::<HINGE, FUSED>(*z, sign, above_one, sum);
                }
            }
            (self.above_one, self.sums) = (above_one, sums);
        }
    }
}

/// Adds the loss of the logit `z` to a lane of a [`LossSum`]; returns its gradient.
#[inline(always)]
fn add_loss<const HINGE: bool, const FUSED: bool>(
    z: f32,
    sign: f32,
    above_one: &mut f32,
    sum: &mut f32,
) -> f32 {
    let u = z * sign;
    if HINGE {
        // By comparison, not max: a NaN must reach the loss.
        let margin = if 1.0 + u <= 0.0 { 0.0 } else { 1.0 + u };
        *sum += margin * margin;
        return 2.0 * sign * margin;
    }
    let e = exp_negative::<FUSED>(-u.abs());
    *above_one = mul_add::<FUSED>(*above_one, 1.0 + e, e);
    *sum += if u > 0.0 { u } else { 0.0 };
    let reciprocal = reciprocal_above_one::<FUSED>(e);
    sign * if u >= 0.0 { reciprocal } else { e * reciprocal }
}

/// 1 / (1 + e) for e from 0 to 1, relative error below 1.5e-7; NaN stays NaN.
///
/// A division of sixteen numbers takes as long as 32 multiply-adds. This is the parabola whose relative error, 1/99, is the
/// least on the interval, from the Chebyshev polynomial T₃, and two steps of Newton's, each of which squares the error.
#[inline(always)]
fn reciprocal_above_one<const FUSED: bool>(e: f32) -> f32 {
    let start = mul_add::<FUSED>(mul_add::<FUSED>(32.0 / 99.0, e, -80.0 / 99.0), e, 98.0 / 99.0);
    let step = |r: f32| {
        let error = mul_add::<FUSED>(-(1.0 + e), r, 1.0);
        mul_add::<FUSED>(r, error, r)
    };
    step(step(start))
}

/// Turns the logits `z` of one label into gradients of `loss` times `scale` in place; columns beyond `batch` become 0.
/// The losses are added to `losses`. `positives` are the (label, sample) pairs of this label; `FUSED` as in [`mul_add`].
#[inline(always)]
pub(crate) fn loss_row<const HINGE: bool, const FUSED: bool>(
    z: &mut [f32],
    batch: usize,
    positives: &[[u32; 2]],
    scale: f32,
    losses: &mut LossSum,
) {
    // Positives are few: they sit out the loop over all samples, which then has no branches, and come after it.
    let mut kept = [-NO_LOSS; LANES];
    let mut many = Vec::new();
    let kept = if positives.len() <= LANES {
        &mut kept[..]
    } else {
        many.resize(positives.len().next_multiple_of(LANES), -NO_LOSS);
        &mut many[..]
    };
    for (keep, [_, sample]) in kept.iter_mut().zip(positives) {
        *keep = std::mem::replace(&mut z[*sample as usize], NO_LOSS);
    }
    z[batch..].fill(NO_LOSS);
    let (chunks, rest) = z.as_chunks_mut::<LANES>();
    losses.add::<HINGE, FUSED>(chunks, 1.0, scale);
    if !rest.is_empty() {
        let mut whole = [[NO_LOSS; LANES]];
        whole[0][..rest.len()].copy_from_slice(rest);
        losses.add::<HINGE, FUSED>(&mut whole, 1.0, scale);
        rest.copy_from_slice(&whole[0][..rest.len()]);
    }
    z[batch..].fill(0.0);
    if positives.is_empty() {
        return;
    }
    losses.add::<HINGE, FUSED>(kept.as_chunks_mut().0, -1.0, scale);
    for (gradient, [_, sample]) in kept.iter().zip(positives) {
        z[*sample as usize] = *gradient;
    }
}

/// [`loss_row`] of a label whose loss is wanted by itself: returned is its sum over the samples.
#[inline(always)]
pub(crate) fn loss_of_label(
    loss: Loss,
    z: &mut [f32],
    batch: usize,
    positives: &[[u32; 2]],
    scale: f32,
) -> f32 {
    let mut losses = LossSum::default();
    match loss {
        Loss::Bce => loss_row::<false, false>(z, batch, positives, scale, &mut losses),
        Loss::SquaredHinge => loss_row::<true, false>(z, batch, positives, scale, &mut losses),
    }
    losses.total() as f32
}

#[cfg(test)]
mod tests {
    use super::{Loss, LossSum, loss_of_label, loss_row, reciprocal_above_one};

    /// Loss and gradient of a logit in 64 bits, by the definition.
    fn truth(loss: Loss, z: f64, positive: bool) -> (f64, f64) {
        let sign = if positive { -1.0 } else { 1.0 };
        let u = sign * z;
        match loss {
            Loss::Bce => (u.max(0.0) + (-u.abs()).exp().ln_1p(), sign / (1.0 + (-u).exp())),
            Loss::SquaredHinge => {
                let margin = (1.0 + u).max(0.0);
                (margin * margin, 2.0 * sign * margin)
            }
        }
    }

    fn logit(i: usize) -> f32 {
        ((i * 7919) % 4001) as f32 * 0.01 - 20.0
    }

    #[test]
    fn losses_and_gradients_are_those_of_the_definition() {
        let scale = 0.5;
        // Many positives, none, a last column that is no sample, and more samples than one product holds.
        for (batch, columns, every) in
            [(16, 16, 5), (37, 48, 2), (64, 64, usize::MAX), (8, 8, 3), (3000, 3008, 7)]
        {
            let positives: Vec<[u32; 2]> = (0..batch as u32)
                .filter(|i| (*i as usize + 1).is_multiple_of(every))
                .map(|i| [9, i])
                .collect();
            for (loss, fused) in
                [Loss::Bce, Loss::SquaredHinge].into_iter().flat_map(|loss| [(loss, false), (loss, true)])
            {
                let logits: Vec<f32> = (0..columns).map(logit).collect();
                let mut z = logits.clone();
                let mut losses = LossSum::default();
                let (z_of, sum) = (&mut z[..], &mut losses);
                match (loss, fused) {
                    (Loss::Bce, false) => loss_row::<false, false>(z_of, batch, &positives, scale, sum),
                    (Loss::Bce, true) => loss_row::<false, true>(z_of, batch, &positives, scale, sum),
                    (Loss::SquaredHinge, false) => {
                        loss_row::<true, false>(z_of, batch, &positives, scale, sum)
                    }
                    (Loss::SquaredHinge, true) => loss_row::<true, true>(z_of, batch, &positives, scale, sum),
                }
                let sum = losses.total();
                let mut total = 0.0;
                for (sample, (z, gradient)) in logits.iter().zip(&z).enumerate() {
                    let (loss, truth) = if sample < batch {
                        let positive = positives.iter().any(|pair| pair[1] as usize == sample);
                        truth(loss, f64::from(*z), positive)
                    } else {
                        (0.0, 0.0)
                    };
                    total += loss;
                    let truth = f64::from(scale) * truth;
                    // 2e-7 of exp, 1.5e-7 of the reciprocal and 6e-8 of each of two products.
                    let off = (f64::from(*gradient) - truth).abs();
                    assert!(off <= 5e-7 * truth.abs(), "sample {sample}: {gradient}, not {truth}");
                }
                // A lane adds up at most 62 numbers in 32 bits.
                let off = (sum - total).abs();
                assert!(off <= 62.0 * 6e-8 * total, "{loss:?} of {batch}: {sum}, not {total}");
            }
        }
    }

    /// What easy negatives lose is tiny and there are millions of them: none of it may drown.
    #[test]
    fn losses_of_easy_negatives_add_up() {
        let mut losses = LossSum::default();
        for _ in 0..1000 {
            loss_row::<false, true>(&mut [-18.0; 64], 64, &[], 1.0, &mut losses);
        }
        let truth = 64_000.0 * (-18.0_f64).exp().ln_1p();
        assert!((losses.total() - truth).abs() <= 1e-6 * truth);
    }

    #[test]
    fn extreme_logits_stay_themselves() {
        let loss_of = |z: f32| loss_of_label(Loss::Bce, &mut [z; 16], 16, &[], 1.0);
        assert!(loss_of(f32::NAN).is_nan());
        assert_eq!(loss_of(f32::INFINITY), f32::INFINITY);
        assert!(loss_of(f32::NEG_INFINITY) < 1e-30);
        assert_eq!(loss_of(1e30), 16.0 * 1e30);
        // 2⁴⁰⁹⁶ is more than a number of 64 bits holds.
        assert!(
            (loss_of_label(Loss::Bce, &mut [0.0; 4096], 4096, &[], 1.0) / 4096.0 - 2.0_f32.ln()).abs() < 1e-6
        );
    }

    #[test]
    fn reciprocals_are_reciprocals() {
        for reciprocal in [reciprocal_above_one::<false>, reciprocal_above_one::<true>] {
            for i in 0..=100_000 {
                let e = i as f32 * 1e-5;
                let truth = 1.0 / (1.0 + f64::from(e));
                assert!((f64::from(reciprocal(e)) - truth).abs() <= 1.5e-7 * truth, "1 / (1 + {e})");
            }
            assert!(reciprocal(f32::NAN).is_nan());
        }
    }
}
