//! `regrow report`.

use std::path::PathBuf;

use clap::Args;

use super::print;
use crate::error::Result;
use crate::report;

/// Write one HTML page about one or several runs: metrics, losses, rewiring, weights, memory and time as charts.
///
/// The page is one file without scripts and loads nothing, so that it can be mailed or attached to a paper. Several runs
/// are drawn over each other, and what differs between their configs is listed. Under every chart are its numbers.
#[derive(Args)]
pub(super) struct ReportArgs {
    /// Run folders, also of runs that were stopped or still train
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// The page to write; a page that is there is replaced
    #[arg(long, default_value = "report.html")]
    out: PathBuf,
}

impl ReportArgs {
    pub(super) fn run(&self) -> Result<()> {
        report::write(&self.runs, &self.out)?;
        print(&format!("report: {}", self.out.display()))
    }
}
