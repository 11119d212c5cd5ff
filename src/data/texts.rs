//! Texts to be classified, line by line from any input.

use std::borrow::Cow;
use std::io::BufRead;
use std::path::Path;

use serde::Deserialize;

use super::json::{Keys, STRING, explain};
use super::open::{FileLines, LineReader};
use crate::error::{Error, Result};

const KEYS: Keys = &[("text", STRING, true)];

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

/// An iterator over texts: each line is a JSON object with the key `text` if it starts with `{`, else a text itself.
/// An empty line is an empty text, so that line i of the output belongs to line i of the input.
///
/// A line that is wrong gives an error and the next line follows; after a reading error nothing follows.
pub struct Texts<R> {
    lines: LineReader<R>,
    broken: bool,
}

impl<R: BufRead> Texts<R> {
    /// Reads from `reader`; `name` stands in error messages (`standard input`).
    pub fn new(reader: R, name: impl AsRef<Path>) -> Self {
        Self { lines: LineReader::new(reader, name), broken: false }
    }
}

impl Texts<Box<dyn BufRead + Send>> {
    /// Reads a file, plain, `.gz` or `.zst`.
    ///
    /// # Errors
    /// As [`FileLines::open`].
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { lines: FileLines::open(path)?, broken: false })
    }
}

impl<R: BufRead> Iterator for Texts<R> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        let parsed = match self.lines.next_line() {
            Err(error) => {
                self.broken = !matches!(error, Error::Line { .. });
                return Some(Err(error));
            }
            Ok(None) => return None,
            Ok(Some(line)) if line.starts_with('{') => match serde_json::from_str::<Row<'_>>(line) {
                Ok(row) => Ok(row.text.trim().to_owned()),
                Err(error) => Err(explain(line, KEYS, &error)),
            },
            Ok(Some(line)) => Ok(line.trim().to_owned()),
        };
        Some(parsed.map_err(|message| self.lines.error(message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_json_lines() {
        let input = "plain text \n\n{\"text\": \"a \\\"b\\\"\", \"labels\": [1]}\n{\"txt\": 1}\n{oops\nlast";
        let texts: Vec<_> = Texts::new(input.as_bytes(), "standard input").collect();
        let good: Vec<_> = [0, 1, 2, 5].iter().map(|&i| texts[i].as_ref().unwrap().as_str()).collect();
        assert_eq!(good, ["plain text", "", "a \"b\"", "last"]);
        let message = |i: usize| texts[i].as_ref().unwrap_err().to_string();
        assert!(message(3).starts_with("standard input:4: key \"text\" is missing"), "{}", message(3));
        assert!(message(4).starts_with("standard input:5: is not valid JSON"), "{}", message(4));
    }
}
