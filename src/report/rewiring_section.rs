//! What rewirings did.

use super::axis::Spacing;
use super::line_chart::{AxisOf, Drawing, LineChart, Series};
use super::log::Rewiring;
use super::markup::paragraph;
use super::page::charts;
use super::run::Run;

/// Counts, turnover and thresholds of all rewirings.
pub(super) fn rewiring(runs: &[Run]) -> String {
    if runs.iter().all(|run| run.log.rewirings.is_empty()) {
        return paragraph("No connection was rewired.");
    }
    let figures = [
        chart(runs, "pruned", "Pruned and regrown", "connections in a rewiring", "", |_, r| {
            number(r, "pruned")
        }),
        chart(
            runs,
            "turnover",
            "Turnover",
            "share of all connections, %",
            "Connections that a rewiring replaces.",
            turnover,
        ),
        chart(
            runs,
            "pruned-again",
            "Pruned again",
            "share of the pruned, %",
            "Pruned connections that the rewiring before had regrown.",
            |_, r| 100.0 * number(r, "pruned_again") / number(r, "pruned"),
        ),
        chart(runs, "threshold", "Threshold", "of |weight|", "", |_, r| number(r, "threshold")),
        chart(runs, "fraction", "Fraction", "wanted share of the connections, %", "", |_, r| {
            100.0 * number(r, "fraction")
        }),
    ];
    charts(runs, figures)
}

fn number(rewiring: &Rewiring, key: &str) -> f64 {
    rewiring.numbers.get(key).copied().unwrap_or(f64::NAN)
}

/// The share in percent: as logged, else from the counts.
fn turnover(run: &Run, rewiring: &Rewiring) -> f64 {
    let connections = run.connections().map_or(f64::NAN, |connections| connections as f64);
    let share = number(rewiring, "turnover");
    100.0 * if share.is_finite() { share } else { number(rewiring, "pruned") / connections }
}

fn chart(
    runs: &[Run],
    id: &str,
    title: &str,
    y: &str,
    note: &str,
    value: impl Fn(&Run, &Rewiring) -> f64,
) -> String {
    let series = |(place, run)| {
        let run: &Run = run;
        let points = run.log.rewirings.iter().map(|r| (r.step as f64, value(run, r))).collect();
        Series { place, name: &run.tag, points }
    };
    LineChart {
        id,
        title,
        note: note.into(),
        x: AxisOf { name: "optimizer step", spacing: Spacing::FromZero },
        y: AxisOf { name: y, spacing: Spacing::FromZero },
        drawing: Drawing::Points,
        series: runs.iter().enumerate().map(series).collect(),
    }
    .html()
}
