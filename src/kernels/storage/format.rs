//! The bits of narrow floats.

/// Where a format differs from f32.
pub(super) struct Format {
    /// Bits of the fraction.
    fraction: u32,
    /// Exponents of f32 below the first one of the format.
    offset: u32,
    /// Code of the largest number.
    largest: u32,
    /// Code of NaN.
    nan: u32,
}

pub(super) const F16: Format = Format { fraction: 10, offset: 112, largest: 0x7bff, nan: 0x7e00 };
pub(super) const BF16: Format = Format { fraction: 7, offset: 0, largest: 0x7f7f, nan: 0x7fc0 };
pub(super) const FP8: Format = Format { fraction: 3, offset: 120, largest: 0x7e, nan: 0x7f };

impl Format {
    /// Bits of an f32 that the format drops.
    const fn dropped(&self) -> u32 {
        23 - self.fraction
    }

    /// Steps between 0 and 1, which make integers of the numbers below the first exponent. Means nothing for bf16, whose
    /// exponents are those of f32.
    const fn steps(&self) -> f32 {
        f32::from_bits((127 + 126 - self.offset + self.fraction) << 23)
    }

    /// ⌊magnitude · steps · 2¹⁶⌋ of a magnitude below the first exponent of the format, given as the bits of an f32. By
    /// shifts: a conversion of floats to integers saturates, for which vectors have no instruction.
    #[inline(always)]
    const fn sixteenths(&self, magnitude: u32) -> u32 {
        let significand = magnitude & 0x7f_ffff | 0x80_0000;
        // Two bits to the left first, so that the largest exponent of all formats shifts by nothing.
        let shift = (10 + self.offset - self.fraction).wrapping_sub(magnitude >> 23);
        (significand << 2) >> if shift < 31 { shift } else { 31 }
    }

    #[inline(always)]
    pub(super) fn decode(&self, magnitude: u32) -> f32 {
        if magnitude > self.largest {
            return f32::NAN;
        }
        let normal = f32::from_bits((magnitude << self.dropped()) + (self.offset << 23));
        if self.offset > 0 && magnitude < 1 << self.fraction {
            magnitude as f32 / self.steps()
        } else {
            normal
        }
    }

    /// The code of a magnitude, given as the bits of an f32, by sixteen random bits.
    #[inline(always)]
    pub(super) fn encode(&self, magnitude: u32, random: u32) -> u32 {
        let added = if self.dropped() > 16 {
            // In the middle of what sixteen bits cannot tell apart.
            (random << (self.dropped() - 16)) + (1 << (self.dropped() - 17))
        } else {
            random >> (16 - self.dropped())
        };
        let normal = ((magnitude + added) >> self.dropped()).wrapping_sub(self.offset << self.fraction);
        let code = if self.offset > 0 && magnitude < (self.offset + 1) << 23 {
            (self.sixteenths(magnitude) + random) >> 16
        } else {
            normal
        };
        self.finish(code, magnitude)
    }

    /// The nearest code, the even one of two.
    #[inline(always)]
    pub(super) fn nearest(&self, magnitude: u32) -> u32 {
        let code = if self.offset > 0 && magnitude < (self.offset + 1) << 23 {
            (f32::from_bits(magnitude) * self.steps()).round_ties_even() as u32
        } else {
            let half = (1 << (self.dropped() - 1)) - 1 + (magnitude >> self.dropped() & 1);
            ((magnitude + half) >> self.dropped()) - (self.offset << self.fraction)
        };
        self.finish(code, magnitude)
    }

    #[inline(always)]
    fn finish(&self, code: u32, magnitude: u32) -> u32 {
        let code = if code > self.largest { self.largest } else { code };
        if magnitude >= f32::INFINITY.to_bits() { self.nan } else { code }
    }
}
