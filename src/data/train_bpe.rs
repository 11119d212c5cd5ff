//! Byte-pair merges over counted words, deterministic: pairs by count, then by ids; no hash map is walked.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// What marks a piece that continues a word.
pub(super) const PREFIX: &str = "##";

/// A pair seen fewer times than this is not merged: it would be a token of one document.
const LEAST_COUNT: u64 = 2;

/// Stands for a character outside the alphabet; never part of a pair.
const BARRIER: u32 = u32::MAX;

type Pair = (u32, u32);

/// Where a pair occurs.
#[derive(Default)]
struct Occurrences {
    count: u64,
    /// Words that held the pair at some time; may hold duplicates and words that lost it.
    words: Vec<u32>,
}

/// Extends `tokens` (special tokens so far) by an alphabet and merged pieces up to `size` tokens, and gives the merges in
/// order. `words` are distinct, with their counts.
pub(super) fn train_merges(
    words: &[(String, u64)],
    tokens: &mut Vec<String>,
    size: usize,
) -> Vec<(String, String)> {
    let mut ids: HashMap<String, u32> = HashMap::new();
    for token in tokens.iter() {
        let id = ids.len() as u32;
        ids.insert(token.clone(), id);
    }
    for piece in alphabet(words, size.saturating_sub(tokens.len())) {
        add(piece, tokens, &mut ids);
    }
    let mut pieces: Vec<Vec<u32>> = words.iter().map(|(word, _)| split(word, &ids)).collect();
    let mut pairs: HashMap<Pair, Occurrences> = HashMap::new();
    let mut seen: Vec<Pair> = Vec::new();
    for (number, word) in pieces.iter().enumerate() {
        for pair in pairs_of(word) {
            let entry = pairs.entry(pair).or_default();
            if entry.count == 0 {
                seen.push(pair);
            }
            entry.count += words[number].1;
            entry.words.push(number as u32);
        }
    }
    let mut queue: BinaryHeap<(u64, Reverse<Pair>)> =
        seen.into_iter().map(|pair| (pairs[&pair].count, Reverse(pair))).collect();
    let mut merges = Vec::new();
    while tokens.len() < size {
        let Some((count, Reverse(pair))) = queue.pop() else { break };
        let now = pairs.get(&pair).map_or(0, |entry| entry.count);
        if now != count {
            // Counts only fall between pushes, so the entry goes back with what is left of it.
            if now > 0 {
                queue.push((now, Reverse(pair)));
            }
            continue;
        }
        if count < LEAST_COUNT {
            break;
        }
        let (left, right) = (tokens[pair.0 as usize].clone(), tokens[pair.1 as usize].clone());
        let merged = add(format!("{left}{}", right.strip_prefix(PREFIX).unwrap_or(&right)), tokens, &mut ids);
        merges.push((left, right));
        let mut holders = pairs.remove(&pair).unwrap_or_default().words;
        holders.sort_unstable();
        holders.dedup();
        let mut risen = Vec::new();
        for number in holders {
            let count = words[number as usize].1;
            let word = &mut pieces[number as usize];
            if !pairs_of(word).any(|p| p == pair) {
                continue;
            }
            for old in pairs_of(word) {
                if let Some(entry) = pairs.get_mut(&old) {
                    entry.count = entry.count.saturating_sub(count);
                }
            }
            merge(word, pair, merged);
            for new in pairs_of(word) {
                let entry = pairs.entry(new).or_default();
                entry.count += count;
                if new.0 == merged || new.1 == merged {
                    entry.words.push(number);
                    risen.push(new);
                }
            }
        }
        risen.sort_unstable();
        risen.dedup();
        queue.extend(risen.into_iter().map(|pair| (pairs[&pair].count, Reverse(pair))));
    }
    merges
}

/// The pieces of one character: each kept character once at the start and once inside of a word. At most half of
/// `room`, the most frequent characters, so that scripts with thousands of characters leave room for words.
fn alphabet(words: &[(String, u64)], room: usize) -> Vec<String> {
    let mut counts: HashMap<char, u64> = HashMap::new();
    for (word, count) in words {
        for c in word.chars() {
            *counts.entry(c).or_default() += count;
        }
    }
    let mut chars: Vec<(char, u64)> = counts.into_iter().collect();
    chars.sort_unstable_by_key(|&(c, count)| (Reverse(count), c));
    chars.truncate((room / 4).max(1));
    chars.sort_unstable();
    let starts = chars.iter().map(|(c, _)| c.to_string());
    let insides = chars.iter().map(|(c, _)| format!("{PREFIX}{c}"));
    starts.chain(insides).take(room).collect()
}

fn add(piece: String, tokens: &mut Vec<String>, ids: &mut HashMap<String, u32>) -> u32 {
    *ids.entry(piece).or_insert_with_key(|piece| {
        tokens.push(piece.clone());
        tokens.len() as u32 - 1
    })
}

fn split(word: &str, ids: &HashMap<String, u32>) -> Vec<u32> {
    let mut key = String::new();
    word.chars()
        .enumerate()
        .map(|(i, c)| {
            key.clear();
            key.push_str(if i == 0 { "" } else { PREFIX });
            key.push(c);
            ids.get(&key).copied().unwrap_or(BARRIER)
        })
        .collect()
}

fn pairs_of(word: &[u32]) -> impl Iterator<Item = Pair> + '_ {
    word.windows(2).map(|w| (w[0], w[1])).filter(|p| p.0 != BARRIER && p.1 != BARRIER)
}

/// Replaces each occurrence of `pair`, from the left.
fn merge(word: &mut Vec<u32>, pair: Pair, merged: u32) {
    let (mut from, mut to) = (0, 0);
    while from < word.len() {
        let hit = word[from] == pair.0 && word.get(from + 1) == Some(&pair.1);
        word[to] = if hit { merged } else { word[from] };
        from += if hit { 2 } else { 1 };
        to += 1;
    }
    word.truncate(to);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Sennrich et al. 2016, worked by hand: the first merge is the pair with the highest count.
    #[test]
    fn merges_by_count_then_ids() {
        let words = [("newest", 6), ("low", 5), ("widest", 3), ("lower", 2)].map(|(w, c)| (w.to_owned(), c));
        let mut tokens = vec!["[PAD]".to_owned(), "[UNK]".to_owned()];
        let merges = train_merges(&words, &mut tokens, 200);
        let first: Vec<String> = merges.iter().take(5).map(|(a, b)| format!("{a} {b}")).collect();
        // e+s and s+t stand 9 times each, (e,s) has the smaller ids; then es+t 9; (l,o) and (o,w) 7: l < ##o.
        assert_eq!(first, ["##e ##s", "##es ##t", "l ##o", "lo ##w", "n ##e"]);
        assert!(tokens.contains(&"newest".to_owned()) && tokens.contains(&"low".to_owned()));
        // The ids of tokens are distinct and every merge gives a token.
        let mut sorted = tokens.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), tokens.len());
    }

    #[test]
    fn a_character_repeated_merges_from_the_left() {
        let mut word = vec![7, 7, 7, 8, 7, 7];
        merge(&mut word, (7, 7), 9);
        assert_eq!(word, [9, 7, 8, 9]);
    }
}
