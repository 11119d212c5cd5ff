//! What the trained classifier looks like: weights, degrees of the features, frequencies of the labels.

use super::axis::Spacing;
use super::classifier::Classifier;
use super::line_chart::{AxisOf, Drawing, LineChart, Series};
use super::markup::{Cell, Table, paragraph};
use super::numbers::{count, grouped, significant};
use super::page::charts;
use super::run::Run;
use crate::error::Result;

/// Bins of the signed histogram.
const BINS: usize = 48;
/// The share of the weights that histograms may leave out at an end.
const OUTLIERS: f64 = 0.001;
/// Points of a curve over features or labels.
const CURVE_POINTS: usize = 100;

/// The column of the features' degrees.
const DEGREES: &str = "connections of a feature: least / median / most";

/// The runs that have a classifier, with their places.
fn with_classifier(runs: &[Run]) -> Vec<(usize, &Run, &Classifier)> {
    let classifiers = runs.iter().enumerate();
    classifiers.filter_map(|(place, run)| Some((place, run, run.classifier.as_ref()?))).collect()
}

/// Weights and wiring.
///
/// # Errors
/// As reading the weights.
pub(super) fn classifier(runs: &[Run]) -> Result<String> {
    let shown = with_classifier(runs);
    if shown.is_empty() {
        return Ok(paragraph("No model is saved yet."));
    }
    let of = if shown.iter().any(|(_, run, _)| run.is_best) {
        "The model that was best on dev, where dev chose one; else the model after the last epoch."
    } else {
        "The model after the last epoch."
    };
    let is_mixed = |run: &Run| run.model.as_ref().is_some_and(|model| model.classifier.dense_labels > 0);
    let mixed = if shown.iter().any(|(_, run, _)| is_mixed(run)) {
        paragraph("Where the most frequent labels are dense, these are the numbers of all other labels.")
    } else {
        String::new()
    };
    let figures = [magnitudes(&shown), signed(&shown)?, degrees(&shown)];
    Ok(paragraph(of) + &mixed + &table(runs, &shown) + &charts(runs, figures))
}

fn table(runs: &[Run], shown: &[(usize, &Run, &Classifier)]) -> String {
    let head = [
        "run",
        "weights",
        "exact zeros",
        "|w| median",
        "95 % below",
        "largest",
        DEGREES,
        "repeated features",
    ];
    let row = |(place, run, classifier): &(usize, &Run, &Classifier)| {
        let weights = &classifier.weights;
        let zeros = 100.0 * weights.zeros as f64 / weights.count.max(1) as f64;
        let quantile = |share| Cell::text(weights.quantile(share).map_or("–".into(), |q| significant(q, 2)));
        let mut cells = vec![
            Cell::run(run, *place, runs.len() > 1),
            Cell::text(count(weights.count)),
            Cell::text(format!("{zeros:.2} %")),
            quantile(0.5),
            quantile(0.95),
            Cell::text(significant(f64::from(weights.largest), 3)),
        ];
        match &classifier.wiring {
            Some(wiring) => {
                let degrees = &wiring.degrees;
                let at = |place: usize| degrees.get(place).map_or("–".into(), |degree| grouped(*degree));
                let [least, median, most] = [degrees.len().saturating_sub(1), degrees.len() / 2, 0].map(at);
                cells.push(Cell::text(format!("{least} / {median} / {most}")));
                cells.push(Cell::text(match wiring.repeating {
                    0 => "none".into(),
                    repeating => format!("in {} labels", grouped(repeating)),
                }));
            }
            None => cells.extend(["all to all", "–"].map(Cell::text)),
        }
        cells
    };
    let rows = shown.iter().map(row).collect();
    Table { caption: "Connections".into(), head: head.map(Cell::text).to_vec(), rows }.html()
}

/// The histogram of |w| on a logarithmic axis.
fn magnitudes(shown: &[(usize, &Run, &Classifier)]) -> String {
    let quantile = |share: f64| shown.iter().filter_map(move |(_, _, c)| c.weights.quantile(share));
    let low = quantile(OUTLIERS).fold(f64::INFINITY, f64::min);
    let high = quantile(1.0).fold(0.0, f64::max);
    let points = |classifier: &Classifier| {
        let bins: Vec<(f64, f64)> = classifier.weights.by_magnitude().collect();
        let first = bins.iter().rposition(|(edge, _)| *edge <= low).unwrap_or(0);
        // One more edge than bins.
        let end = bins.iter().position(|(edge, _)| *edge > high).unwrap_or(bins.len() - 1);
        let mut points: Vec<(f64, f64)> =
            bins[first..end].iter().map(|(edge, share)| (*edge, 100.0 * share)).collect();
        points.push((bins[end].0, 0.0));
        points
    };
    LineChart {
        id: "magnitudes",
        title: "Magnitudes of the weights",
        note: "Ten bins a decade. Exact zeros and the smallest 0.1 % are left out.".into(),
        x: AxisOf { name: "|weight|", spacing: Spacing::Log },
        y: AxisOf { name: "share of the weights in a bin, %", spacing: Spacing::FromZero },
        drawing: Drawing::Steps,
        series: if low.is_finite() { histograms(shown, points) } else { Vec::new() },
    }
    .html()
}

/// The histogram of the weights with their signs.
fn signed(shown: &[(usize, &Run, &Classifier)]) -> Result<String> {
    let limits = shown.iter().filter_map(|(_, _, classifier)| classifier.weights.quantile(1.0 - OUTLIERS));
    let limit = limits.fold(0.0, f64::max);
    if limit == 0.0 {
        return Ok(String::new());
    }
    let mut all = Vec::new();
    for (place, run, classifier) in shown {
        let shares = classifier.signed(limit, BINS)?;
        let edge = |bin: usize| limit * (2.0 * bin as f64 / BINS as f64 - 1.0);
        let mut points: Vec<(f64, f64)> =
            shares.iter().enumerate().map(|(bin, share)| (edge(bin), 100.0 * share)).collect();
        points.push((limit, 0.0));
        all.push(Series { place: *place, name: &run.tag, points });
    }
    Ok(LineChart {
        id: "weights",
        title: "Weights",
        note: "Exact zeros and the largest 0.1 % are left out.".into(),
        x: AxisOf { name: "weight", spacing: Spacing::Linear },
        y: AxisOf { name: "share of the weights in a bin, %", spacing: Spacing::FromZero },
        drawing: Drawing::Steps,
        series: all,
    }
    .html())
}

fn histograms<'a>(
    shown: &[(usize, &'a Run, &Classifier)],
    points: impl Fn(&Classifier) -> Vec<(f64, f64)>,
) -> Vec<Series<'a>> {
    let series = |(place, run, classifier): &(usize, &'a Run, &Classifier)| Series {
        place: *place,
        name: &run.tag,
        points: points(classifier),
    };
    shown.iter().map(series).collect()
}

/// Connections of the features, from the most connected to the least.
fn degrees(shown: &[(usize, &Run, &Classifier)]) -> String {
    let wired: Vec<_> =
        shown.iter().filter_map(|(place, run, c)| Some((*place, *run, c.wiring.as_ref()?))).collect();
    let points = |degrees: &[u64]| {
        let share = |place: usize| 100.0 * (place as f64 + 0.5) / degrees.len() as f64;
        places(degrees.len(), false).into_iter().map(|place| (share(place), degrees[place] as f64)).collect()
    };
    let shared = wired.iter().any(|(_, run, wiring)| {
        run.model.as_ref().is_some_and(|model| model.classifier.labels != wiring.rows)
    });
    let note = if shared { " Labels that share their features count once." } else { "" };
    LineChart {
        id: "degrees",
        title: "Connections of the features",
        note: format!("Features by falling number of connections.{note}"),
        x: AxisOf { name: "rank of the feature, %", spacing: Spacing::FromZero },
        y: AxisOf { name: "connections", spacing: Spacing::FromZero },
        drawing: Drawing::Curve,
        series: wired
            .iter()
            .map(|(place, run, wiring)| Series {
                place: *place,
                name: &run.tag,
                points: points(&wiring.degrees),
            })
            .collect(),
    }
    .html()
}

/// Up to about a hundred places among `count`, the first and the last among them: evenly, or by their logarithm.
fn places(count: usize, log: bool) -> Vec<usize> {
    let Some(last) = count.checked_sub(1) else { return Vec::new() };
    let at = |point: usize| {
        let share = point as f64 / CURVE_POINTS as f64;
        if log { (count as f64).powf(share) - 1.0 } else { share * last as f64 }
    };
    let mut places: Vec<usize> =
        (0..=CURVE_POINTS).map(|point| (at(point).round() as usize).min(last)).collect();
    places.dedup();
    places
}

/// How often labels occur in training; runs on the same data are drawn once.
pub(super) fn labels(runs: &[Run]) -> String {
    let shown: Vec<(usize, &Run, &[u32])> = with_classifier(runs)
        .into_iter()
        .map(|(place, run, classifier)| (place, run, classifier.frequencies.as_slice()))
        .filter(|(_, _, frequencies)| !frequencies.is_empty())
        .collect();
    let mut distinct: Vec<(usize, &Run, &[u32])> = Vec::new();
    for candidate in shown {
        if !distinct.iter().any(|(_, _, frequencies)| *frequencies == candidate.2) {
            distinct.push(candidate);
        }
    }
    let several = distinct.len() > 1;
    let points = |frequencies: &[u32]| {
        let point = |place: usize| (place as f64 + 1.0, f64::from(frequencies[place]));
        places(frequencies.len(), true).into_iter().map(point).filter(|(_, f)| *f > 0.0).collect()
    };
    let chart = LineChart {
        id: "label-frequencies",
        title: "Training documents of the labels",
        note: if several || runs.len() == 1 { String::new() } else { "The same in all runs.".into() },
        x: AxisOf { name: "rank of the label", spacing: Spacing::Log },
        y: AxisOf { name: "training documents", spacing: Spacing::Log },
        drawing: Drawing::Curve,
        series: distinct
            .iter()
            .map(|(place, run, frequencies)| Series {
                place: *place,
                name: &run.tag,
                points: points(frequencies),
            })
            .collect(),
    }
    .html();
    if chart.is_empty() {
        return chart;
    }
    frequency_table(&distinct, runs.len() > 1) + &charts(if several { runs } else { &[] }, [chart])
}

fn frequency_table(distinct: &[(usize, &Run, &[u32])], several: bool) -> String {
    let head =
        ["run", "labels", "in no training document", "in 1 to 5", "in 6 to 100", "in more", "median", "most"];
    let row = |(place, run, frequencies): &(usize, &Run, &[u32])| {
        let within = |low: u32, high: u32| {
            let labels = frequencies.iter().filter(|f| (low..=high).contains(f)).count();
            let share = 100.0 * labels as f64 / frequencies.len() as f64;
            Cell::text(format!("{} ({share:.1} %)", grouped(labels as u64)))
        };
        vec![
            if distinct.len() > 1 || !several { Cell::run(run, *place, several) } else { Cell::text("all") },
            Cell::text(grouped(frequencies.len() as u64)),
            within(0, 0),
            within(1, 5),
            within(6, 100),
            within(101, u32::MAX),
            Cell::text(grouped(u64::from(frequencies[frequencies.len() / 2]))),
            Cell::text(grouped(u64::from(frequencies[0]))),
        ]
    };
    let rows = distinct.iter().map(row).collect();
    Table { caption: String::new(), head: head.map(Cell::text).to_vec(), rows }.html()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_hold_both_ends() {
        assert_eq!(places(0, false), [0; 0]);
        assert_eq!(places(3, false), [0, 1, 2]);
        assert_eq!(places(3, true), [0, 1, 2]);
        for log in [false, true] {
            let many = places(1_000_000, log);
            assert_eq!((many[0], many[many.len() - 1]), (0, 999_999));
            assert!(many.len() <= CURVE_POINTS + 1 && many.is_sorted_by(|a, b| a < b));
        }
        // Evenly in the logarithm: half of the points lie below the root.
        let below = places(1_000_000, true).iter().filter(|place| **place < 1000).count();
        assert!(below < CURVE_POINTS / 2 + 2, "{below}");
    }
}
