//! Trains a tokenizer on the training texts. Written here and not left to the `tokenizers` crate because its trainers
//! walk hash maps whose order differs from run to run; here the same texts give the same file, byte for byte.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

use super::train_bpe::{PREFIX, train_merges};
use crate::error::{Error, Result};

/// How words become tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenizerKind {
    /// Byte-pair merges in the order in which they were learnt.
    Bpe,
    /// The longest known piece first; a word with an unknown character is one unknown token.
    WordPiece,
    /// Whole words, the most frequent ones.
    #[default]
    Word,
}

/// What tokenizer to train.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizerSpec {
    /// How words become tokens.
    pub kind: TokenizerKind,
    /// The largest number of tokens, the four special ones included.
    pub vocab_size: u32,
    /// Whether case and accents are removed.
    pub lowercase: bool,
}

impl Default for TokenizerSpec {
    fn default() -> Self {
        Self { kind: TokenizerKind::Word, vocab_size: 30_000, lowercase: true }
    }
}

/// The special tokens of a trained tokenizer; the position is the id.
pub const SPECIAL_TOKENS: [&str; 4] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];

/// Distinct words beyond which rare ones are forgotten while counting: about half a gigabyte.
const MOST_WORDS: usize = 8_000_000;

/// Counts the words of a corpus, batch by batch.
pub struct WordCounts {
    tokenizer: tokenizers::Tokenizer,
    counts: HashMap<String, u64>,
    forgotten: u64,
}

impl WordCounts {
    /// An empty count with the normaliser and word splitter of `spec`.
    ///
    /// # Errors
    /// [`Error::Config`] if the vocabulary size cannot work.
    pub fn new(spec: &TokenizerSpec) -> Result<Self> {
        if spec.vocab_size <= SPECIAL_TOKENS.len() as u32 {
            return Err(Error::config(
                "encoder.vocabulary",
                format!(
                    "{} leaves no room beside the {} special tokens",
                    spec.vocab_size,
                    SPECIAL_TOKENS.len()
                ),
            ));
        }
        let empty = tokenizer_json(spec, &SPECIAL_TOKENS.map(str::to_owned), &[]);
        let tokenizer = serde_json::from_value(empty).map_err(|e| Error::Usage(format!("tokenizer: {e}")))?;
        Ok(Self { tokenizer, counts: HashMap::new(), forgotten: 0 })
    }

    /// Adds the words of some texts, in parallel. The result depends on how texts are grouped in calls (only beyond
    /// eight million distinct words), not on the number of threads.
    ///
    /// # Errors
    /// [`Error::Usage`] if a text cannot be split.
    pub fn add(&mut self, texts: &[String]) -> Result<()> {
        let tokenizer = &self.tokenizer;
        let parts: Vec<HashMap<String, u64>> = texts
            .par_chunks(512)
            .map(|texts| {
                let mut counts = HashMap::new();
                for text in texts {
                    count_words(tokenizer, text, &mut counts)
                        .map_err(|e| Error::Usage(format!("cannot split a text into words: {e}")))?;
                }
                Ok(counts)
            })
            .collect::<Result<_>>()?;
        for (word, count) in parts.into_iter().flatten() {
            *self.counts.entry(word).or_default() += count;
        }
        while self.counts.len() > MOST_WORDS {
            self.forgotten += 1;
            let limit = self.forgotten;
            self.counts.retain(|_, count| *count > limit);
        }
        Ok(())
    }

    /// The text of a `tokenizer.json` made from the words counted.
    ///
    /// # Errors
    /// [`Error::Data`] (naming `corpus`) if there is no word at all.
    pub fn train(self, spec: &TokenizerSpec, corpus: &Path) -> Result<String> {
        if self.counts.is_empty() {
            return Err(Error::data(corpus, "the texts hold no words to train a tokenizer on"));
        }
        let mut words: Vec<(String, u64)> = self.counts.into_iter().collect();
        words.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let mut tokens: Vec<String> = SPECIAL_TOKENS.map(str::to_owned).into();
        let mut merges = Vec::new();
        match spec.kind {
            TokenizerKind::Word => {
                let room = spec.vocab_size as usize - tokens.len();
                let words = words.into_iter().map(|(word, _)| word);
                tokens.extend(words.filter(|word| !SPECIAL_TOKENS.contains(&word.as_str())).take(room));
            }
            TokenizerKind::Bpe | TokenizerKind::WordPiece => {
                merges = train_merges(&words, &mut tokens, spec.vocab_size as usize);
            }
        }
        serde_json::to_string(&tokenizer_json(spec, &tokens, &merges))
            .map_err(|e| Error::data(corpus, format!("the trained tokenizer cannot be written: {e}")))
    }
}

fn count_words(
    tokenizer: &tokenizers::Tokenizer,
    text: &str,
    counts: &mut HashMap<String, u64>,
) -> tokenizers::Result<()> {
    let mut text = NormalizedString::from(text);
    if let Some(normalizer) = tokenizer.get_normalizer() {
        normalizer.normalize(&mut text)?;
    }
    let mut pieces = PreTokenizedString::from(text);
    if let Some(splitter) = tokenizer.get_pre_tokenizer() {
        splitter.pre_tokenize(&mut pieces)?;
    }
    for (word, _, _) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
        match counts.get_mut(word) {
            Some(count) => *count += 1,
            None => {
                counts.insert(word.to_owned(), 1);
            }
        }
    }
    Ok(())
}

/// A complete `tokenizer.json`; token i of `tokens` has id i.
fn tokenizer_json(spec: &TokenizerSpec, tokens: &[String], merges: &[(String, String)]) -> Value {
    let vocabulary: Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    let added: Vec<Value> = SPECIAL_TOKENS
        .iter()
        .enumerate()
        .map(|(id, token)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    // Accents can only be stripped from decomposed text; composing again afterwards keeps Hangul in one piece.
    let normalizer = if spec.lowercase {
        json!({"type": "Sequence", "normalizers":
            [{"type": "NFKD"}, {"type": "StripAccents"}, {"type": "NFC"}, {"type": "Lowercase"}]})
    } else {
        json!({"type": "NFKC"})
    };
    let model = match spec.kind {
        TokenizerKind::Word => json!({"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}),
        TokenizerKind::WordPiece => json!({"type": "WordPiece", "unk_token": "[UNK]",
            "continuing_subword_prefix": PREFIX, "max_input_chars_per_word": 100, "vocab": vocabulary}),
        TokenizerKind::Bpe => json!({"type": "BPE", "dropout": null, "unk_token": "[UNK]",
            "continuing_subword_prefix": PREFIX, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary, "merges": merges}),
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": PREFIX, "cleanup": false},
        "model": model,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tokenizer::Tokenizer;
    use super::*;

    fn corpus() -> Vec<String> {
        (0..3000)
            .map(|i| {
                format!("Crème brûlée, {} the lower lowest newest {} wide-r", i % 700, "wid ".repeat(i % 3))
            })
            .collect()
    }

    fn train(kind: TokenizerKind, vocab_size: u32, texts: &[String]) -> String {
        let spec = TokenizerSpec { kind, vocab_size, lowercase: true };
        let mut counts = WordCounts::new(&spec).unwrap();
        texts.chunks(1000).for_each(|texts| counts.add(texts).unwrap());
        counts.train(&spec, Path::new("corpus")).unwrap()
    }

    #[test]
    fn the_same_texts_give_the_same_file() {
        for kind in [TokenizerKind::Word, TokenizerKind::WordPiece, TokenizerKind::Bpe] {
            let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
            let one = pool(1).install(|| train(kind, 200, &corpus()));
            let two = pool(2).install(|| train(kind, 200, &corpus()));
            assert_eq!(one, two);
            let tokenizer = Tokenizer::from_json(one, Path::new("t"), 100, false).unwrap();
            assert!(tokenizer.vocabulary() <= 200);
            assert_eq!(tokenizer.token_to_id("[PAD]"), Some(0));
            assert_eq!(tokenizer.unknown_id(), Some(1));
            let known = tokenizer.encode("creme BRULEE lowest").unwrap();
            assert_eq!(known.unknown, 0);
            assert_eq!(tokenizer.encode("日本").unwrap().unknown, 1);
        }
    }

    #[test]
    fn words_get_ids_by_count_then_bytes() {
        let texts = ["b a a c".to_owned(), "b C, d".to_owned()];
        let json = train(TokenizerKind::Word, 8, &texts);
        let tokenizer = Tokenizer::from_json(json, Path::new("t"), 100, true).unwrap();
        // a, b and c stand twice, the comma and d once; the vocabulary ends at eight.
        assert_eq!(tokenizer.encode("a b c , d").unwrap().ids, [2, 4, 5, 6, 7, 1, 3]);
        let counts = WordCounts::new(&TokenizerSpec::default()).unwrap();
        let empty = counts.train(&TokenizerSpec::default(), Path::new("train.jsonl")).unwrap_err();
        assert!(empty.to_string().contains("no words"));
        assert!(WordCounts::new(&TokenizerSpec { vocab_size: 4, ..Default::default() }).is_err());
    }
}
