//! Progress bars, and plain lines where nobody watches a terminal.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::clusters::ClusterBars;
use super::say;
use crate::data::{Progress, Stage};
use crate::train::{Event, megabytes};

/// A bar on a terminal; hidden elsewhere.
pub(super) fn bar(total: u64, template: &str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr_with_hz(8)
    } else {
        ProgressDrawTarget::hidden()
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(total), target).with_style(style.progress_chars("━╸─"))
}

/// Shows how far opening a data set has come.
pub(super) struct DataProgress {
    bar: RefCell<Option<(Stage, ProgressBar)>>,
}

impl DataProgress {
    pub(super) fn new() -> Self {
        Self { bar: RefCell::new(None) }
    }

    pub(super) fn report(&self, progress: Progress) {
        let mut shown = self.bar.borrow_mut();
        if shown.as_ref().is_none_or(|(stage, _)| *stage != progress.stage) {
            if let Some((_, bar)) = shown.take() {
                bar.finish_and_clear();
            }
            let what = match progress.stage {
                Stage::Hash => "reading",
                Stage::TrainTokenizer => "training the tokenizer",
                Stage::Tokenize => "tokenising",
            };
            let template = format!("{what} {{bar:30}} {{bytes}}/{{total_bytes}} {{eta}}");
            *shown = Some((progress.stage, bar(progress.total, &template)));
        }
        if let Some((_, bar)) = &*shown {
            bar.set_position(progress.done);
        }
    }

    pub(super) fn finish(&self) {
        if let Some((_, bar)) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}

/// Shows the download of a model: a bar a file, or a line a file where nobody watches.
pub(super) struct DownloadProgress {
    bar: RefCell<Option<(String, ProgressBar)>>,
}

impl DownloadProgress {
    pub(super) fn new() -> Self {
        Self { bar: RefCell::new(None) }
    }

    pub(super) fn report(&self, file: &str, done: u64, total: Option<u64>) {
        let mut shown = self.bar.borrow_mut();
        if shown.as_ref().is_none_or(|(name, _)| name != file) {
            if let Some((_, bar)) = shown.take() {
                bar.finish_and_clear();
            }
            if !std::io::stderr().is_terminal() {
                say(&format!("downloading {file}"));
            }
            let template = format!("downloading {file} {{bar:30}} {{bytes}}/{{total_bytes}} {{eta}}");
            *shown = Some((file.to_owned(), bar(total.unwrap_or(0), &template)));
        }
        if let Some((_, bar)) = &*shown {
            bar.set_position(done);
        }
    }

    pub(super) fn finish(&self) {
        if let Some((_, bar)) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}

/// Shows a training run: a bar an epoch with loss, documents a second and the time left of the whole run.
pub(super) struct TrainProgress {
    clusters: ClusterBars,
    bar: ProgressBar,
    /// Documents of the whole run, and those done when it began here.
    total: u64,
    before: u64,
    documents: u64,
    epochs: u32,
    steps_per_epoch: u64,
    began: Instant,
    rewired: u64,
}

impl TrainProgress {
    pub(super) fn new() -> Self {
        Self {
            clusters: ClusterBars::default(),
            bar: ProgressBar::hidden(),
            total: 0,
            before: 0,
            documents: 0,
            epochs: 0,
            steps_per_epoch: 1,
            began: Instant::now(),
            rewired: 0,
        }
    }

    pub(super) fn show(&mut self, event: Event<'_>) {
        match event {
            Event::Started { calendar, step, planned_bytes, .. } => {
                self.clusters.finish();
                self.documents = calendar.documents as u64;
                self.epochs = calendar.epochs;
                self.steps_per_epoch = calendar.steps_per_epoch;
                self.total = self.documents * u64::from(calendar.epochs);
                self.before = step * self.documents / self.steps_per_epoch.max(1);
                self.began = Instant::now();
                let resumed = if step > 0 { format!(", going on after step {step}") } else { String::new() };
                say(&format!(
                    "{} documents, {} epochs of {} steps, {} rewirings, {} planned{resumed}",
                    calendar.documents,
                    calendar.epochs,
                    calendar.steps_per_epoch,
                    calendar.rewirings(),
                    megabytes(planned_bytes),
                ));
                let template = "epoch {prefix} {bar:24} {pos}/{len} {msg}";
                self.bar = bar(self.documents, template);
            }
            Event::Clusters(progress) => self.clusters.report(progress),
            Event::Step { step, documents, loss } => {
                let epoch = (step - 1) / self.steps_per_epoch;
                self.bar.set_prefix(format!("{}/{}", epoch + 1, self.epochs));
                self.bar.set_position(documents as u64);
                let position = epoch * self.documents + documents as u64;
                let done = position.saturating_sub(self.before);
                let rate = done as f64 / self.began.elapsed().as_secs_f64().max(1e-9);
                let left = self.total.saturating_sub(position) as f64 / rate.max(1e-9);
                self.bar.set_message(format!("loss {loss:.4}  {rate:.0} docs/s  {} left", duration(left)));
            }
            Event::Rewired { counts, .. } => self.rewired += counts.regrown,
            Event::FollowingDocuments { done, total } => {
                self.bar.set_message(format!("looking at the labels' documents {done}/{total}"));
            }
            Event::Evaluating { done, total } => {
                self.bar.set_message(format!("evaluating {done}/{total}"));
            }
            Event::Epoch { epoch, loss, documents_per_second, seconds, metrics, best } => {
                let mut line = format!(
                    "epoch {epoch}/{}  loss {loss:.4}  {seconds:.1} s  {documents_per_second:.0} docs/s",
                    self.epochs
                );
                if self.rewired > 0 {
                    line += &format!("  {} connections rewired", self.rewired);
                    self.rewired = 0;
                }
                if let Some((metrics, split)) = metrics {
                    let [p1, _, p3, _, p5] = metrics.precision.map(|p| 100.0 * p);
                    line += &format!("  {split} P@1 {p1:.2}  P@3 {p3:.2}  P@5 {p5:.2}");
                }
                if best {
                    line += "  (best)";
                }
                self.bar.suspend(|| say(&line));
            }
            Event::EarlyStop { epoch, evaluations } => {
                let line = format!(
                    "stopped early after epoch {epoch}: {evaluations} evaluations on dev without a gain \
                     (train.patience); the run is finished"
                );
                self.bar.suspend(|| say(&line));
            }
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "?".into();
    }
    let seconds = Duration::from_secs_f64(seconds.min(1e9)).as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ => format!("{}:{:02} h", seconds / 3600, seconds % 3600 / 60),
    }
}
