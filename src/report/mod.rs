//! Floor 3: run folders turned into one page that a browser opens: charts in SVG, no script, nothing from the network.
//!
//! [`fn@write`] is all there is to call. `run` reads a run folder (`log` its metrics, `classifier` its weights), `page`
//! puts the sections in order, and the rest draws: `axis`, `line_chart`, `bar_chart`,
//! `looks`, `markup`, `numbers`.

mod axis;
mod bar_chart;
mod classifier;
mod classifier_section;
mod device_section;
mod line_chart;
mod log;
mod looks;
mod markup;
mod numbers;
mod page;
mod rewiring_section;
mod run;
mod summary_section;
mod training_section;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::write_atomically;
use run::Run;

/// What every page begins with, by which a page may be replaced.
const DOCTYPE: &str = "<!doctype html>";

/// Reads run folders and writes one page about all of them, in the order given. The same folders give the same page.
///
/// What a run does not have (an evaluation, a rewiring, a model) is left out of its page.
///
/// # Errors
/// [`Error::Usage`] when there is no run, two runs have the same name, or `out` is a file that is no page;
/// [`Error::Line`] for a damaged line of a log; [`Error::Artefact`] for a folder that is no run and for damaged files;
/// [`Error::Io`].
pub fn write(runs: &[PathBuf], out: &Path) -> Result<()> {
    if runs.is_empty() {
        return Err(Error::Usage("a report needs at least one run folder".into()));
    }
    check_out(out)?;
    let mut runs = runs.iter().map(|folder| Run::read(folder)).collect::<Result<Vec<_>>>()?;
    check_names(&runs)?;
    run::name_in_charts(&mut runs);
    let page = page::page(&runs)?;
    write_atomically(out, |file| file.write_all(page.as_bytes()).map_err(Error::io("writing", out)))
}

/// Whether the page can be written, before models of gigabytes are read for it.
fn check_out(out: &Path) -> Result<()> {
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
        return Err(Error::Usage(format!(
            "{}: there is no folder {}; make it, or name another file with --out",
            out.display(),
            parent.display()
        )));
    }
    if out.is_dir() {
        return Err(Error::Usage(format!("{} is a folder; name a file with --out", out.display())));
    }
    if !out.exists() {
        return Ok(());
    }
    let mut start = Vec::new();
    let file = File::open(out).map_err(Error::io("reading", out))?;
    file.take(DOCTYPE.len() as u64).read_to_end(&mut start).map_err(Error::io("reading", out))?;
    if start.is_empty() || start.eq_ignore_ascii_case(DOCTYPE.as_bytes()) {
        return Ok(());
    }
    Err(Error::Usage(format!("{} exists and is no HTML page; name another file with --out", out.display())))
}

/// Two runs of one name could not be told apart.
fn check_names(runs: &[Run]) -> Result<()> {
    let mut seen = BTreeMap::new();
    for run in runs {
        let Some(before) = seen.insert(&run.name, &run.folder) else { continue };
        let (before, folder) = (before.display(), run.folder.display());
        return Err(Error::Usage(format!(
            "{before} and {folder} are both called {}; name each run once, and rename one of two folders",
            run.name
        )));
    }
    Ok(())
}
