//! Label names and label ids, for millions of labels: the names in one string, found through a hash table of ids.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::error::{Error, Result};

/// What decides a label's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelOrder {
    /// Names sorted by their bytes.
    Bytes,
    /// All names are decimal integers without sign or leading zeros, sorted by value.
    Numeric,
    /// The column of the label matrix, or the row of `lbl.json`.
    Column,
    /// The line of a saved label file.
    File,
    /// The order of insertion.
    FirstSeen,
}

/// Names ↔ ids of L labels. Names are unique and not empty; ids are 0 … L − 1. Cheap to clone: copies share the names.
#[derive(Clone)]
pub struct LabelMap {
    names: Arc<Names>,
    order: LabelOrder,
}

#[derive(Clone)]
struct Names {
    text: String,
    /// Name i ends before byte `ends[i]`. \[L\]
    ends: Vec<u64>,
    /// Built when a name is first looked up: training on a token cache never does.
    table: OnceLock<Table>,
}

impl Names {
    /// The name of label `id`.
    fn name(&self, id: u32) -> &str {
        let id = id as usize;
        let start = if id == 0 { 0 } else { self.ends[id - 1] as usize };
        &self.text[start..self.ends[id] as usize]
    }

    fn table(&self) -> &Table {
        self.table.get_or_init(|| Table::of(self, self.ends.len()).0)
    }
}

/// Name → id by open addressing.
#[derive(Clone)]
struct Table {
    /// Id + 1, or 0 for a free slot. The length is a power of two, at most three quarters full.
    slots: Vec<u32>,
}

impl Table {
    /// The table of all names, with room for `labels`, and whether each name stands there once.
    fn of(names: &Names, labels: usize) -> (Self, bool) {
        let mut table = Self { slots: vec![0; (labels * 4 / 3 + 1).next_power_of_two().max(16)] };
        let mut unique = true;
        for id in 0..names.ends.len() as u32 {
            let slot = table.slot(names, names.name(id));
            unique &= table.slots[slot] == 0;
            table.slots[slot] = id + 1;
        }
        (table, unique)
    }

    /// The slot that holds `name`, or the free slot where it belongs.
    fn slot(&self, names: &Names, name: &str) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = xxh3_64(name.as_bytes()) as usize & mask;
        while self.slots[slot] != 0 && names.name(self.slots[slot] - 1) != name {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn is_full(&self, labels: usize) -> bool {
        labels * 4 > self.slots.len() * 3
    }
}

impl LabelMap {
    /// An empty map.
    #[must_use]
    pub fn new(order: LabelOrder) -> Self {
        let names = Names { text: String::new(), ends: Vec::new(), table: OnceLock::new() };
        Self { names: Arc::new(names), order }
    }

    /// The names `0`, `1`, … `labels − 1`.
    #[must_use]
    pub fn numbers(labels: u32) -> Self {
        let mut map = Self::new(LabelOrder::Column);
        for id in 0..labels {
            map.insert(&id.to_string());
        }
        map
    }

    /// The number of labels L.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.ends.len()
    }

    /// Whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.ends.is_empty()
    }

    /// What decides the ids.
    #[must_use]
    pub fn order(&self) -> LabelOrder {
        self.order
    }

    /// Bytes of the names and their ends; looking names up takes 5 to 11 more for each label.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.names.text.len() + 8 * self.len()) as u64
    }

    /// The name of label `id`.
    ///
    /// # Panics
    /// If `id` is L or more.
    #[must_use]
    pub fn name(&self, id: u32) -> &str {
        self.names.name(id)
    }

    /// The id of a name.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<u32> {
        let table = self.names.table();
        match table.slots[table.slot(&self.names, name)] {
            0 => None,
            id => Some(id - 1),
        }
    }

    /// All names, in the order of their ids.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        (0..self.len() as u32).map(|id| self.name(id))
    }

    /// The id of `name`, which is added at the end if it is new.
    pub fn insert(&mut self, name: &str) -> u32 {
        let names = Arc::make_mut(&mut self.names);
        let mut table = match names.table.take() {
            Some(table) if !table.is_full(names.ends.len() + 1) => table,
            _ => Table::of(names, 2 * (names.ends.len() + 1)).0,
        };
        let slot = table.slot(names, name);
        if table.slots[slot] == 0 {
            names.text.push_str(name);
            names.ends.push(names.text.len() as u64);
            table.slots[slot] = names.ends.len() as u32;
        }
        let id = table.slots[slot] - 1;
        names.table = OnceLock::from(table);
        id
    }

    /// The same map without room for more names, and without the table, which is built again when a name is looked up.
    #[must_use]
    fn settled(mut self) -> Self {
        let names = Arc::make_mut(&mut self.names);
        names.table.take();
        names.text.shrink_to_fit();
        names.ends.shrink_to_fit();
        self
    }

    /// The same names in their final order: by value if all are canonical decimal integers, else by bytes. Also
    /// gives, for each old id, the new one. \[L\]
    #[must_use]
    pub fn sorted(&self) -> (Self, Vec<u32>) {
        let numeric = self.names().all(is_canonical_integer);
        let order = if numeric { LabelOrder::Numeric } else { LabelOrder::Bytes };
        let mut ids: Vec<u32> = (0..self.len() as u32).collect();
        ids.sort_unstable_by(|&a, &b| {
            let (a, b) = (self.name(a), self.name(b));
            // Without leading zeros a longer integer is a larger one, whatever its length.
            if numeric { a.len().cmp(&b.len()).then_with(|| a.cmp(b)) } else { a.cmp(b) }
        });
        let mut sorted = Self::new(order);
        let mut moved = vec![0; self.len()];
        for old in ids {
            moved[old as usize] = sorted.insert(self.name(old));
        }
        (sorted, moved)
    }

    /// A hash of the names and their order, for the keys of caches.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(self.names.text.as_bytes());
        hash.update(bytemuck::cast_slice(&self.names.ends));
        hash.digest()
    }

    /// Writes `labels.txt`: the name of label i in line i (from 0), with `\n`, `\r` and `\\` for a line feed, a
    /// carriage return and a backslash in a name.
    ///
    /// # Errors
    /// What the writer says.
    pub fn to_writer(&self, mut writer: impl Write) -> std::io::Result<()> {
        for name in self.names() {
            if name.contains(['\\', '\n', '\r']) {
                let escaped = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
                writeln!(writer, "{escaped}")?;
            } else {
                writeln!(writer, "{name}")?;
            }
        }
        writer.flush()
    }

    /// Reads what [`LabelMap::to_writer`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Artefact`] if a line is empty, stands twice, is not UTF-8 or
    /// has an unknown escape.
    pub fn from_file(path: &Path) -> Result<Self> {
        let mut reader = BufReader::new(File::open(path).map_err(Error::io("reading", path))?);
        let mut map = Self::new(LabelOrder::File);
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).map_err(Error::io("reading", path))? == 0 {
                return if map.is_empty() {
                    Err(Error::artefact(path, "holds no label; restore the file"))
                } else {
                    Ok(map.settled())
                };
            }
            let number = map.len() + 1;
            let wrong =
                |what: &str| Error::artefact(path, format!("line {number}: {what}; restore the file"));
            let text = std::str::from_utf8(&line).map_err(|_| wrong("is not UTF-8"))?;
            // An editor on Windows may have written \r\n; a carriage return in a name is escaped.
            let text = text.strip_suffix('\n').unwrap_or(text);
            let name =
                unescape(text.strip_suffix('\r').unwrap_or(text)).ok_or_else(|| wrong("unknown escape"))?;
            if name.is_empty() {
                return Err(wrong("a label without a name"));
            }
            if map.insert(&name) as usize != number - 1 {
                return Err(wrong("this label stands twice"));
            }
        }
    }

    /// Names as one string and their ends, to be stored.
    pub(super) fn parts(&self) -> (&str, &[u64]) {
        (&self.names.text, &self.names.ends)
    }

    /// Puts together what [`LabelMap::parts`] gave; `None` if it is inconsistent.
    pub(super) fn from_parts(text: Vec<u8>, ends: Vec<u64>, order: LabelOrder) -> Option<Self> {
        let text = String::from_utf8(text).ok()?;
        let inside = |end: &u64| usize::try_from(*end).is_ok_and(|end| text.is_char_boundary(end));
        let sound = ends.is_sorted()
            && ends.iter().all(inside)
            && ends.last().copied().unwrap_or(0) == text.len() as u64
            && u32::try_from(ends.len()).is_ok();
        let names = Names { text, ends, table: OnceLock::new() };
        (sound && Table::of(&names, names.ends.len()).1).then(|| Self { names: Arc::new(names), order })
    }
}

impl std::fmt::Debug for LabelMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LabelMap").field("labels", &self.len()).field("order", &self.order).finish()
    }
}

/// Equal names in equal order; what decided the order does not matter.
impl PartialEq for LabelMap {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

/// `0`, or digits without a leading zero.
fn is_canonical_integer(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'))
}

fn unescape(text: &str) -> Option<String> {
    let mut name = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        name.push(match c {
            '\\' => match chars.next()? {
                '\\' => '\\',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            c => c,
        });
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(names: &[&str]) -> LabelMap {
        let mut map = LabelMap::new(LabelOrder::FirstSeen);
        for name in names {
            map.insert(name);
        }
        map
    }

    #[test]
    fn order_is_by_value_only_if_all_are_canonical_integers() {
        let (sorted, moved) = map(&["10", "9", "0", "100000000000000000000000"]).sorted();
        assert_eq!(sorted.names().collect::<Vec<_>>(), ["0", "9", "10", "100000000000000000000000"]);
        assert_eq!((sorted.order(), moved), (LabelOrder::Numeric, vec![2, 1, 0, 3]));
        for other in ["01", "-1", "a", "1.0", "٣"] {
            let (sorted, _) = map(&["10", "9", other]).sorted();
            assert_eq!(sorted.order(), LabelOrder::Bytes, "{other}");
            let mut want = vec!["10", "9", other];
            want.sort_unstable();
            assert_eq!(sorted.names().collect::<Vec<_>>(), want);
        }
    }

    #[test]
    fn saved_and_loaded_names_are_the_same() {
        let names = ["plain", " spaces ", "a\\b", "line\nbreak", "\r", "\\n", "\u{feff}bom", "ünïcode", "\\"];
        let before = map(&names);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.txt");
        before.to_writer(File::create(&path).unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), names.len());
        let after = LabelMap::from_file(&path).unwrap();
        assert_eq!(after, before);
        assert_eq!(after.names().collect::<Vec<_>>(), names);
        for bad in ["a\n\nb\n", "a\na\n", "\\x\n"] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(LabelMap::from_file(&path), Err(Error::Artefact { .. })), "{bad:?}");
        }
    }

    /// A copy shares the names until one of the two gets another.
    #[test]
    fn copies_part_when_one_grows() {
        let before = map(&["a", "b"]);
        let mut after = before.clone();
        assert_eq!((after.insert("c"), after.insert("a")), (2, 0));
        assert_eq!((before.len(), before.id("c"), after.id("c")), (2, None, Some(2)));
        assert_eq!((after.bytes(), after.settled().id("b")), (3 + 3 * 8, Some(1)));
    }

    #[test]
    fn many_names_are_found_again() {
        let map = LabelMap::numbers(100_000);
        assert_eq!(map.len(), 100_000);
        assert!((0..100_000).all(|id| map.name(id) == id.to_string() && map.id(&id.to_string()) == Some(id)));
        assert_eq!(map.id("100000"), None);
        let (text, ends) = map.parts();
        let from_parts = |text: &[u8], ends: &[u64]| {
            LabelMap::from_parts(text.to_vec(), ends.to_vec(), LabelOrder::Column)
        };
        let again = from_parts(text.as_bytes(), ends).unwrap();
        assert_eq!(again, map);
        assert_eq!((again.id("77777"), again.id("-")), (Some(77_777), None));
        assert!(from_parts(text.as_bytes(), &ends[1..]).is_some());
        assert!(from_parts(text.as_bytes(), &ends[..9]).is_none());
        assert!(from_parts(b"aa", &[1, 2]).is_none());
        assert!(from_parts(b"ab", &[2, 1, 2]).is_none());
        assert!(from_parts("\u{e9}".as_bytes(), &[1, 2]).is_none());
    }
}
