//! Horizontal bars in groups: a bar a run, its number at its end.

use std::fmt::Write;

use super::line_chart::WIDTH;
use super::looks::style;
use super::markup::{Cell, Table, escape, figure};

/// Heights of a group's name, of a bar with its gap, and of the gap after a group.
const NAME: f64 = 17.0;
const BAR: f64 = 15.0;
const GAP: f64 = 8.0;
/// Room for the number right of the longest bar, and for the runs' names left of the bars.
const NUMBER: f64 = 72.0;
const CHARACTER: f64 = 6.4;

/// A group of bars.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// What is measured.
    pub(super) name: String,
    /// The value of each series; none where it has none.
    pub(super) values: Vec<Option<f64>>,
}

/// A chart of bars.
#[derive(Clone)]
pub(super) struct BarChart<'a> {
    /// Its name in the page's addresses.
    pub(super) id: &'a str,
    /// Its heading.
    pub(super) title: &'a str,
    /// A remark below it, or nothing.
    pub(super) note: String,
    /// Place on the page and name of each run.
    pub(super) series: Vec<(usize, &'a str)>,
    /// The groups, from above.
    pub(super) groups: Vec<Group>,
    /// Turns a value into text.
    pub(super) text: fn(f64) -> String,
}

impl BarChart<'_> {
    /// The chart as a figure; nothing if there is no value.
    pub(super) fn html(&self) -> String {
        let values = || self.groups.iter().flat_map(|group| group.values.iter().flatten());
        if !values().any(|value| value.is_finite()) {
            return String::new();
        }
        let largest = values().filter(|value| value.is_finite()).fold(0.0, |a: f64, b| a.max(*b));
        figure(self.id, self.title, &self.note, &self.svg(largest), &self.table())
    }

    fn svg(&self, largest: f64) -> String {
        let group_height = NAME + self.series.len() as f64 * BAR + GAP;
        let height = self.groups.len() as f64 * group_height;
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"{0}-title {0}-desc\">\
             <title id=\"{0}-title\">{1}</title><desc id=\"{0}-desc\">{2}</desc>",
            self.id,
            escape(self.title),
            escape(&self.description())
        );
        for (i, group) in self.groups.iter().enumerate() {
            self.draw_group(group, i as f64 * group_height, largest, &mut out);
        }
        out + "</svg>"
    }

    fn draw_group(&self, group: &Group, top: f64, largest: f64, out: &mut String) {
        let several = self.series.len() > 1;
        let longest = self.series.iter().map(|(_, name)| name.chars().count()).max().unwrap_or(0);
        let left = if several { 10.0 + longest as f64 * CHARACTER } else { 2.0 };
        let _ = write!(
            out,
            "<text class=\"group\" x=\"2\" y=\"{:.1}\">{}</text>",
            top + 12.0,
            escape(&group.name)
        );
        for (i, ((place, name), value)) in self.series.iter().zip(&group.values).enumerate() {
            let y = top + NAME + i as f64 * BAR;
            let (width, text) = match value.filter(|value| value.is_finite()) {
                Some(value) if largest > 0.0 => {
                    ((WIDTH - NUMBER - left) * value.max(0.0) / largest, (self.text)(value))
                }
                Some(value) => (0.0, (self.text)(value)),
                None => (0.0, "–".to_owned()),
            };
            if several {
                let _ = write!(
                    out,
                    "<text class=\"label {}\" x=\"2\" y=\"{:.1}\">{}</text>",
                    style(*place),
                    y + 10.0,
                    escape(name)
                );
            }
            let _ = write!(
                out,
                "<rect class=\"bar {}\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{width:.2}\" height=\"{:.1}\"/>\
                 <text class=\"value\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                style(*place),
                BAR - 3.0,
                left + width + 5.0,
                y + 10.0,
                escape(&text)
            );
        }
    }

    /// What somebody who does not see the chart should know.
    fn description(&self) -> String {
        let group = |group: &Group| {
            let value = |((_, name), value): (&(usize, &str), &Option<f64>)| {
                let value = value.map_or("none".to_owned(), self.text);
                if self.series.len() > 1 { format!("{name} {value}") } else { value }
            };
            let values: Vec<String> = self.series.iter().zip(&group.values).map(value).collect();
            format!("{}: {}.", group.name, values.join(", "))
        };
        self.groups.iter().map(group).collect::<Vec<_>>().join(" ")
    }

    fn table(&self) -> Table {
        let head = std::iter::once("").chain(self.series.iter().map(|(_, name)| *name)).map(Cell::text);
        let row = |group: &Group| {
            let value = |value: &Option<f64>| Cell::text(value.map_or(String::new(), self.text));
            std::iter::once(Cell::text(&group.name)).chain(group.values.iter().map(value)).collect()
        };
        Table { caption: String::new(), head: head.collect(), rows: self.groups.iter().map(row).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_numbers() {
        let group =
            |name: &str, values: [Option<f64>; 2]| Group { name: name.into(), values: values.to_vec() };
        let chart = BarChart {
            id: "memory",
            title: "Memory",
            note: String::new(),
            series: vec![(0, "A"), (1, "B")],
            groups: vec![group("head", [Some(10.0), Some(5.0)]), group("tail", [None, Some(0.0)])],
            text: |value| format!("{value} <"),
        };
        let html = chart.html();
        // One character and ten units left of the bars, 72 right of the longest: 311.6 for it.
        assert!(html.contains("width=\"311.60\"") && html.contains("width=\"155.80\""), "{html}");
        assert!(html.contains("10 &lt;</text>") && html.contains("–</text>"), "{html}");
        assert!(html.contains("<th scope=\"row\">tail</th><td></td><td>0 &lt;</td>"), "{html}");
        assert_eq!(BarChart { groups: vec![group("x", [None, None])], ..chart.clone() }.html(), "");
        assert!(
            BarChart { groups: vec![group("x", [Some(0.0), None])], ..chart }
                .html()
                .contains("width=\"0.00\"")
        );
    }
}
