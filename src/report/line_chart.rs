//! Line charts, curves and histograms: several runs over one pair of axes.

use std::fmt::Write;

use super::axis::{Axis, Spacing};
use super::looks::{marker, style};
use super::markup::{Cell, Table, escape, figure};
use super::numbers::significant;

/// Size of a chart in its own units, which are pixels where it has room.
pub(super) const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 250.0;
/// Where the axes lie.
const LEFT: f64 = 50.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = HEIGHT - 36.0;
/// Room right of the axes: without and with names at the lines' ends.
const RIGHT: f64 = 14.0;
/// Mean width of a character of a label, the height of its line, and how far apart two labels never meet.
const CHARACTER: f64 = 6.4;
const LINE: f64 = 13.0;
const COLUMN: f64 = 22.0;
/// Lines with more points than this have markers on some of them only.
const MARKERS: usize = 16;
/// More lines than this are told apart by the legend alone.
const DIRECT_LABELS: usize = 10;

/// How points are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drawing {
    /// Measurements: a marker each, joined by lines.
    Points,
    /// A computed curve; markers only to tell several apart.
    Curve,
    /// A histogram: each point is the left edge of a bar, the last one the right edge of all.
    Steps,
}

/// An axis as the chart wants it.
#[derive(Clone, Copy, Debug)]
pub(super) struct AxisOf<'a> {
    /// What is measured, with its unit.
    pub(super) name: &'a str,
    /// How its numbers lie.
    pub(super) spacing: Spacing,
}

/// The points of a run.
#[derive(Clone, Debug)]
pub(super) struct Series<'a> {
    /// The run's place on the page, which decides its colour, dash and marker.
    pub(super) place: usize,
    /// What the line is called where it ends, and in the table.
    pub(super) name: &'a str,
    /// (x, y), by rising x. What is not finite leaves a gap.
    pub(super) points: Vec<(f64, f64)>,
}

/// A chart of several runs.
#[derive(Clone, Debug)]
pub(super) struct LineChart<'a> {
    /// Its name in the page's addresses.
    pub(super) id: &'a str,
    /// Its heading.
    pub(super) title: &'a str,
    /// A remark below it, or nothing.
    pub(super) note: String,
    /// Axis to the right.
    pub(super) x: AxisOf<'a>,
    /// Axis upwards.
    pub(super) y: AxisOf<'a>,
    /// How points are drawn.
    pub(super) drawing: Drawing,
    /// The runs; those without a point are left out.
    pub(super) series: Vec<Series<'a>>,
}

/// Both axes and where they lie.
struct Frame {
    x: Axis,
    y: Axis,
    right: f64,
}

impl Frame {
    fn at(&self, (x, y): (f64, f64)) -> Option<(f64, f64)> {
        let (x, y) = (self.x.place(x)?, self.y.place(y)?);
        Some((LEFT + x * (self.right - LEFT), BOTTOM - y * (BOTTOM - TOP)))
    }
}

impl LineChart<'_> {
    /// The chart as a figure; nothing if no run has a point.
    pub(super) fn html(mut self) -> String {
        self.series.retain(|series| series.points.iter().any(|(_, y)| y.is_finite()));
        let Some(frame) = self.frame() else { return String::new() };
        figure(self.id, self.title, &self.note, &self.svg(&frame), &self.table())
    }

    fn frame(&self) -> Option<Frame> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let drawn = || points().filter(|(_, y)| y.is_finite());
        // A histogram ends with the right edge of its last bar.
        let xs: Vec<f64> = drawn().map(|point| point.0).collect();
        let x = Axis::new(xs.into_iter(), self.x.spacing, 6, false)?;
        let y = Axis::new(points().map(|point| point.1), self.y.spacing, 5, self.y.spacing != Spacing::Log)?;
        let longest = self.series.iter().map(|series| series.name.chars().count()).max().unwrap_or(0);
        let labels = if self.labelled() { 12.0 + longest as f64 * CHARACTER } else { RIGHT };
        Some(Frame { x, y, right: WIDTH - labels })
    }

    /// Whether lines have their names at their ends.
    fn labelled(&self) -> bool {
        self.drawing != Drawing::Steps && (2..=DIRECT_LABELS).contains(&self.series.len())
    }

    fn svg(&self, frame: &Frame) -> String {
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{0}-title {0}-desc\">\
             <title id=\"{0}-title\">{1}</title><desc id=\"{0}-desc\">{2}</desc>",
            self.id,
            escape(self.title),
            escape(&self.description())
        );
        self.draw_axes(frame, &mut out);
        for series in &self.series {
            self.draw_series(frame, series, &mut out);
        }
        if self.labelled() {
            self.draw_labels(frame, &mut out);
        }
        out + "</svg>"
    }

    /// What somebody who does not see the chart should know.
    fn description(&self) -> String {
        let mut text = format!("{} over {}.", self.y.name, self.x.name);
        for series in self.series.iter().filter(|_| self.drawing != Drawing::Steps) {
            let mut drawn = series.points.iter().filter(|(_, y)| y.is_finite());
            if let (Some((x, y)), last) = (drawn.next(), drawn.next_back()) {
                let [x, y] = [x, y].map(|v| significant(*v, 4));
                let _ = write!(text, " {}: {y} at {x}", series.name);
                if let Some((x, y)) = last {
                    let [x, y] = [x, y].map(|v| significant(*v, 4));
                    let _ = write!(text, " to {y} at {x}");
                }
                text.push('.');
            }
        }
        text
    }

    fn draw_axes(&self, frame: &Frame, out: &mut String) {
        let right = frame.right;
        for (value, text) in &frame.y.ticks {
            let y = BOTTOM - frame.y.place(*value).unwrap_or(0.0) * (BOTTOM - TOP);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right:.1}\" y1=\"{y:.2}\" y2=\"{y:.2}\"/>\
                 <text class=\"y-tick\" x=\"{:.1}\" y=\"{y:.2}\" dy=\".35em\">{text}</text>",
                LEFT - 6.0
            );
        }
        for (value, text) in &frame.x.ticks {
            let x = LEFT + frame.x.place(*value).unwrap_or(0.0) * (right - LEFT);
            let _ = write!(
                out,
                "<line class=\"axis\" x1=\"{x:.2}\" x2=\"{x:.2}\" y1=\"{BOTTOM}\" y2=\"{:.1}\"/>\
                 <text class=\"x-tick\" x=\"{x:.2}\" y=\"{:.1}\">{text}</text>",
                BOTTOM + 4.0,
                BOTTOM + 16.0
            );
        }
        let _ = write!(
            out,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{right:.1}\" y1=\"{BOTTOM}\" y2=\"{BOTTOM}\"/>\
             <text class=\"name\" x=\"4\" y=\"11\">{}</text>\
             <text class=\"name end\" x=\"{right:.1}\" y=\"{:.1}\">{}</text>",
            escape(self.y.name),
            HEIGHT - 5.0,
            escape(self.x.name)
        );
    }

    fn draw_series(&self, frame: &Frame, series: &Series<'_>, out: &mut String) {
        let line = match self.drawing {
            Drawing::Steps => steps(frame, &series.points),
            _ => line(frame, &series.points),
        };
        let style = style(series.place);
        let _ = write!(out, "<g class=\"{style}\">");
        if self.drawing == Drawing::Steps && self.series.len() == 1 {
            let _ = write!(out, "<path class=\"area\" d=\"{line}\"/>");
        }
        let _ = write!(out, "<path class=\"line\" d=\"{line}\"/>");
        self.draw_markers(frame, series, out);
        out.push_str("</g>");
    }

    fn draw_markers(&self, frame: &Frame, series: &Series<'_>, out: &mut String) {
        let wanted = match self.drawing {
            Drawing::Points => MARKERS,
            Drawing::Curve if self.series.len() > 1 => 4,
            _ => return,
        };
        let every = series.points.len().div_ceil(wanted).max(1);
        // Of several runs each begins elsewhere, so that lines on top of each other still show their markers.
        let first = if every > 1 { series.place * every / self.series.len().max(1) % every } else { 0 };
        for (x, y) in series.points.iter().skip(first).step_by(every) {
            if let Some(at) = frame.at((*x, *y)) {
                let [x, y] = [x, y].map(|v| significant(*v, 5));
                let _ = write!(
                    out,
                    "<path class=\"marker\" d=\"{}\"><title>{}: {y} at {x}</title></path>",
                    marker(series.place, at, 3.6),
                    escape(series.name)
                );
            }
        }
    }

    /// Names at the ends of the lines, moved apart where they would cover each other.
    fn draw_labels(&self, frame: &Frame, out: &mut String) {
        let mut ends: Vec<(&Series<'_>, f64, f64)> = Vec::new();
        for series in &self.series {
            if let Some((x, y)) = series.points.iter().rev().find_map(|point| frame.at(*point)) {
                ends.push((series, x, y));
            }
        }
        ends.sort_by(|a, b| b.1.total_cmp(&a.1));
        // Lines that end near each other share a column of names.
        for column in ends.chunk_by_mut(|a, b| a.1 - b.1 < COLUMN) {
            column.sort_by(|a, b| a.2.total_cmp(&b.2));
            let heights = spread(&column.iter().map(|end| end.2).collect::<Vec<_>>(), LINE, TOP, BOTTOM);
            for ((series, x, _), y) in column.iter().zip(heights) {
                let _ = write!(
                    out,
                    "<text class=\"label {}\" x=\"{:.1}\" y=\"{y:.1}\" dy=\".35em\">{}</text>",
                    style(series.place),
                    x + 7.0,
                    escape(series.name)
                );
            }
        }
    }

    /// The plotted numbers: a row for each x that some run has.
    fn table(&self) -> Table {
        let mut xs: Vec<f64> =
            self.series.iter().flat_map(|s| s.points.iter().map(|point| point.0)).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        let several = self.series.len() > 1;
        let head = std::iter::once(self.x.name)
            .chain(self.series.iter().map(|s| if several { s.name } else { self.y.name }))
            .map(Cell::text);
        let row = |x: &f64| {
            let value = |series: &Series<'_>| {
                let at = series.points.binary_search_by(|point| point.0.total_cmp(x)).ok();
                let y = at.map(|at| series.points[at].1).filter(|y| y.is_finite());
                Cell::text(y.map_or(String::new(), |y| significant(y, 6)))
            };
            std::iter::once(Cell::text(significant(*x, 6))).chain(self.series.iter().map(value)).collect()
        };
        let caption = if several { self.y.name.to_owned() } else { String::new() };
        Table { caption, head: head.collect(), rows: xs.iter().map(row).collect() }
    }
}

/// A line through the points; one that has no place breaks it.
fn line(frame: &Frame, points: &[(f64, f64)]) -> String {
    let (mut path, mut pen_down) = (String::new(), false);
    for point in points {
        match frame.at(*point) {
            Some((x, y)) => {
                let _ = write!(path, "{}{x:.2} {y:.2}", if pen_down { 'L' } else { 'M' });
                pen_down = true;
            }
            None => pen_down = false,
        }
    }
    path
}

/// The outline of a histogram's bars.
fn steps(frame: &Frame, points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (x, y) in points.iter().filter_map(|point| frame.at(*point)) {
        let _ = if path.is_empty() {
            write!(path, "M{x:.2} {BOTTOM}V{y:.2}")
        } else {
            write!(path, "H{x:.2}V{y:.2}")
        };
    }
    path
}

/// Moves heights (rising) apart so that two neighbours are at least `gap` from each other, and all, if there is room,
/// between `top` and `bottom`.
fn spread(heights: &[f64], gap: f64, top: f64, bottom: f64) -> Vec<f64> {
    let mut placed: Vec<f64> = Vec::with_capacity(heights.len());
    for height in heights {
        let least = placed.last().map_or(top, |above| above + gap);
        placed.push(height.max(least));
    }
    let mut limit = bottom;
    for height in placed.iter_mut().rev() {
        *height = height.min(limit);
        limit = *height - gap;
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart<'a>(points: &[&[(f64, f64)]]) -> LineChart<'a> {
        const NAMES: [&str; 3] = ["A", "B", "<C>"];
        let axis = |name| AxisOf { name, spacing: Spacing::Linear };
        let series = |(place, points): (usize, &&[(f64, f64)])| Series {
            place,
            name: NAMES[place],
            points: points.to_vec(),
        };
        LineChart {
            id: "loss",
            title: "Loss & more",
            note: String::new(),
            x: axis("epoch"),
            y: axis("loss"),
            drawing: Drawing::Points,
            series: points.iter().enumerate().map(series).collect(),
        }
    }

    /// Axes end at 0 and 10 (up, by rounding) and at 1 and 3 (to the right): the places are counted by hand.
    #[test]
    fn points_lie_where_the_axes_say() {
        let html = chart(&[&[(1.0, 10.0), (2.0, 5.0), (3.0, 0.0)]]).html();
        let middle = (LEFT + WIDTH - RIGHT) / 2.0;
        let path = format!("d=\"M50.00 22.00L{middle:.2} 118.00L386.00 214.00\"");
        assert!(html.contains(&path), "{html}");
        assert!(html.contains("<title>A: 5 at 2</title>"), "{html}");
        assert!(html.contains("Loss &amp; more") && !html.contains("class=\"label"), "{html}");
    }

    #[test]
    fn what_is_not_finite_leaves_a_gap() {
        let html = chart(&[&[(1.0, 10.0), (2.0, f64::NAN), (3.0, 0.0)]]).html();
        assert!(html.contains("d=\"M50.00 22.00M386.00 214.00\""), "{html}");
        assert!(!html.contains("NaN"), "{html}");
        assert_eq!(chart(&[&[(1.0, f64::NAN)]]).html(), "");
        assert_eq!(chart(&[]).html(), "");
    }

    #[test]
    fn several_runs_have_labels_and_one_table() {
        let html = chart(&[&[(1.0, 1.0), (2.0, 2.0)], &[(2.0, 2.0)], &[(1.0, 3.0)]]).html();
        assert!(html.contains("<th scope=\"col\">&lt;C&gt;</th>"), "{html}");
        assert!(html.contains("<th scope=\"row\">1</th><td>1</td><td></td><td>3</td>"), "{html}");
        assert!(html.contains("<th scope=\"row\">2</th><td>2</td><td>2</td><td></td>"), "{html}");
        for place in 0..3 {
            assert!(html.contains(&format!("class=\"label c{place} d{place}\"")), "{html}");
        }
    }

    #[test]
    fn labels_are_moved_apart() {
        assert_eq!(spread(&[50.0, 51.0, 120.0], 10.0, 0.0, 200.0), [50.0, 60.0, 120.0]);
        assert_eq!(spread(&[195.0, 199.0, 200.0], 10.0, 0.0, 200.0), [180.0, 190.0, 200.0]);
        assert_eq!(spread(&[], 10.0, 0.0, 200.0), [0.0; 0]);
    }
}
