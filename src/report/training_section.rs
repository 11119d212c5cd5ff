//! How training went: loss, learning rates, metrics, and metrics by label frequency.

use std::collections::BTreeSet;

use super::axis::Spacing;
use super::bar_chart::{BarChart, Group};
use super::line_chart::{AxisOf, Drawing, LineChart, Series};
use super::markup::{Cell, Table, paragraph};
use super::numbers::grouped;
use super::page::charts;
use super::run::Run;
use super::summary_section::METRICS;
use crate::optimize::Optimizer;

/// Metrics that are drawn where they are logged, besides those of the tables.
const MORE_METRICS: [&str; 2] = ["macroF1@5", "coverage@5"];
/// Charts of slices: id, key, heading, remark.
const SLICE_CHARTS: [(&str, &str, &str, &str); 3] = [
    (
        "slice-recall",
        "R@5",
        "R@5 by frequency in training",
        "Found among the first five, of the slice's positives.",
    ),
    (
        "slice-precision",
        "P@5",
        "P@5 by frequency in training",
        "What a slice adds to P@5; together they are P@5.",
    ),
    ("slice-coverage", "coverage@5", "Coverage@5 by frequency in training", "Labels found at least once."),
];
/// Points of a computed curve.
const CURVE_POINTS: u64 = 60;

/// The axis of epochs.
pub(super) const EPOCHS: AxisOf<'_> = AxisOf { name: "epoch", spacing: Spacing::Whole };

/// A number of the epoch lines over the epochs.
pub(super) fn over_epochs<'a>(
    runs: &'a [Run],
    id: &'a str,
    title: &'a str,
    y: AxisOf<'a>,
    number: impl Fn(&super::log::Epoch) -> f64,
) -> LineChart<'a> {
    let series = |(place, run): (usize, &'a Run)| Series {
        place,
        name: &run.tag,
        points: run.log.epochs.iter().map(|epoch| (epoch.epoch as f64, number(epoch))).collect(),
    };
    LineChart {
        id,
        title,
        note: String::new(),
        x: EPOCHS,
        y,
        drawing: Drawing::Points,
        series: runs.iter().enumerate().map(series).collect(),
    }
}

/// Losses and learning rates.
pub(super) fn training(runs: &[Run]) -> String {
    let y = AxisOf { name: "mean training loss", spacing: Spacing::Linear };
    let loss = over_epochs(runs, "loss", "Loss", y, |epoch| epoch.number("loss"));
    let auxiliary = [
        ("auxiliary-loss", "auxiliary_loss", "Auxiliary loss", "mean auxiliary loss"),
        ("auxiliary-weight", "auxiliary_weight", "Weight of the auxiliary loss", "share of the loss"),
    ];
    let mut figures = vec![loss.html()];
    figures.extend(auxiliary.map(|(id, key, title, name)| {
        let y = AxisOf { name, spacing: Spacing::FromZero };
        over_epochs(runs, id, title, y, |epoch| epoch.number(key)).html()
    }));
    let is_rate = |key: &&String| key.ends_with("_lr");
    let logged = runs.iter().flat_map(|run| run.log.epochs.iter().flat_map(|epoch| epoch.numbers.keys()));
    let rates: BTreeSet<&String> = logged.filter(is_rate).collect();
    figures.extend(rates.into_iter().map(|key| learning_rate(runs, key)));
    let html = charts(runs, figures);
    if html.is_empty() { paragraph("No epoch is over yet.") } else { html }
}

/// A learning rate over the steps: the schedule where it agrees with the log, else what was logged.
fn learning_rate(runs: &[Run], key: &str) -> String {
    let part = key.trim_end_matches("_lr");
    let logged: Vec<Vec<(f64, f64)>> = runs.iter().map(|run| logged_rates(run, key)).collect();
    let curves: Option<Vec<Vec<(f64, f64)>>> =
        runs.iter().zip(&logged).map(|(run, logged)| curve(run, part, logged)).collect();
    let (drawing, note) = match curves {
        Some(_) => (Drawing::Curve, "Computed from the settings; agrees with what was logged."),
        None => (Drawing::Points, "As logged at the end of each epoch."),
    };
    let points = curves.unwrap_or(logged);
    let series = |(place, (run, points))| {
        let run: &Run = run;
        Series { place, name: &run.tag, points }
    };
    LineChart {
        id: &format!("{key}-chart"),
        title: &format!("Learning rate of the {part}"),
        note: note.into(),
        x: AxisOf { name: "optimizer step", spacing: Spacing::Linear },
        y: AxisOf { name: "learning rate", spacing: Spacing::FromZero },
        drawing,
        series: runs.iter().zip(points).enumerate().map(series).collect(),
    }
    .html()
}

/// The rate of the last step of each epoch.
fn logged_rates(run: &Run, key: &str) -> Vec<(f64, f64)> {
    run.log.epochs.iter().map(|epoch| (epoch.step as f64 - 1.0, epoch.number(key))).collect()
}

/// The schedule up to the last logged step; none if the log says otherwise or the part has no schedule of its own.
fn curve(run: &Run, part: &str, logged: &[(f64, f64)]) -> Option<Vec<(f64, f64)>> {
    let Some(steps) = run.steps_per_epoch() else { return Some(Vec::new()) };
    let total = steps * u64::from(run.config.train.epochs);
    let optimizer: Optimizer = match part {
        "encoder" => run.config.optimizer.encoder.optimizer(total),
        "classifier" => run.config.optimizer.classifier.optimizer(total),
        _ => return None,
    };
    let agrees = |(step, rate): &(f64, f64)| {
        (optimizer.learning_rate_at(*step as u64) - rate).abs() <= 1e-9 * optimizer.learning_rate
    };
    let last = run.log.epochs.last()?.step - 1;
    let every = last.div_ceil(CURVE_POINTS).max(1);
    let at = |step: u64| (step as f64, optimizer.learning_rate_at(step));
    let ends = std::iter::once(last).filter(|last| !last.is_multiple_of(every));
    logged.iter().all(agrees).then(|| (0..=last).step_by(every as usize).chain(ends).map(at).collect())
}

/// A chart for each metric.
pub(super) fn ranking(runs: &[Run]) -> String {
    let splits: BTreeSet<&str> =
        runs.iter().flat_map(|run| &run.log.epochs).filter_map(|epoch| epoch.split.as_deref()).collect();
    let on = match splits.first() {
        Some(split) if splits.len() == 1 => format!(" on {split}"),
        _ => String::new(),
    };
    let figures = METRICS.into_iter().chain(MORE_METRICS).map(|metric| {
        let name = format!("{metric}{on}, %");
        let y = AxisOf { name: &name, spacing: Spacing::Linear };
        let id = metric.replace('@', "-").to_lowercase();
        over_epochs(runs, &id, metric, y, |epoch| epoch.number(metric)).html()
    });
    charts(runs, figures)
}

/// Metrics of labels of like frequency, where they were logged.
pub(super) fn by_frequency(runs: &[Run]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for slice in runs.iter().flat_map(|run| run.log.slices()) {
        if !names.contains(&slice.name.as_str()) {
            names.push(&slice.name);
        }
    }
    let chart = |(id, metric, title, note): &(&'static str, &str, &'static str, &str)| {
        let value = |run: &Run, name: &str| {
            let slice = run.log.slices().iter().find(|slice| slice.name == name)?;
            slice.numbers.get(*metric).copied()
        };
        let group = |name: &&str| Group {
            name: (*name).to_owned(),
            values: runs.iter().map(|run| value(run, name)).collect(),
        };
        BarChart {
            id,
            title,
            note: (*note).to_owned(),
            series: runs.iter().enumerate().map(|(place, run)| (place, run.tag.as_str())).collect(),
            groups: names.iter().map(group).collect(),
            text: |value| format!("{value:.2} %"),
        }
        .html()
    };
    let figures = charts(runs, SLICE_CHARTS.iter().map(chart));
    if figures.is_empty() { figures } else { slices_table(runs) + &figures }
}

fn slices_table(runs: &[Run]) -> String {
    const SHOWN: [&str; 7] = ["positives_share", "P@1", "P@5", "R@5", "macroR@5", "macroF1@5", "coverage@5"];
    let mut rows = Vec::new();
    for (place, run) in runs.iter().enumerate() {
        for slice in run.log.slices() {
            let number = |key: &str| slice.numbers.get(key);
            let range =
                slice.train_frequency.map(|[least, most]| format!("{} to {}", grouped(least), grouped(most)));
            let mut cells = vec![
                Cell::run(run, place, runs.len() > 1),
                Cell::text(&slice.name),
                Cell::text(number("labels").map_or("–".into(), |labels| grouped(*labels as u64))),
                Cell::text(range.unwrap_or("–".into())),
            ];
            let shown =
                SHOWN.iter().map(|key| number(key).map_or("–".into(), |value| format!("{value:.2}")));
            cells.extend(shown.map(Cell::text));
            rows.push(cells);
        }
    }
    let head = [
        "run",
        "slice",
        "labels",
        "documents of a label",
        "share of the positives",
        "adds to P@1",
        "adds to P@5",
    ];
    let head = head.into_iter().chain(SHOWN[3..].iter().copied()).map(Cell::text).collect();
    Table { caption: "Slices of the last ranked epoch, percent".into(), head, rows }.html()
}
