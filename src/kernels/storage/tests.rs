//! Narrow storage against independent implementations and definitions.

use super::{Precision, Rounding, Storage};
use crate::random::{Purpose, words};

/// Every code of a 16-bit storage against an independent implementation.
#[test]
fn sixteen_bits_are_those_of_half() {
    for code in 0..=u16::MAX {
        let cases = [
            (Storage::F16, half::f16::from_bits(code).to_f32()),
            (Storage::Bf16, half::bf16::from_bits(code).to_f32()),
        ];
        for (storage, truth) in cases {
            let got = storage.decode(u32::from(code));
            if truth.is_finite() {
                assert_eq!(got.to_bits(), truth.to_bits(), "{storage:?} {code:#x}");
                assert_eq!(storage.nearest(truth), u32::from(code), "{storage:?} {code:#x}");
                assert_eq!(storage.encode(truth, u16::MAX), u32::from(code), "exact numbers stay");
            } else {
                assert!(got.is_nan(), "{storage:?} {code:#x}");
            }
        }
    }
}

#[test]
fn nearest_is_that_of_half() {
    let mut bits = 1_u32;
    for _ in 0..200_000 {
        bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let value = f32::from_bits(bits);
        if value.abs() < 65504.0 {
            assert_eq!(
                Storage::F16.nearest(value),
                u32::from(half::f16::from_f32(value).to_bits()),
                "{value:e}"
            );
        }
        if value.is_finite() && value.abs() < 3.38e38 {
            assert_eq!(
                Storage::Bf16.nearest(value),
                u32::from(half::bf16::from_f32(value).to_bits()),
                "{value:e}"
            );
        }
    }
}

/// E4M3 by its definition: (−1)^s · 2^(e − 7) · (1 + m / 8), or m · 2⁻⁹ where e is 0.
#[test]
fn fp8_is_e4m3() {
    for code in 0..256_u32 {
        let (exponent, fraction) = ((code >> 3 & 15) as i32, (code & 7) as f32);
        let magnitude =
            if exponent == 0 { fraction / 512.0 } else { 2_f32.powi(exponent - 7) * (1.0 + fraction / 8.0) };
        let truth = if code & 128 == 0 { magnitude } else { -magnitude };
        let got = Storage::Fp8.decode(code);
        if code & 0x7f == 0x7f {
            assert!(got.is_nan());
        } else {
            assert_eq!(got.to_bits(), truth.to_bits(), "{code:#x}");
            assert_eq!(Storage::Fp8.nearest(truth), code);
            assert_eq!(Storage::Fp8.encode(truth, u16::MAX), code);
        }
    }
    assert_eq!(Storage::Fp8.nearest(1.0 / 1024.0), 0, "half a step goes to the even neighbour");
    assert_eq!(Storage::Fp8.nearest(3.0 / 1024.0), 2);
}

/// Over all random bits the mean of the rounded numbers is the number: to half of 2⁻¹⁶ of a step.
#[test]
fn rounding_is_unbiased() {
    let values = [1.000_3, -0.037_2, 3.3e-6, 2.9e-8, -6.5e-5, 0.001_9, 0.014_9, 0.015_7, -300.1, 7.7e-3];
    for storage in [Storage::F16, Storage::Bf16, Storage::Fp8] {
        for value in values {
            let down = storage.encode(value, 0);
            let up = storage.encode(value, u16::MAX);
            let neighbours = [storage.decode(down), storage.decode(up)].map(f64::from);
            let step = (neighbours[1] - neighbours[0]).abs().max(f64::from(storage.decode(1)));
            assert!(up == down || up == down + 1, "{storage:?} {value:e}: neighbours");
            let sum: f64 =
                (0..=u16::MAX).map(|random| f64::from(storage.decode(storage.encode(value, random)))).sum();
            let bias = (sum / 65536.0 - f64::from(value)).abs();
            // What lies below 2⁻¹⁶ of a step cannot be told apart.
            assert!(bias <= step / 65536.0, "{storage:?} {value:e}: bias {bias:e} of a step {step:e}");
            assert!(storage.decode(storage.encode(value, 0)).abs() <= value.abs(), "{storage:?} {value:e}");
        }
    }
}

#[test]
fn beyond_the_largest_is_the_largest() {
    for (storage, largest) in
        [(Storage::F16, 65504.0), (Storage::Bf16, 3.389_531_4e38), (Storage::Fp8, 448.0)]
    {
        for value in [largest, largest * 1.003_8, f32::MAX] {
            for random in [0, u16::MAX] {
                assert_eq!(storage.decode(storage.encode(value, random)), largest, "{storage:?} {value:e}");
                assert_eq!(storage.decode(storage.encode(-value, random)), -largest);
            }
            assert_eq!(storage.decode(storage.nearest(value)), largest);
        }
        for value in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            assert!(storage.decode(storage.encode(value, 77)).is_nan());
            assert!(storage.decode(storage.nearest(value)).is_nan());
        }
    }
}

#[test]
fn rows_and_single_numbers_agree() {
    let values: Vec<f32> = (0..37).map(|i| (i as f32 - 17.0) * 0.37).collect();
    for storage in Storage::ALL {
        let precision = Precision { weights: storage, ..Precision::default() };
        let words_in_row = precision.weight_words(37);
        let random: Vec<u16> = (0..37).map(|i| i * 1771).collect();
        let mut row = vec![0; words_in_row];
        storage.encode_row(&values, &random, &mut row);
        let mut again = vec![0.0; 37];
        storage.decode_row(&row, &mut again);
        let mut put = vec![0; words_in_row];
        for place in 0..37 {
            assert_eq!(storage.get(&row, place), again[place]);
            storage.put(&mut put, place, storage.encode(values[place], random[place]));
        }
        assert_eq!(put, row);
        assert_eq!(storage.unpack(&storage.pack(&values, 37, words_in_row), 37, words_in_row).len(), 37);
    }
}

#[test]
fn random_bits_are_those_of_the_generator() {
    let mut bits = vec![0; 300];
    Rounding::new(0x0123_4567_89ab_cdef, 9).row(2, 5, &mut bits);
    for (slot, bits) in bits.iter().enumerate() {
        let block = 5 * 38 + slot as u32 / 8;
        let words = words(0x0123_4567_89ab_cdef, Purpose::Rounding, 9, block, 2);
        assert_eq!(u32::from(*bits), words[slot % 8 / 2] >> (slot % 2 * 16) & 0xffff);
    }
}
