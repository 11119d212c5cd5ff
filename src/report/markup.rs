//! HTML pieces that several sections use: escaped text, tables, legends, figures.

use std::fmt::Write;

use super::looks::swatch;
use super::run::Run;

/// Text that stands for itself in HTML, also within an attribute.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Control characters may not stand in a page at all.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A cell of a [`Table`].
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    /// HTML.
    html: String,
    best: bool,
}

impl Cell {
    /// Plain text.
    pub(super) fn text(text: impl AsRef<str>) -> Self {
        Self { html: escape(text.as_ref()), best: false }
    }

    /// Text with a mark: the best of its column.
    pub(super) fn best(text: impl AsRef<str>) -> Self {
        Self { best: true, ..Self::text(text) }
    }

    /// A run, as the charts draw it.
    pub(super) fn run(run: &Run, place: usize, several: bool) -> Self {
        let html = if several { run_label(run, place) } else { escape(&run.name) };
        Self { html, best: false }
    }
}

/// A table whose first column names the rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// What it shows.
    pub(super) caption: String,
    /// Names of the columns.
    pub(super) head: Vec<Cell>,
    /// Cells of the rows, as many in each as there are columns.
    pub(super) rows: Vec<Vec<Cell>>,
}

impl Table {
    /// The table as HTML; it scrolls sideways where it is too wide.
    pub(super) fn html(&self) -> String {
        let label = if self.caption.is_empty() { "Table" } else { &self.caption };
        // Whoever has no pointer scrolls by keys, which needs the focus.
        let mut out = format!(
            "<div class=\"scroll\" role=\"region\" aria-label=\"{}\" tabindex=\"0\"><table>",
            escape(label)
        );
        if !self.caption.is_empty() {
            let _ = write!(out, "<caption>{}</caption>", escape(&self.caption));
        }
        out.push_str("<thead><tr>");
        self.head.iter().for_each(|cell| {
            let _ = write!(out, "<th scope=\"col\">{}</th>", cell.html);
        });
        out.push_str("</tr></thead><tbody>");
        for row in &self.rows {
            out.push_str("<tr>");
            for (column, cell) in row.iter().enumerate() {
                let _ = match (column, cell.best) {
                    (0, _) => write!(out, "<th scope=\"row\">{}</th>", cell.html),
                    (_, true) => write!(
                        out,
                        "<td class=\"best\"><b>{}</b><span aria-label=\"best\"> ★</span></td>",
                        cell.html
                    ),
                    _ => write!(out, "<td>{}</td>", cell.html),
                };
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table></div>\n");
        out
    }
}

/// A run's line and marker, its letter and its name.
pub(super) fn run_label(run: &Run, place: usize) -> String {
    let letter = if run.tag == run.name { String::new() } else { format!("<b>{}</b> ", escape(&run.tag)) };
    format!("<span class=\"run\">{}{letter}{}</span>", swatch(place), escape(&run.name))
}

/// Which line is which run; nothing for one run alone.
pub(super) fn legend(runs: &[Run]) -> String {
    if runs.len() < 2 {
        return String::new();
    }
    let mut out = String::from("<ul class=\"legend\">");
    for (place, run) in runs.iter().enumerate() {
        let _ = write!(out, "<li>{}</li>", run_label(run, place));
    }
    out + "</ul>\n"
}

/// A chart with its heading, a remark, and its numbers in a table that opens.
pub(super) fn figure(id: &str, title: &str, note: &str, svg: &str, numbers: &Table) -> String {
    let note =
        if note.is_empty() { String::new() } else { format!("<p class=\"note\">{}</p>", escape(note)) };
    format!(
        "<figure id=\"{id}\"><figcaption>{}</figcaption>{svg}{note}\
         <details><summary>Numbers</summary>{}</details></figure>\n",
        escape(title),
        numbers.html()
    )
}

/// A section with a heading; nothing if it has no content.
pub(super) fn section(id: &str, title: &str, content: &str) -> String {
    if content.is_empty() {
        return String::new();
    }
    format!("<section id=\"{id}\"><h2>{}</h2>\n{content}</section>\n", escape(title))
}

/// A paragraph of plain text.
pub(super) fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escape(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stands_for_itself() {
        assert_eq!(escape("a<b> & \"c\" 'd'"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;");
        assert_eq!(escape("naïve ★\u{0}\u{1b}[0m"), "naïve ★\u{fffd}\u{fffd}[0m");
    }

    #[test]
    fn tables_escape_and_mark() {
        let table = Table {
            caption: "A & B".into(),
            head: ["run", "P@1"].map(Cell::text).to_vec(),
            rows: vec![vec![Cell::text("<x>"), Cell::best("5.0")]],
        };
        let html = table.html();
        assert!(html.contains("<caption>A &amp; B</caption>"), "{html}");
        assert!(html.contains("<th scope=\"row\">&lt;x&gt;</th><td class=\"best\"><b>5.0</b>"), "{html}");
    }
}
