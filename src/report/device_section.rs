//! What a run took of its machine: memory and time.

use super::axis::Spacing;
use super::bar_chart::{BarChart, Group};
use super::line_chart::AxisOf;
use super::markup::{Cell, Table, paragraph};
use super::numbers::{bytes, grouped, seconds, significant};
use super::page::charts;
use super::run::Run;
use super::summary_section::training_seconds;
use super::training_section::over_epochs;

/// Planned memory by purpose, planned and measured peaks.
pub(super) fn memory(runs: &[Run]) -> String {
    if runs.iter().all(|run| run.plan.is_none()) {
        return paragraph("No memory plan is saved with the run: it was made by an older version of regrow.");
    }
    let mut purposes: Vec<&str> = Vec::new();
    for purpose in runs.iter().filter_map(|run| run.plan.as_ref()).flat_map(|plan| &plan.purposes) {
        if !purposes.contains(&purpose.name.as_str()) {
            purposes.push(&purpose.name);
        }
    }
    let planned = |run: &Run, name: &str| {
        let purposes = &run.plan.as_ref()?.purposes;
        purposes.iter().find(|purpose| purpose.name == name).map(|purpose| purpose.bytes as f64)
    };
    let chart = BarChart {
        id: "plan",
        title: "Planned buffers by purpose",
        note: String::new(),
        series: runs.iter().enumerate().map(|(place, run)| (place, run.tag.as_str())).collect(),
        groups: purposes
            .iter()
            .map(|name| Group {
                name: (*name).to_owned(),
                values: runs.iter().map(|run| planned(run, name)).collect(),
            })
            .collect(),
        text: |value| bytes(value as u64),
    };
    peaks(runs) + &charts(runs, [chart.html()])
}

fn peaks(runs: &[Run]) -> String {
    let head = ["run", "planned peak", "measured peak of the buffers", "measured peak of the process"];
    let row = |(place, run): (usize, &Run)| {
        let cell = |value: Option<u64>| Cell::text(value.map_or("–".into(), bytes));
        let memory = run.memory.as_ref();
        vec![
            Cell::run(run, place, runs.len() > 1),
            cell(run.plan.as_ref().map(|plan| plan.memory.peak_bytes)),
            cell(memory.map(|memory| memory.buffers_peak_bytes)),
            cell(memory.and_then(|memory| memory.process_peak_bytes)),
        ]
    };
    let rows = runs.iter().enumerate().map(row).collect();
    Table { caption: String::new(), head: head.map(Cell::text).to_vec(), rows }.html()
}

/// Documents a second and seconds of each epoch.
pub(super) fn time(runs: &[Run]) -> String {
    let speed = AxisOf { name: "documents a second", spacing: Spacing::FromZero };
    let each = AxisOf { name: "seconds of an epoch", spacing: Spacing::FromZero };
    let figures = [
        over_epochs(runs, "speed", "Speed", speed, |epoch| epoch.number("documents_per_second")).html(),
        over_epochs(runs, "seconds", "Duration of the epochs", each, |epoch| epoch.number("seconds")).html(),
    ];
    let html = charts(runs, figures);
    if html.is_empty() {
        return html;
    }
    let note = "Training alone, without evaluation. An epoch that was resumed counts from there on.";
    paragraph(note) + &totals(runs) + &html
}

fn totals(runs: &[Run]) -> String {
    let head = ["run", "epochs", "in all", "an epoch", "documents a second"];
    let row = |(place, run): (usize, &Run)| {
        let epochs = run.log.epochs.len();
        let total = training_seconds(run);
        // Epochs that were resumed are shorter: documents are counted by the speed of each.
        let documents =
            |epoch: &super::log::Epoch| epoch.number("seconds") * epoch.number("documents_per_second");
        let documents: f64 = run.log.epochs.iter().map(documents).sum();
        vec![
            Cell::run(run, place, runs.len() > 1),
            Cell::text(grouped(epochs as u64)),
            Cell::text(total.map_or("–".into(), seconds)),
            Cell::text(total.map_or("–".into(), |total| seconds(total / epochs as f64))),
            Cell::text(total.map_or("–".into(), |total| significant(documents / total, 3))),
        ]
    };
    let rows = runs.iter().enumerate().map(row).collect();
    Table { caption: String::new(), head: head.map(Cell::text).to_vec(), rows }.html()
}
