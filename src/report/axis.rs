//! Axes: from the numbers that are drawn to a range, ticks at round numbers, and places between 0 and 1.

use super::numbers::{log_tick, tick};

/// How numbers lie on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spacing {
    /// Evenly, over the range of the numbers.
    Linear,
    /// Evenly, from zero on.
    FromZero,
    /// Evenly, with ticks at whole numbers only: epochs.
    Whole,
    /// By their logarithm; numbers that are not above 0 have no place.
    Log,
}

/// An axis with its range and its ticks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    /// Value and text of each tick, rising.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis for these numbers with about `ticks` ticks, or none if no number has a place on it. Where `round`, the
    /// axis begins and ends at a tick.
    pub(super) fn new(
        numbers: impl Iterator<Item = f64>,
        spacing: Spacing,
        ticks: usize,
        round: bool,
    ) -> Option<Self> {
        let log = spacing == Spacing::Log;
        let numbers = numbers.filter(|number| number.is_finite() && (!log || *number > 0.0));
        let range = numbers.fold(None, |range: Option<(f64, f64)>, number| match range {
            None => Some((number, number)),
            Some((low, high)) => Some((low.min(number), high.max(number))),
        });
        let (low, high) = range?;
        Some(match spacing {
            Spacing::Log => Self::logarithmic(low, high),
            Spacing::FromZero => Self::linear(low.min(0.0), high.max(0.0), ticks, round, false),
            Spacing::Linear => Self::linear(low, high, ticks, round, false),
            Spacing::Whole => Self::linear(low, high, ticks, round, true),
        })
    }

    fn linear(low: f64, high: f64, most: usize, round: bool, whole: bool) -> Self {
        let (low, high) = if high - low > low.abs().max(high.abs()) * 1e-9 {
            (low, high)
        } else {
            // One number alone lies in the middle.
            let around = if whole || low == 0.0 { 0.5 } else { low.abs() * 0.1 };
            (low - around, high + around)
        };
        let mut step = round_step((high - low) / most.max(1) as f64);
        if whole {
            step = step.max(1.0).ceil();
        }
        let first = if round { (low / step + 1e-9).floor() } else { (low / step - 1e-9).ceil() };
        let last = if round { (high / step - 1e-9).ceil() } else { (high / step + 1e-9).floor() };
        let count = (last - first).max(0.0) as usize;
        // Products, not sums: 0.1 · 3 is nearer to 0.3 than 0.1 + 0.1 + 0.1.
        let largest = (first * step).abs().max((last * step).abs());
        let ticks = (0..=count)
            .map(|i| (first + i as f64) * step)
            .map(|value| (value, tick(value, step, largest)))
            .collect();
        let (low, high) = if round { (first * step, last * step) } else { (low, high) };
        Self { low, high, log: false, ticks }
    }

    fn logarithmic(low: f64, high: f64) -> Self {
        let (low, high) = if high > low * 1.01 { (low, high) } else { (low / 2.0, high * 2.0) };
        let decades = (high / low).log10();
        // Few decades need numbers between their powers; of many, only every second or third has room.
        let multiples: &[f64] = if decades < 1.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let every = (decades / 7.0).ceil().max(1.0) as i32;
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let ticks = (first..=last)
            .filter(|exponent| exponent.rem_euclid(every) == 0)
            .flat_map(|exponent| multiples.iter().map(move |multiple| multiple * 10f64.powi(exponent)))
            .filter(|value| (low * 0.999..=high * 1.001).contains(value))
            .map(|value| (value, log_tick(value)))
            .collect();
        Self { low, high, log: true, ticks }
    }

    /// Where a number lies: 0 at the beginning of the axis, 1 at its end; none if it has no place.
    pub(super) fn place(&self, number: f64) -> Option<f64> {
        if !number.is_finite() || (self.log && number <= 0.0) {
            return None;
        }
        Some(if self.log {
            (number / self.low).ln() / (self.high / self.low).ln()
        } else {
            (number - self.low) / (self.high - self.low)
        })
    }
}

/// The smallest of 1, 2, 2.5 and 5 times a power of ten that is not below `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let multiple =
        [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|multiple| multiple * power >= step * (1.0 - 1e-9));
    multiple.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(numbers: &[f64], spacing: Spacing, round: bool) -> Axis {
        Axis::new(numbers.iter().copied(), spacing, 5, round).unwrap()
    }

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn ticks_lie_at_round_numbers() {
        let loss = axis(&[24.96, 8.1, 11.0], Spacing::Linear, true);
        assert_eq!(texts(&loss), ["5", "10", "15", "20", "25"]);
        assert_eq!(loss.place(5.0), Some(0.0));
        assert_eq!(loss.place(25.0), Some(1.0));
        assert_eq!(loss.place(10.0), Some(0.25));
        assert_eq!(texts(&axis(&[0.11, 0.52], Spacing::FromZero, true)), ["0", "0.2", "0.4", "0.6"]);
        assert_eq!(texts(&axis(&[-0.3, 0.3], Spacing::Linear, false)), ["-0.2", "0", "0.2"]);
        assert_eq!(
            texts(&axis(&[0.0, 12_500.0], Spacing::Linear, false)),
            ["0", "2.5 k", "5.0 k", "7.5 k", "10.0 k", "12.5 k"]
        );
    }

    #[test]
    fn epochs_are_whole() {
        assert_eq!(texts(&axis(&[1.0, 3.0], Spacing::Whole, false)), ["1", "2", "3"]);
        assert_eq!(texts(&axis(&[1.0, 100.0], Spacing::Whole, false)), ["20", "40", "60", "80", "100"]);
        let one = axis(&[1.0], Spacing::Whole, false);
        assert_eq!((texts(&one), one.place(1.0)), (vec!["1"], Some(0.5)));
    }

    #[test]
    fn one_number_lies_in_the_middle() {
        for number in [0.0, 0.25, -3.0, 1e-12, 4e9] {
            let axis = axis(&[number, number], Spacing::Linear, false);
            assert!((axis.place(number).unwrap() - 0.5).abs() < 1e-6, "{number}");
            assert!(!axis.ticks.is_empty(), "{number}");
        }
    }

    #[test]
    fn logarithms() {
        let wide = axis(&[1e-6, 1.0], Spacing::Log, false);
        assert_eq!(wide.place(1e-3).map(|place| (place * 1e9).round()), Some(5e8));
        assert_eq!(texts(&wide), ["10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "0.01", "0.1", "1"]);
        assert_eq!(texts(&axis(&[1.0, 12.0], Spacing::Log, false)), ["1", "2", "5", "10"]);
        assert_eq!(wide.place(0.0), None);
        assert_eq!(axis(&[1e-12, 1.0], Spacing::Log, false).ticks.len(), 7);
        assert_eq!(texts(&axis(&[10.0], Spacing::Log, false)), ["5", "10", "20"]);
    }

    #[test]
    fn what_is_no_number_has_no_place() {
        assert_eq!(Axis::new([f64::NAN, f64::INFINITY].into_iter(), Spacing::Linear, 5, true), None);
        assert_eq!(Axis::new([0.0, -1.0].into_iter(), Spacing::Log, 5, true), None);
        let axis = axis(&[1.0, f64::NAN, 2.0], Spacing::Linear, true);
        assert_eq!(axis.place(f64::NAN), None);
        assert_eq!(axis.place(1.0), Some(0.0));
    }
}
