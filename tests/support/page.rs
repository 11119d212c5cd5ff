//! Reading a page of `regrow report` back: whether its tags are balanced, and what its tables and charts say.

use std::collections::BTreeSet;

/// Elements that have no end.
const VOID: [&str; 1] = ["meta"];

/// Every tag that is opened is closed in order, no `<` or `&` stands for itself, ids are unique, addresses within the
/// page exist, and nothing is loaded from elsewhere.
#[track_caller]
pub fn assert_sound(page: &str) {
    assert!(page.starts_with("<!doctype html>\n<html lang=\"en\">"), "{}", &page[..page.len().min(60)]);
    let style = page.find("<style>").unwrap()..page.find("</style>").unwrap();
    let (css, markup) =
        (&page[style.clone()], page[..style.start].to_owned() + "<style>" + &page[style.end..]);
    assert_balanced(markup.strip_prefix("<!doctype html>").unwrap());
    let lower = page.to_lowercase();
    for word in
        ["http", "<script", "<link", "<img", "<iframe", " src=", "url(", "@import", "onload", "nan", "inf<"]
    {
        // "nan" may begin a word of prose; as a number it stands alone.
        let alone = |(at, _): (usize, &str)| {
            let after = lower[at + word.len()..].chars().next();
            word != "nan" || after.is_none_or(|c| !c.is_alphabetic())
        };
        assert!(!lower.match_indices(word).any(alone), "the page holds {word}");
    }
    assert!(css.contains("prefers-color-scheme: dark"));
    let ids: Vec<&str> = attributes(&markup, " id=\"");
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len(), "an id is there twice: {ids:?}");
    for target in attributes(&markup, " href=\"") {
        assert!(target.starts_with('#') && unique.contains(&target[1..]), "{target} leads nowhere");
    }
    for names in attributes(&markup, " aria-labelledby=\"") {
        assert!(names.split(' ').all(|name| unique.contains(name)), "{names} is not there");
    }
}

fn attributes<'a>(markup: &'a str, beginning: &str) -> Vec<&'a str> {
    markup.split(beginning).skip(1).map(|rest| &rest[..rest.find('"').expect("a closing quote")]).collect()
}

#[track_caller]
fn assert_balanced(markup: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = markup;
    while let Some(at) = rest.find(['<', '&']) {
        let tail = &rest[at..];
        if tail.starts_with('&') {
            let end = tail.find(';').unwrap_or_else(|| panic!("& alone: {}", &tail[..tail.len().min(40)]));
            let entity = ["&amp", "&lt", "&gt", "&quot", "&#39"].contains(&&tail[..end]);
            assert!(entity, "no entity: {}", &tail[..end]);
            rest = &tail[end..];
            continue;
        }
        let end = tail.find('>').expect("a tag that ends");
        let tag = &tail[1..end];
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes of <{tag}>");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()) && !name.is_empty(), "no tag: <{tag}>");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "</{name}> closes something else");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
        rest = &tail[end + 1..];
    }
    assert!(open.is_empty(), "never closed: {open:?}");
}

/// The figure of this id.
#[track_caller]
pub fn figure<'a>(page: &'a str, id: &str) -> &'a str {
    let begin = page.find(&format!("<figure id=\"{id}\">")).unwrap_or_else(|| panic!("no figure {id}"));
    &page[begin..begin + page[begin..].find("</figure>").expect("its end")]
}

/// Place and value of each tick of the axis `x` or `y`.
pub fn ticks(figure: &str, axis: &str) -> Vec<(f64, f64)> {
    let class = format!("<text class=\"{axis}-tick\"");
    let tick = |text: &str| {
        let tag = &text[..text.find('>').unwrap()];
        let place = attributes(tag, &format!(" {axis}=\""))[0].parse().unwrap();
        let value = text[tag.len() + 1..text.find("</text>").unwrap()].replace(',', "");
        let thousands = value.strip_suffix(" k");
        let number: f64 =
            thousands.unwrap_or(&value).parse().unwrap_or_else(|_| panic!("{value} is no number"));
        (place, if thousands.is_some() { 1000.0 * number } else { number })
    };
    figure.split(&class).skip(1).map(tick).collect()
}

/// The points of the line of the run at this place.
pub fn path_points(figure: &str, place: usize) -> Vec<(f64, f64)> {
    let group = format!("<g class=\"c{place} d{place}\"><path class=\"line\" d=\"");
    let begin = figure.find(&group).unwrap_or_else(|| panic!("no line of run {place}")) + group.len();
    let path = &figure[begin..begin + figure[begin..].find('"').unwrap()];
    let point = |text: &str| {
        let (x, y) = text.split_once(' ').unwrap_or_else(|| panic!("{text} in {path}"));
        (x.parse().unwrap(), y.parse().unwrap())
    };
    path.split(['M', 'L']).skip(1).map(point).collect()
}

/// The rows of the section's tables that this name begins, as texts, tables of plotted numbers left out.
pub fn cells(page: &str, section: &str, name: &str) -> Vec<Vec<String>> {
    let begin =
        page.find(&format!("<section id=\"{section}\">")).unwrap_or_else(|| panic!("no section {section}"));
    let section = &page[begin..begin + page[begin..].find("</section>").unwrap()];
    let tables =
        section.split("<table").skip(1).filter(|table| !before(section, table).ends_with("</summary>"));
    let rows = tables.flat_map(|table| {
        table[..table.find("</table>").unwrap()].split("<tr>").skip(2).map(|row| {
            let cells = row.split("</th>").flat_map(|part| part.split("</td>"));
            cells.filter(|cell| cell.contains("<t")).map(text_of).collect::<Vec<String>>()
        })
    });
    let rows: Vec<Vec<String>> = rows.filter(|row| row[0] == name).collect();
    assert!(!rows.is_empty(), "no row {name}");
    rows
}

/// What stands before a table's wrapper.
fn before<'a>(section: &'a str, table: &str) -> &'a str {
    let at = table.as_ptr() as usize - section.as_ptr() as usize;
    let wrapper = section[..at].rfind("<div class=\"scroll\"").unwrap_or(0);
    &section[..wrapper]
}

fn text_of(html: &str) -> String {
    let mut text = String::new();
    for part in html.split('<') {
        text.push_str(part.split_once('>').map_or("", |(_, text)| text));
    }
    text
}
