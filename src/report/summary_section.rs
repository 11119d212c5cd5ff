//! What was run, what came out, and what was set.

use std::path::Path;

use super::log::Epoch;
use super::markup::{Cell, Table, paragraph};
use super::numbers::{date, grouped, seconds};
use super::run::Run;
use crate::config::Config;

/// The metrics of the tables.
pub(super) const METRICS: [&str; 8] = ["P@1", "P@3", "P@5", "PSP@1", "PSP@3", "PSP@5", "nDCG@5", "R@5"];

/// Keys that say where things lie on one machine.
const PLACES: &[&str] = &["data.cache", "evaluate.batch_size"];

/// The runs in a table: sizes, device, how far they came.
pub(super) fn head(runs: &[Run]) -> String {
    let head = [
        "run",
        "device",
        "encoder",
        "documents",
        "labels",
        "features",
        "fan-in",
        "epochs",
        "training",
        "written",
    ];
    let row = |(place, run): (usize, &Run)| {
        let sizes = run.model.as_ref();
        let size =
            |get: fn(&super::run::Model) -> u64| sizes.map_or("–".into(), |model| grouped(get(model)));
        vec![
            Cell::run(run, place, runs.len() > 1),
            Cell::text(run.device.as_deref().unwrap_or("not recorded")),
            Cell::text(encoder(&run.config)),
            Cell::text(size(|model| model.train_documents)),
            Cell::text(size(|model| model.classifier.labels)),
            Cell::text(size(|model| model.classifier.features)),
            Cell::text(
                sizes.map_or(run.config.classifier.fan_in as u64, |m| m.classifier.fan_in).to_string(),
            ),
            Cell::text(format!("{} of {}", epochs_done(run), run.config.train.epochs)),
            Cell::text(training_seconds(run).map_or("–".into(), seconds)),
            Cell::text(run.written.map_or("–".into(), |(first, last)| days(&date(first), &date(last)))),
        ]
    };
    let table = Table {
        caption: String::new(),
        head: head.map(Cell::text).to_vec(),
        rows: runs.iter().enumerate().map(row).collect(),
    };
    table.html() + &unfinished(runs)
}

fn days(first: &str, last: &str) -> String {
    if first == last { first.to_owned() } else { format!("{first} to {last}") }
}

fn encoder(config: &Config) -> String {
    let value = |key: &str| {
        let values = config.values();
        values.into_iter().find(|(name, _)| name == key).map(|(_, value)| value).unwrap_or_default()
    };
    let (kind, model) = (value("encoder.kind"), value("encoder.model"));
    if kind == "transformer" && !model.is_empty() { format!("{kind}, {}", last_name(&model)) } else { kind }
}

/// The last name of a path or an id: where it lies on one machine is nobody else's business.
fn last_name(path: &str) -> String {
    path.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(path).to_owned()
}

fn epochs_done(run: &Run) -> u64 {
    run.log.epochs.last().map_or(0, |epoch| epoch.epoch)
}

/// Seconds of all epochs, evaluation not counted.
pub(super) fn training_seconds(run: &Run) -> Option<f64> {
    let seconds = run.log.epochs.iter().map(|epoch| epoch.number("seconds")).filter(|s| s.is_finite());
    seconds.reduce(|a, b| a + b)
}

/// What is to be known about runs that did not come to their end.
fn unfinished(runs: &[Run]) -> String {
    let mut out = String::new();
    for run in runs {
        let (done, all) = (epochs_done(run), u64::from(run.config.train.epochs));
        if done < all {
            let after = run.log.rewirings.last().map_or(0, |rewiring| rewiring.step);
            let last = run.log.epochs.last().map_or(0, |epoch| epoch.step).max(after);
            out += &paragraph(&format!(
                "{}: {done} of {all} epochs are logged, up to step {}. The run still trains, was stopped, or its loss \
                 diverged; the page shows what there is.",
                run.name,
                grouped(last)
            ));
        }
        if run.log.unfinished {
            out +=
                &paragraph(&format!("{}: the last line of its log was cut off and is left out.", run.name));
        }
    }
    out
}

/// Metrics of the last and of the best epoch.
pub(super) fn results(runs: &[Run]) -> String {
    let last = results_table(runs, "Last ranked epoch", |run| run.log.last_ranked());
    if last.is_empty() {
        return paragraph("No epoch was ranked: regrow evaluate measures a model.");
    }
    let differs = |run: &Run| run.log.best_ranked() != run.log.last_ranked();
    let mut out = last;
    if runs.iter().any(differs) {
        out += &results_table(runs, "Best epoch by P@1", |run| run.log.best_ranked());
        if runs.iter().any(|run| !run.log.epochs.iter().any(|epoch| epoch.best) && differs(run)) {
            out += &paragraph(
                "Only dev chooses a model. On another split the best epoch is known afterwards, from the very \
                 documents that it is measured on: its numbers are too good.",
            );
        }
    }
    if runs.len() > 1 && !comparable(runs) {
        out += &paragraph(
            "The runs were measured on different data or splits, so no number is marked as the best.",
        );
    }
    out
}

fn split_of(run: &Run) -> Option<&str> {
    run.log.last_ranked().and_then(|epoch| epoch.split.as_deref())
}

/// Whether the ranked runs were measured on the same split of, as far as sizes tell, the same data.
fn comparable(runs: &[Run]) -> bool {
    let of = |run: &Run| {
        let sizes = run.model.as_ref().map(|model| (model.classifier.labels, model.train_documents));
        (split_of(run).map(str::to_owned), sizes, last_name(&run.config.data.path))
    };
    let mut ranked = runs.iter().filter(|run| split_of(run).is_some()).map(of);
    let first = ranked.next();
    ranked.all(|other| Some(other) == first)
}

fn results_table<'a>(
    runs: &'a [Run],
    caption: &str,
    choose: impl Fn(&'a Run) -> Option<&'a Epoch>,
) -> String {
    let chosen: Vec<(usize, &Run, &Epoch)> =
        runs.iter().enumerate().filter_map(|(place, run)| Some((place, run, choose(run)?))).collect();
    if chosen.is_empty() {
        return String::new();
    }
    let metrics: Vec<&str> = METRICS
        .into_iter()
        .filter(|metric| chosen.iter().any(|(_, _, epoch)| epoch.number(metric).is_finite()))
        .collect();
    let marked = chosen.len() > 1 && comparable(runs);
    let best =
        |metric: &str| chosen.iter().map(|(_, _, epoch)| epoch.number(metric)).fold(f64::NAN, f64::max);
    let row = |(place, run, epoch): &(usize, &Run, &Epoch)| {
        let mut cells = vec![
            Cell::run(run, *place, runs.len() > 1),
            Cell::text(epoch.split.as_deref().unwrap_or("–")),
            Cell::text(epoch.epoch.to_string()),
        ];
        cells.extend(metrics.iter().map(|metric| {
            let value = epoch.number(metric);
            let text = if value.is_finite() { format!("{value:.2}") } else { "–".into() };
            if marked && value == best(metric) { Cell::best(text) } else { Cell::text(text) }
        }));
        cells
    };
    let head = ["run", "split", "epoch"].into_iter().chain(metrics.iter().copied());
    let table = Table {
        caption: format!("{caption}, percent"),
        head: head.map(Cell::text).collect(),
        rows: chosen.iter().map(row).collect(),
    };
    table.html()
}

/// A key, its default, and its value in each run.
struct Setting {
    key: String,
    default: String,
    values: Vec<String>,
}

impl Setting {
    fn differs(&self) -> bool {
        self.values.iter().any(|value| *value != self.values[0])
    }
}

/// The keys in which runs differ, and those in which all differ from the defaults.
pub(super) fn settings(runs: &[Run]) -> String {
    let (differing, common): (Vec<Setting>, Vec<Setting>) =
        changed_settings(runs).into_iter().partition(Setting::differs);
    let mut out = String::new();
    if runs.len() > 1 {
        out += &if differing.is_empty() {
            paragraph("The runs have the same settings.")
        } else {
            differing_table(runs, &differing)
        };
    }
    if common.is_empty() && differing.is_empty() {
        return out + &paragraph("Every key has its default.");
    }
    if !common.is_empty() {
        let caption = if runs.len() > 1 { "The same in all, but not the default" } else { "Not the default" };
        let rows = common.iter().map(|s| vec![&s.key, &s.values[0], &s.default]);
        out += &text_table(caption, ["key", "value", "default"].map(Cell::text).to_vec(), rows);
    }
    out
}

fn changed_settings(runs: &[Run]) -> Vec<Setting> {
    let Ok(defaults) = Config::with_settings(&[]) else { return Vec::new() };
    let values: Vec<Vec<(String, String)>> = runs.iter().map(|run| run.config.values()).collect();
    let setting = |(i, (key, default)): (usize, (String, String))| {
        let value = |values: &Vec<(String, String)>| {
            let value = &values[i].1;
            if Path::new(value).is_absolute() { last_name(value) } else { value.clone() }
        };
        Setting { values: values.iter().map(value).collect(), key, default }
    };
    let all = defaults.values().into_iter().enumerate().map(setting);
    all.filter(|s| !PLACES.contains(&s.key.as_str()) && s.values.iter().any(|value| *value != s.default))
        .collect()
}

fn differing_table(runs: &[Run], settings: &[Setting]) -> String {
    let names = runs.iter().enumerate().map(|(place, run)| Cell::run(run, place, true));
    let head = std::iter::once(Cell::text("key")).chain(names).chain([Cell::text("default")]).collect();
    let rows = settings
        .iter()
        .map(|s| std::iter::once(&s.key).chain(&s.values).chain(std::iter::once(&s.default)).collect());
    text_table("What differs", head, rows)
}

/// A table of texts, which may be long.
fn text_table<'a>(caption: &str, head: Vec<Cell>, rows: impl Iterator<Item = Vec<&'a String>>) -> String {
    let cell = |text: &String| Cell::text(if text.is_empty() { "–" } else { text });
    let table = Table {
        caption: caption.to_owned(),
        head,
        rows: rows.map(|row| row.into_iter().map(cell).collect()).collect(),
    };
    table.html().replacen("<table>", "<table class=\"text\">", 1)
}
