//! How runs are told apart: by colour, dash and marker, so that colours alone never matter.

use std::fmt::Write;

/// Colours and dashes that `page.css` has, and shapes of markers.
const COLOURS: usize = 6;
const DASHES: usize = 5;
const SHAPES: usize = 6;

/// Classes of the run at this place: colour and dash.
pub(super) fn style(place: usize) -> String {
    format!("c{} d{}", place % COLOURS, place % DASHES)
}

/// A short line with the run's marker, for legends and tables.
pub(super) fn swatch(place: usize) -> String {
    format!(
        "<svg class=\"swatch {}\" viewBox=\"0 0 30 12\" width=\"30\" height=\"12\" aria-hidden=\"true\">\
         <path class=\"line\" d=\"M1 6H29\"/><path class=\"marker\" d=\"{}\"/></svg>",
        style(place),
        marker(place, (15.0, 6.0), 4.0)
    )
}

/// The outline of a run's marker around a point. Six shapes; after six runs colours meet other shapes.
pub(super) fn marker(place: usize, (x, y): (f64, f64), r: f64) -> String {
    let polygon = |corners: &[(f64, f64)]| {
        let mut path = String::new();
        for (i, (dx, dy)) in corners.iter().enumerate() {
            let _ = write!(path, "{}{:.1} {:.1}", if i == 0 { 'M' } else { 'L' }, x + dx * r, y + dy * r);
        }
        path + "Z"
    };
    match (place + place / COLOURS) % SHAPES {
        0 => format!("M{:.1} {y:.1}a{r} {r} 0 1 0 {1} 0a{r} {r} 0 1 0 -{1} 0Z", x - r, 2.0 * r),
        1 => polygon(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
        2 => polygon(&[(0.0, -1.2), (1.15, 0.8), (-1.15, 0.8)]),
        3 => polygon(&[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)]),
        4 => polygon(&[(0.0, 1.2), (1.15, -0.8), (-1.15, -0.8)]),
        _ => polygon(&[
            (-0.4, -1.2),
            (0.4, -1.2),
            (0.4, -0.4),
            (1.2, -0.4),
            (1.2, 0.4),
            (0.4, 0.4),
            (0.4, 1.2),
            (-0.4, 1.2),
            (-0.4, 0.4),
            (-1.2, 0.4),
            (-1.2, -0.4),
            (-0.4, -0.4),
        ]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two runs never look the same before the 30th.
    #[test]
    fn styles_differ() {
        let looks: std::collections::BTreeSet<String> =
            (0..30).map(|place| style(place) + &marker(place, (0.0, 0.0), 1.0)).collect();
        assert_eq!(looks.len(), 30);
    }
}
