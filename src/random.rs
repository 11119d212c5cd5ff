//! The one random generator of the project: counter-based, the same bits here and in WGSL.
//!
//! Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). There is no state to
//! carry: a number depends only on (seed, purpose, step, index, sub-index), so a resumed run needs nothing but the
//! step number. `shaders/shared/random.wgsl` is the same function.

/// What a random number is for; different purposes never share numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Order of the documents in an epoch.
    Shuffle = 1,
    /// Starting values of the encoder's parameters.
    EncoderInit = 2,
    /// Starting weights and indices of the classifier.
    ClassifierInit = 3,
    /// Dropout masks.
    Dropout = 4,
    /// Indices and weights of regrown connections.
    Regrow = 5,
    /// Synthetic data sets.
    Synth = 6,
    /// Clusters of labels.
    Clusters = 7,
    /// Stochastic rounding of narrow storage.
    Rounding = 8,
    /// Which labels share their features.
    Grouping = 9,
}

/// Ten rounds of Philox4x32 on `counter` with `key`.
#[inline]
#[must_use]
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let p0 = u64::from(c0) * 0xD251_1F53;
        let p1 = u64::from(c2) * 0xCD9E_8D57;
        (c0, c1, c2, c3) = ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    [c0, c1, c2, c3]
}

/// Four random words for (seed, purpose, step, index, sub-index).
///
/// The key is the seed; the counter is (index, sub-index, step, purpose).
#[inline]
#[must_use]
pub fn words(seed: u64, purpose: Purpose, step: u32, index: u32, sub: u32) -> [u32; 4] {
    philox([index, sub, step, purpose as u32], [seed as u32, (seed >> 32) as u32])
}

/// A random word as a float in [0, 1), a multiple of 2⁻²⁴.
#[inline]
#[must_use]
pub fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// A random word as an integer in [0, n), by the high half of the product (bias below n / 2³²).
#[inline]
#[must_use]
pub fn below(word: u32, n: u32) -> u32 {
    ((u64::from(word) * u64::from(n)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::philox;

    /// Known answers of Random123 (`kat_vectors`, philox4x32 10).
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }
}
