//! The table of `regrow evaluate --per-label`.

use std::path::Path;

use crate::data::LabelMap;
use crate::error::{Error, Result};
use crate::evaluate::{LabelCount, LabelCounts, REPORTED};
use crate::files::write_atomically;

const HEADER: &str =
    "label\ttrain_frequency\tpositives\tpredicted@5\thits@1\thits@3\thits@5\tprecision@5\trecall@5";

/// Writes a line for each label of `labels`, in their order; those beyond `train_frequency` were never trained.
pub(super) fn write(
    path: &Path,
    labels: &LabelMap,
    train_frequency: &[u32],
    counts: &LabelCounts,
) -> Result<()> {
    write_atomically(path, |out| {
        let mut line = |line: &str| writeln!(out, "{line}").map_err(Error::io("writing", path));
        line(HEADER)?;
        labels.names().enumerate().try_for_each(|(label, name)| {
            let count = counts.of(label);
            line(&row(name, train_frequency.get(label).copied().unwrap_or(0), &count))
        })
    })
}

fn row(name: &str, train_frequency: u32, count: &LabelCount) -> String {
    // As in labels.txt, and the tab that would end the name's column.
    let name = name.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r");
    let last = REPORTED.len() - 1;
    let [precision, recall, _] = count.scores(last);
    let [one, three, five] = count.hits;
    format!(
        "{name}\t{train_frequency}\t{}\t{}\t{one}\t{three}\t{five}\t{precision:.4}\t{recall:.4}",
        count.positives, count.predicted[last]
    )
}
