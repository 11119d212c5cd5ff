//! What this device can do and how near to it the classifier's step, its evaluation, its rewiring and the encoder's step
//! come: milliseconds beside the limits of memory, arithmetic and gathering, measured in the same run.

mod classifier;
mod encoder;
mod limits;
mod timer;

use serde::{Deserialize, Serialize};

pub use classifier::LayerSizes;
pub use encoder::{EncoderShape, EncoderSizes};
pub use limits::Limits;

use crate::device::Device;
use crate::error::Result;
use crate::kernels::products::MatmulPrecision;

/// What is measured.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// The classifier.
    pub layer: LayerSizes,
    /// The encoder, if it is to be measured.
    pub encoder: Option<EncoderSizes>,
    /// What the encoder's products keep of their operands; the device knows it of the rest.
    pub precision: MatmulPrecision,
    /// Seconds that each row is repeated for, at least five times.
    pub seconds: f64,
}

impl BenchOptions {
    /// What is measured, as text: reports compare only where this agrees.
    #[must_use]
    pub fn sizes(&self) -> String {
        let encoder = self.encoder.as_ref().map(|sizes| format!("; {}", sizes.describe()));
        self.layer.describe() + &encoder.unwrap_or_default()
    }
}

/// What a piece of work takes from the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Bytes that pass through memory, each buffer of a launch counted once a direction.
    pub bytes: f64,
    /// Multiply-adds.
    pub multiply_adds: f64,
    /// Elements of features or of their gradient that are fetched at an index.
    pub gathers: f64,
}

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Median of all repetitions.
    pub milliseconds: f64,
    /// The fastest repetition.
    pub best: f64,
    /// Repetitions.
    pub repetitions: usize,
    /// Documents a second.
    pub documents_per_second: Option<f64>,
    /// What it took.
    pub work: Option<Work>,
    /// Share of each limit that was used: (copy, multiply-adds, gathers).
    pub shares: Option<[f64; 3]>,
    /// The limit that was nearest.
    pub binds: Option<String>,
    /// Bytes over the least that one pass over the layer could move.
    pub bytes_over_bound: Option<f64>,
    /// The same through a cache of [`CACHE`] bytes: scratch that each chunk of labels uses again does not count.
    #[serde(default)]
    pub memory_bytes_over_bound: Option<f64>,
}

/// All measurements of a device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The device.
    pub device: String,
    /// As [`BenchOptions::sizes`].
    pub sizes: String,
    /// The limits.
    pub limits: Limits,
    /// The rows, the control first.
    pub rows: Vec<Row>,
}

/// Bytes of the cache through which [`Row::memory_bytes_over_bound`] is counted. An assumption: the second-level caches of two
/// cores of a server (2.5 MiB on the Xeon of docs/benchmarks.md) and a little of the third that they share.
pub const CACHE: u64 = 4 << 20;

/// Names of the limits, in the order of [`Row::shares`].
pub const LIMITS: [&str; 3] = ["memory", "arithmetic", "gathers"];

/// Measures; `progress` is told what comes next.
///
/// # Errors
/// [`crate::Error::Config`] or [`crate::Error::Usage`] for sizes that cannot be; [`crate::Error::Device`] when something does not fit or the device is lost.
pub fn bench(device: &Device, options: &BenchOptions, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    options.layer.check()?;
    options.layer.check_memory(device)?;
    progress("copy, arithmetic and gathers");
    let (limits, control) = Limits::measure(device, &options.layer, options.seconds)?;
    let mut rows = vec![control];
    rows.extend(classifier::measure(device, &options.layer, options.seconds, progress)?);
    if let Some(sizes) = &options.encoder {
        progress("encoder step");
        rows.push(encoder::measure(device, sizes, options.precision, options.seconds)?);
    }
    for row in &mut rows {
        row.set_shares(&limits);
    }
    Ok(Report { device: device.name().to_owned(), sizes: options.sizes(), limits, rows })
}

impl Row {
    fn set_shares(&mut self, limits: &Limits) {
        let Some(work) = self.work else { return };
        let seconds = self.milliseconds / 1e3;
        let shares = [
            work.bytes / seconds / limits.copy_bytes,
            work.multiply_adds / seconds / limits.multiply_adds,
            work.gathers / seconds / limits.gathers,
        ];
        let largest = (0..3).max_by(|a, b| shares[*a].total_cmp(&shares[*b])).unwrap_or(0);
        self.shares = Some(shares);
        self.binds = Some(LIMITS[largest].to_owned());
    }
}

impl Report {
    /// The table for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let l = &self.limits;
        let mut lines = vec![
            format!("{}; {}", self.device, self.sizes),
            format!(
                "limits measured: copy {:.1} GB/s, {:.0} G multiply-adds/s, {:.1} G gathers/s",
                l.copy_bytes / 1e9,
                l.multiply_adds / 1e9,
                l.gathers / 1e9
            ),
            format!(
                "{:<22} {:>10} {:>10} {:>7} {:>7} {:>7}  {:<10} {:>13} {:>10}",
                "", "median ms", "best ms", "memory", "arith.", "gathers", "binds", "bytes", "docs/s"
            ),
        ];
        lines.extend(self.rows.iter().map(|row| {
            let share =
                |i: usize| row.shares.map_or(String::new(), |shares| format!("{:.0} %", shares[i] * 100.0));
            let ratios = row.bytes_over_bound.zip(row.memory_bytes_over_bound);
            let bound = ratios.map_or(String::new(), |(all, memory)| format!("{memory:.2} / {all:.2} x"));
            let documents = row.documents_per_second.map_or(String::new(), |rate| format!("{rate:.0}"));
            format!(
                "{:<22} {:>10.3} {:>10.3} {:>7} {:>7} {:>7}  {:<10} {:>13} {:>10}",
                row.name,
                row.milliseconds,
                row.best,
                share(0),
                share(1),
                share(2),
                row.binds.as_deref().unwrap_or(""),
                bound,
                documents
            )
        }));
        lines.push(
            "bytes: times those of one pass over the layer, through a cache of 4 MiB / without a cache"
                .to_owned(),
        );
        lines.push(format!(
            "control: the copy measured again took {:.2} of its time (1.00 on a calm machine)",
            self.limits.control_ratio
        ));
        lines
    }

    /// This report's times beside another's of the same sizes.
    #[must_use]
    pub fn beside(&self, other: &Self) -> Vec<String> {
        let mut lines = vec![format!("{:<22} {:>10} {:>10} {:>8}", "median ms", "here", "there", "speed-up")];
        for row in &self.rows {
            let Some(theirs) = other.rows.iter().find(|theirs| theirs.name == row.name) else { continue };
            lines.push(format!(
                "{:<22} {:>10.3} {:>10.3} {:>7.2}x",
                row.name,
                row.milliseconds,
                theirs.milliseconds,
                theirs.milliseconds / row.milliseconds
            ));
        }
        lines.push(format!("there: {}", other.device));
        lines
    }
}
