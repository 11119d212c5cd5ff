//! The page: its head, its sections in order, its foot.

use std::fmt::Write;

use super::markup::{escape, legend, section};
use super::run::Run;
use super::{
    DOCTYPE, classifier_section, device_section, rewiring_section, summary_section, training_section,
};
use crate::error::Result;

/// A part of the page.
struct Section {
    id: &'static str,
    title: &'static str,
    html: String,
}

/// The whole page about these runs.
///
/// # Errors
/// As reading the weights.
pub(super) fn page(runs: &[Run]) -> Result<String> {
    let mut sections = Vec::new();
    let mut add = |id, title, html: String| {
        if !html.is_empty() {
            sections.push(Section { id, title, html });
        }
    };
    add("results", "Results", summary_section::results(runs));
    add("settings", "Settings", summary_section::settings(runs));
    add("training", "Training", training_section::training(runs));
    add("ranking", "Ranking quality", training_section::ranking(runs));
    add("frequency", "Quality by label frequency", training_section::by_frequency(runs));
    add("rewiring", "Rewiring", rewiring_section::rewiring(runs));
    add("classifier", "Classifier", classifier_section::classifier(runs)?);
    add("labels", "Label frequencies", classifier_section::labels(runs));
    add("memory", "Memory", device_section::memory(runs));
    add("time", "Time", device_section::time(runs));

    let title = title(runs);
    let mut out = format!(
        "{DOCTYPE}\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{0}</title>\n<style>\n{1}</style>\n</head>\n\
         <body>\n<header>\n<h1>{0}</h1>\n",
        escape(&title),
        include_str!("page.css")
    );
    out.push_str(&summary_section::head(runs));
    out.push_str("<nav aria-label=\"Sections\">");
    for Section { id, title, .. } in &sections {
        let _ = write!(out, "<a href=\"#{id}\">{title}</a> ");
    }
    out.push_str("</nav>\n</header>\n<main>\n");
    for Section { id, title, html } in &sections {
        out.push_str(&section(id, title, html));
    }
    let _ = write!(
        out,
        "</main>\n<footer>Written by regrow {}. Metrics are in percent; every chart has its numbers below it.</footer>\n\
         </body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    );
    Ok(out)
}

fn title(runs: &[Run]) -> String {
    match runs {
        [run] => run.name.clone(),
        [first, second] => format!("{} and {}", first.name, second.name),
        [first, ..] => format!("{} and {} other runs", first.name, runs.len() - 1),
        [] => String::new(),
    }
}

/// Charts side by side under the legend; nothing if there is none.
pub(super) fn charts(runs: &[Run], figures: impl IntoIterator<Item = String>) -> String {
    let figures: String = figures.into_iter().collect();
    if figures.is_empty() {
        figures
    } else {
        format!("{}<div class=\"charts\">\n{figures}</div>\n", legend(runs))
    }
}
