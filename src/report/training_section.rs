//! How training went: loss, learning rates, metrics, and metrics by label frequency.

use std::collections::BTreeSet;

use super::axis::Spacing;
use super::bar_chart::{BarChart, Group};
use super::line_chart::{AxisOf, Drawing, LineChart, Series};
use super::log::Slice;
use super::markup::{Cell, Table, paragraph};
use super::numbers::grouped;
use super::page::charts;
use super::run::Run;
use super::summary_section::METRICS;
use crate::optimize::Optimizer;

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

/// Loss and learning rates.
pub(super) fn training(runs: &[Run]) -> String {
    let y = AxisOf { name: "mean training loss", spacing: Spacing::Linear };
    let loss = over_epochs(runs, "loss", "Loss", y, |epoch| epoch.number("loss"));
    let mut figures = vec![loss.html()];
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
    let figures = METRICS.into_iter().map(|metric| {
        let name = format!("{metric}{on}, %");
        let y = AxisOf { name: &name, spacing: Spacing::Linear };
        let id = metric.replace('@', "-").to_lowercase();
        over_epochs(runs, &id, metric, y, |epoch| epoch.number(metric)).html()
    });
    charts(runs, figures)
}

/// R@5 of labels of like frequency, where it was logged.
pub(super) fn by_frequency(runs: &[Run]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for slice in runs.iter().flat_map(|run| run.log.slices()) {
        if !names.contains(&slice.name.as_str()) {
            names.push(&slice.name);
        }
    }
    let of = |run: &'_ Run, name: &str| -> Option<Slice> {
        run.log.slices().iter().find(|slice| slice.name == name).cloned()
    };
    let group = |name: &&str| Group {
        name: (*name).to_owned(),
        values: runs.iter().map(|run| of(run, name)?.recall).collect(),
    };
    let chart = BarChart {
        id: "slices",
        title: "R@5 by frequency in training",
        note: "Of the last ranked epoch.".into(),
        series: runs.iter().enumerate().map(|(place, run)| (place, run.tag.as_str())).collect(),
        groups: names.iter().map(group).collect(),
        text: |value| format!("{value:.2} %"),
    };
    let figures = charts(runs, [chart.html()]);
    if figures.is_empty() { figures } else { figures + &slices_table(runs) }
}

fn slices_table(runs: &[Run]) -> String {
    let mut rows = Vec::new();
    for (place, run) in runs.iter().enumerate() {
        for slice in run.log.slices() {
            let whole = |number: Option<u64>| Cell::text(number.map_or("–".into(), grouped));
            rows.push(vec![
                Cell::run(run, place, runs.len() > 1),
                Cell::text(&slice.name),
                whole(slice.labels),
                whole(slice.positives),
                Cell::text(slice.recall.map_or("–".into(), |recall| format!("{recall:.2}"))),
            ]);
        }
    }
    let head = ["run", "slice", "labels", "positives", "R@5, %"].map(Cell::text).to_vec();
    Table { caption: String::new(), head, rows }.html()
}
