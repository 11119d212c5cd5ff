//! Numbers for people: counts, bytes, times, dates, and the numbers beside an axis.

use std::time::{Duration, SystemTime};

/// Digits in groups of three: `12,404`.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count in three digits: `736`, `9,876`, `12.4 k`, `1.20 M`.
pub(super) fn count(count: u64) -> String {
    if count < 10_000 { grouped(count) } else { scaled(count as f64, 1000.0, &["", " k", " M", " G", " T"]) }
}

/// Bytes in three digits: `493 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    scaled(bytes as f64, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB"])
}

/// `value` in the largest unit in which it is at least 1, in three digits.
fn scaled(mut value: f64, base: f64, units: &[&str]) -> String {
    let mut unit = 0;
    // 999.5 would be shown as 1000, which is 1.00 of the next unit.
    while value >= base - base / 2000.0 && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        9.995.. if value < 99.95 => 1,
        99.95.. => 0,
        _ => 2,
    };
    format!("{value:.decimals$}{}", units[unit])
}

/// Seconds: `2.1 s`, `4:45 min`, `1:02 h`.
pub(super) fn seconds(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match seconds {
        ..59.95 => format!("{} s", significant(seconds, 2)),
        ..3599.5 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02} h", whole / 3600, whole % 3600 / 60),
    }
}

/// So many significant digits without trailing zeros; very large and very small numbers as `1.5e-7`.
pub(super) fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".into();
    }
    if !value.is_finite() {
        return "–".into();
    }
    // The exponent after rounding: 9.996 in three digits is 10.0.
    let scientific = format!("{value:.*e}", digits.saturating_sub(1));
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..15).contains(&exponent) {
        return format!("{}e{exponent}", without_zeros(mantissa));
    }
    let decimals = (digits as i32 - 1 - exponent).max(0) as usize;
    without_zeros(&format!("{value:.decimals$}")).to_owned()
}

/// Without the zeros that end the decimals.
fn without_zeros(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

/// A number beside an axis whose ticks are `step` apart and reach to `largest`: `0.25`, `1,200`, `40 k`, `2e-5`.
pub(super) fn tick(value: f64, step: f64, largest: f64) -> String {
    // Zero may come as a rounding error of the step.
    if value.abs() < step * 1e-6 {
        return "0".into();
    }
    let (divisor, unit) = match largest {
        1e9.. => (1e9, " G"),
        1e6.. => (1e6, " M"),
        1e4.. => (1e3, " k"),
        _ => (1.0, ""),
    };
    let (value, step) = (value / divisor, step / divisor);
    if step < 1e-4 {
        return significant(value, 3) + unit;
    }
    let text = format!("{value:.*}", decimals_of(step));
    match text.parse::<u64>() {
        Ok(whole) => grouped(whole) + unit,
        Err(_) => text + unit,
    }
}

/// The decimals that tell multiples of 1, 2, 2.5 or 5 times a power of ten apart.
fn decimals_of(step: f64) -> usize {
    let enough = |decimals: &usize| {
        let scaled = step * 10f64.powi(*decimals as i32);
        (scaled - scaled.round()).abs() < 1e-6
    };
    (0..6).find(enough).unwrap_or(6)
}

/// A tick of a logarithmic axis: `10⁻³`, `0.02`, `200`, `5·10⁴`.
pub(super) fn log_tick(value: f64) -> String {
    let exponent = (value.log10() + 1e-9).floor() as i32;
    if (-2..4).contains(&exponent) {
        return tick(value, value, 1.0);
    }
    let digits: String = exponent.to_string().chars().map(superscript).collect();
    let mantissa = (value / 10f64.powi(exponent)).round();
    if mantissa == 1.0 { format!("10{digits}") } else { format!("{mantissa}·10{digits}") }
}

fn superscript(digit: char) -> char {
    match digit {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        _ => char::from_u32(0x2070 + digit.to_digit(10).unwrap_or(0)).unwrap_or(digit),
    }
}

/// The day of a moment, in UTC: `2026-11-22`. (Howard Hinnant's `civil_from_days`.)
pub(super) fn date(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let days = (since.as_secs() / 86_400) as i64 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months count from March, so that the leap day is the last of its year.
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_bytes() {
        assert_eq!(
            [0, 999, 1000, 12_404, 1_234_567].map(grouped),
            ["0", "999", "1,000", "12,404", "1,234,567"]
        );
        assert_eq!(
            [9_999, 10_000, 12_404, 999_499, 999_500, 1_200_000].map(count),
            ["9,999", "10.0 k", "12.4 k", "999 k", "1.00 M", "1.20 M"]
        );
        assert_eq!(count(u64::MAX), "18446744 T");
        assert_eq!(
            [0, 1023, 1024, 493 << 20, 1_610_612_736, 1_048_000].map(bytes),
            ["0 B", "1023 B", "1.00 KiB", "493 MiB", "1.50 GiB", "1023 KiB"]
        );
    }

    #[test]
    fn times_and_dates() {
        assert_eq!(
            [0.0, 0.034, 2.13, 59.97, 285.0].map(seconds),
            ["0 s", "0.034 s", "2.1 s", "1:00 min", "4:45 min"]
        );
        assert_eq!([3599.6, 3725.0, 90_000.0].map(seconds), ["1:00 h", "1:02 h", "25:00 h"]);
        let day = |days: u64| date(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400 + 86_399));
        // 2000 is a leap year of the fourth century, 10957 days after 1970.
        assert_eq!([0, 10_957 + 59, 10_957 + 60].map(day), ["1970-01-01", "2000-02-29", "2000-03-01"]);
        // 2026 is 9496 days after 2000: 26 years of 365 days and seven leap days, then less one; November is day 304.
        assert_eq!(day(10_957 + 26 * 365 + 7 + 304 + 21), "2026-11-22");
    }

    #[test]
    fn digits_that_count() {
        let three = |value| significant(value, 3);
        assert_eq!([0.0, 1.0, 9.996, 0.012_345, -2.5].map(three), ["0", "1", "10", "0.0123", "-2.5"]);
        assert_eq!([1.5e-7, 123_456.0, 2e20, f64::NAN].map(three), ["1.5e-7", "123456", "2e20", "–"]);
        assert_eq!(significant(24.961_748_030_092_657, 6), "24.9617");
    }

    #[test]
    fn ticks_have_the_digits_of_their_step() {
        assert_eq!([0.0, 0.5, 1.0, 1.5].map(|v| tick(v, 0.5, 1.5)), ["0", "0.5", "1.0", "1.5"]);
        assert_eq!([0.25, 0.5].map(|v| tick(v, 0.25, 0.5)), ["0.25", "0.50"]);
        assert_eq!([-20.0, 1e-17, 20.0].map(|v| tick(v, 20.0, 20.0)), ["-20", "0", "20"]);
        assert_eq!([2000.0, 5000.0].map(|v| tick(v, 1000.0, 5000.0)), ["2,000", "5,000"]);
        assert_eq!([2500.0, 10_000.0].map(|v| tick(v, 2500.0, 10_000.0)), ["2.5 k", "10.0 k"]);
        assert_eq!(tick(2e-5, 1e-5, 5e-5), "2e-5");
        assert_eq!(
            [1e-3, 0.02, 1.0, 200.0, 1000.0, 5e4].map(log_tick),
            ["10⁻³", "0.02", "1", "200", "1,000", "5·10⁴"]
        );
    }
}
