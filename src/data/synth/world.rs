//! What the documents say: labels and words of each, computed from the options alone.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::SynthOptions;
use crate::error::{Error, Result};
use crate::random::{self, Purpose, below, unit};

/// Most labels that one training document takes of the walk through all labels; more than three only if documents
/// are fewer than a third of the labels. Its popular label comes on top.
const MOST_LABELS: u64 = 16;
const FAMILY: u32 = 8;
pub(super) const COMMON_WORDS: u32 = 2000;
/// Own words are drawn from this many for each √label.
const OWN_WORDS_PER_ROOT: f64 = 24.0;
/// Below this, the labels of a small set would share all their words.
const FEWEST_OWN_WORDS: u32 = 200;

/// Chances, of 1: a further label is of the family of the first; a word of a label is in the text; it is there
/// twice; a label leaves no word at all; a word in between is of some other label.
const SAME_FAMILY: f32 = 0.5;
const WORD_KEPT: f32 = 0.9;
const WORD_TWICE: f32 = 0.3;
const LABEL_SILENT: f32 = 0.03;
const WORD_STRAY: f32 = 0.05;

/// Which stream of random numbers: the generator's step. Splits are steps of their own.
const STEP_OWN_WORDS: u32 = 100;
const STEP_FAMILY_WORD: u32 = 101;

/// Everything that follows from the options: a few numbers, no tables.
pub(super) struct World {
    seed: u64,
    /// Labels that occur, and so have a rank.
    used: u32,
    documents: u64,
    words_per_document: u32,
    pub(super) own_words: u32,
    /// Which label has a rank.
    ids: Scatter,
    /// Which rank comes when in the walk through all of them.
    turns: Scatter,
    name_digits: usize,
}

/// A permutation of 0 … `of` − 1: `i · step + offset` modulo `of`.
struct Scatter {
    of: u64,
    step: u64,
    offset: u64,
}

impl Scatter {
    fn new(of: u64, seed: u64) -> Self {
        // Near the golden section, the places of neighbours are far apart.
        let mut step = ((of as f64 * 0.618_034) as u64).max(1);
        while greatest_common_divisor(step, of) != 1 {
            step += 1;
        }
        Self { of, step, offset: seed % of }
    }

    fn of(&self, i: u64) -> u64 {
        (i * self.step + self.offset) % self.of
    }
}

/// The words of one document as ids; reused from document to document.
#[derive(Default)]
pub(super) struct Text(Vec<Word>);

#[derive(Clone, Copy)]
pub(super) enum Word {
    Common(u32),
    Own(u32),
}

/// A stream of random numbers for one document.
struct Stream {
    key: (u64, u32, u32),
    sub: u32,
    words: [u32; 4],
    left: usize,
}

impl Stream {
    fn next(&mut self) -> u32 {
        if self.left == 0 {
            let (seed, step, index) = self.key;
            self.words = random::words(seed, Purpose::Synth, step, index, self.sub);
            self.sub += 1;
            self.left = 4;
        }
        self.left -= 1;
        self.words[3 - self.left]
    }

    fn chance(&mut self, of_one: f32) -> bool {
        unit(self.next()) < of_one
    }

    /// An integer in [0, n) whose density falls like (x + 1)^(−3/4): the inverse of its distribution function.
    fn long_tailed(&mut self, n: u32) -> u32 {
        let u = f64::from(self.next()) / 4_294_967_296.0;
        let root = 1.0 + u * ((f64::from(n) + 1.0).sqrt().sqrt() - 1.0);
        let square = root * root;
        ((square * square - 1.0) as u32).min(n - 1)
    }
}

impl World {
    pub(super) fn new(options: &SynthOptions) -> Result<Self> {
        let usage = |message: String| Err(Error::Usage(message));
        let used = options.used_labels.unwrap_or(options.labels);
        for (what, number) in [
            ("labels", options.labels),
            ("used labels", used),
            ("documents", options.documents),
            ("words per document", u64::from(options.words_per_document)),
        ] {
            if number == 0 {
                return usage(format!("synth: the number of {what} must be at least 1"));
            }
        }
        // Labels and documents are 32-bit counters of the generator.
        let most =
            options.labels.max(options.documents).max(options.dev_documents).max(options.test_documents);
        if most > u64::from(u32::MAX) {
            return usage(format!("synth: {most} is too many; at most {} labels or documents", u32::MAX));
        }
        if options.words_per_document > 100_000 {
            return usage("synth: at most 100000 words per document".into());
        }
        if used > options.labels {
            return usage(format!("synth: {used} used labels are more than the {} labels", options.labels));
        }
        let fewest = used.div_ceil(MOST_LABELS);
        if options.documents < fewest {
            return usage(format!(
                "synth: {used} labels need at least {fewest} training documents, {MOST_LABELS} labels each at most; more \
                 documents, or fewer used labels (--used-labels), of which the others are in no document"
            ));
        }
        Ok(Self {
            seed: options.seed,
            used: used as u32,
            documents: options.documents,
            words_per_document: options.words_per_document,
            own_words: ((OWN_WORDS_PER_ROOT * (used as f64).sqrt()) as u32).max(FEWEST_OWN_WORDS),
            ids: Scatter::new(options.labels, options.seed),
            turns: Scatter::new(used, options.seed),
            name_digits: (options.labels - 1).to_string().len().max(4),
        })
    }

    fn stream(&self, split: usize, document: u64, part: u32) -> Stream {
        let step = 2 * split as u32 + part;
        Stream { key: (self.seed, step, document as u32), sub: 0, words: [0; 4], left: 0 }
    }

    /// The id, and so the name, of the label of a rank.
    fn id(&self, rank: u32) -> u64 {
        self.ids.of(u64::from(rank))
    }

    /// Labels, used or not.
    pub(super) fn labels(&self) -> u64 {
        self.ids.of
    }

    /// The ranks of a document's labels, in the order of their ids.
    pub(super) fn labels_of(&self, split: usize, document: u64) -> Vec<u32> {
        let mut stream = self.stream(split, document, 0);
        let wanted = match unit(stream.next()) {
            x if x < 0.45 => 1,
            x if x < 0.75 => 2,
            x if x < 0.92 => 3,
            _ => 4,
        };
        let first = stream.long_tailed(self.used);
        let mut ranks = BTreeSet::from([first]);
        if split == 0 {
            // This document's share of going through all labels once; scattered, so that the first documents are
            // not those of popular labels.
            let used = u64::from(self.used);
            let share = document * used / self.documents..(document + 1) * used / self.documents;
            ranks.extend(share.map(|turn| self.turns.of(turn) as u32));
        }
        // An attempt may hit a label that is there already; then the document has fewer.
        for _ in ranks.len()..wanted {
            ranks.insert(if stream.chance(SAME_FAMILY) {
                (first - first % FAMILY + below(stream.next(), FAMILY)).min(self.used - 1)
            } else {
                stream.long_tailed(self.used)
            });
        }
        let mut ranks: Vec<u32> = ranks.into_iter().collect();
        ranks.sort_unstable_by_key(|&rank| self.id(rank));
        ranks
    }

    /// The words that speak for a label: one of its family, three of its own.
    pub(super) fn signature(&self, rank: u32) -> [u32; 4] {
        let word = |random: u32| below(random, self.own_words);
        let [a, b, c, _] = random::words(self.seed, Purpose::Synth, STEP_OWN_WORDS, rank, 0);
        let [family, ..] = random::words(self.seed, Purpose::Synth, STEP_FAMILY_WORD, rank / FAMILY, 0);
        [word(family), word(a), word(b), word(c)]
    }

    pub(super) fn write_words(&self, split: usize, document: u64, ranks: &[u32], text: &mut Text) {
        let mut stream = self.stream(split, document, 1);
        let words = &mut text.0;
        words.clear();
        for &rank in ranks {
            if stream.chance(LABEL_SILENT) {
                continue;
            }
            for word in self.signature(rank) {
                if stream.chance(WORD_KEPT) {
                    words.push(Word::Own(word));
                    if stream.chance(WORD_TWICE) {
                        words.push(Word::Own(word));
                    }
                }
            }
        }
        // Between half and one and a half of the average.
        let half = self.words_per_document / 2;
        let length = (self.words_per_document - half + below(stream.next(), 2 * half + 1)) as usize;
        while words.len() < length.max(1) {
            words.push(if stream.chance(WORD_STRAY) {
                Word::Own(below(stream.next(), self.own_words))
            } else {
                Word::Common(stream.long_tailed(COMMON_WORDS))
            });
        }
        for i in (1..words.len()).rev() {
            words.swap(i, below(stream.next(), i as u32 + 1) as usize);
        }
    }

    /// The line of text and the row of the label matrix.
    pub(super) fn format_row(&self, ranks: &[u32], text: &Text, [line, row]: [&mut String; 2]) {
        line.clear();
        row.clear();
        text.spell(line);
        line.push('\n');
        for (i, &rank) in ranks.iter().enumerate() {
            let space = if i > 0 { " " } else { "" };
            let _ = write!(row, "{space}{}:1", self.id(rank));
        }
        row.push('\n');
    }

    /// The JSON line. Names and words are plain letters, so nothing needs escaping.
    pub(super) fn format_line(&self, ranks: &[u32], text: &Text, line: &mut String) {
        line.clear();
        line.push_str("{\"text\":\"");
        text.spell(line);
        line.push_str("\",\"labels\":[");
        for (i, &rank) in ranks.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let _ = write!(line, "{comma}\"topic-{:0width$}\"", self.id(rank), width = self.name_digits);
        }
        line.push_str("]}\n");
    }
}

impl Text {
    fn spell(&self, line: &mut String) {
        for (i, &word) in self.0.iter().enumerate() {
            if i > 0 {
                line.push(' ');
            }
            spell(word, line);
        }
    }
}

/// Appends a pronounceable word: two syllables for common words, three for own ones, so the two never meet.
pub(super) fn spell(word: Word, line: &mut String) {
    const ONSETS: [&str; 20] = [
        "b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "ch", "dr", "pl", "st",
        "tr",
    ];
    const VOWELS: [char; 5] = ['a', 'e', 'i', 'o', 'u'];
    /// Spreads consecutive ids; prime to any power of 100, so no two ids share a word.
    const SPREAD: u64 = 618_033;
    let (id, syllables) = match word {
        Word::Common(id) => (id, 2),
        Word::Own(id) => (id, 3),
    };
    let mut code = u64::from(id) * SPREAD % 100u64.pow(syllables);
    for _ in 0..syllables {
        line.push_str(ONSETS[(code % 20) as usize]);
        line.push(VOWELS[(code / 20 % 5) as usize]);
        code /= 100;
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
