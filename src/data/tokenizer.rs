//! Text → token ids, by any Hugging Face `tokenizer.json`.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::utils::truncation::{TruncationDirection, TruncationParams};

use super::train_tokenizer::TokenizerSpec;
use crate::error::{Error, Result};

/// Where the tokenizer comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerSource {
    /// A Hugging Face `tokenizer.json`.
    File(PathBuf),
    /// Trained on the training texts at first use, then kept in the cache folder.
    Train(TokenizerSpec),
}

/// The token ids of one text, and what happened on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids, at most `max_tokens` of them, special tokens included.
    pub ids: Vec<u32>,
    /// Whether the text was longer.
    pub truncated: bool,
    /// How many of the ids are the unknown token.
    pub unknown: u32,
}

/// A tokenizer with its truncation set; padding, dropout and the truncation of the file itself are switched off.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    json: String,
    path: PathBuf,
    max_tokens: usize,
    special_tokens: bool,
    keep_end: bool,
    unknown: Option<u32>,
    vocabulary: u32,
}

impl Tokenizer {
    /// Loads a `tokenizer.json`.
    ///
    /// `max_tokens`: the longest result, special tokens included. `special_tokens`: whether the file's
    /// post-processor adds them (\[CLS\], \[SEP\] …).
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Artefact`] if it is no tokenizer, [`Error::Config`] if
    /// `max_tokens` leaves no room beside the special tokens.
    pub fn from_file(path: &Path, max_tokens: usize, special_tokens: bool) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("reading", path))?;
        let json = String::from_utf8(bytes).map_err(|_| not_a_tokenizer(path, "is not UTF-8"))?;
        Self::from_json(json, path, max_tokens, special_tokens)
    }

    /// The same from the text of a `tokenizer.json`; `path` stands in error messages.
    ///
    /// # Errors
    /// As [`Tokenizer::from_file`].
    pub fn from_json(json: String, path: &Path, max_tokens: usize, special_tokens: bool) -> Result<Self> {
        let mut value: Value =
            serde_json::from_str(&json).map_err(|e| not_a_tokenizer(path, &e.to_string()))?;
        if !value.get("model").is_some_and(Value::is_object) {
            return Err(not_a_tokenizer(path, "the key \"model\" is missing"));
        }
        check_merges(&value["model"]).map_err(|what| not_a_tokenizer(path, &what))?;
        let keep_end = value["truncation"]["direction"] == "Left";
        for key in ["truncation", "padding"] {
            value[key] = Value::Null;
        }
        // Dropout of merges is a random regulariser of training; ids in a cache must not depend on chance.
        if let Some(dropout) = value["model"].get_mut("dropout") {
            *dropout = Value::Null;
        }
        let unknown_word = value["model"]["unk_token"].as_str().map(str::to_owned);
        let unknown_number = value["model"]["unk_id"].as_u64();
        let mut inner: tokenizers::Tokenizer =
            serde_json::from_value(value).map_err(|e| not_a_tokenizer(path, &e.to_string()))?;
        let unknown = match unknown_word {
            Some(word) => inner.token_to_id(&word),
            None => unknown_number.and_then(|id| u32::try_from(id).ok()),
        };
        let vocabulary = inner.get_vocab(true).into_values().max().map_or(0, |id| id.saturating_add(1));
        if vocabulary == 0 {
            return Err(not_a_tokenizer(path, "its vocabulary is empty"));
        }
        if max_tokens == 0 {
            return Err(Error::config("data.max_tokens", "must be at least 1"));
        }
        if special_tokens {
            let added = tokenizers::PostProcessor::added_tokens;
            let added = inner.get_post_processor().map_or(0, |p| added(p, false));
            if added >= max_tokens {
                return Err(Error::config(
                    "data.max_tokens",
                    format!("{max_tokens} leaves no room beside the tokenizer's {added} special tokens"),
                ));
            }
            let direction = if keep_end { TruncationDirection::Left } else { TruncationDirection::Right };
            inner
                .with_truncation(Some(TruncationParams {
                    max_length: max_tokens,
                    direction,
                    ..Default::default()
                }))
                .map_err(|e| not_a_tokenizer(path, &e.to_string()))?;
        }
        let path = path.to_path_buf();
        Ok(Self { inner, json, path, max_tokens, special_tokens, keep_end, unknown, vocabulary })
    }

    /// The token ids of `text`. Equal inputs give equal ids, on any thread.
    ///
    /// # Errors
    /// [`Error::Artefact`] if the tokenizer cannot encode the text (for example no unknown token in its vocabulary).
    pub fn encode(&self, text: &str) -> Result<Encoded> {
        let encoding = self.inner.encode_fast(text, self.special_tokens).map_err(|e| {
            Error::artefact(&self.path, format!("cannot encode a text: {e}; use another tokenizer"))
        })?;
        let mut ids = encoding.get_ids().to_vec();
        let mut truncated = !encoding.get_overflowing().is_empty();
        // Without special tokens the crate would still reserve room for them, so the cut is made here.
        if ids.len() > self.max_tokens {
            truncated = true;
            if self.keep_end {
                ids.drain(..ids.len() - self.max_tokens);
            } else {
                ids.truncate(self.max_tokens);
            }
        }
        let unknown = ids.iter().filter(|&&id| Some(id) == self.unknown).count() as u32;
        Ok(Encoded { ids, truncated, unknown })
    }

    /// One more than the largest token id: the rows of an embedding table.
    #[must_use]
    pub fn vocabulary(&self) -> u32 {
        self.vocabulary
    }

    /// The id of the unknown token, if there is one.
    #[must_use]
    pub fn unknown_id(&self) -> Option<u32> {
        self.unknown
    }

    /// The id of a token.
    #[must_use]
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id.
    #[must_use]
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The longest result of [`Tokenizer::encode`], special tokens included.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Whether special tokens are added.
    #[must_use]
    pub fn special_tokens(&self) -> bool {
        self.special_tokens
    }

    /// The `tokenizer.json` as it was loaded, byte for byte: what to save beside a model.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("path", &self.path)
            .field("vocabulary", &self.vocabulary)
            .field("max_tokens", &self.max_tokens)
            .field("special_tokens", &self.special_tokens)
            .finish_non_exhaustive()
    }
}

fn not_a_tokenizer(path: &Path, what: &str) -> Error {
    Error::artefact(path, format!("is not a usable tokenizer.json: {what}; download or train it again"))
}

/// The crate trusts the merges of a BPE file and would slice out of bounds on bad ones, so they are checked first.
fn check_merges(model: &Value) -> Result<(), String> {
    let Some(merges) = model.get("merges").and_then(Value::as_array) else { return Ok(()) };
    let vocabulary = model.get("vocab").and_then(Value::as_object).ok_or("a BPE model without \"vocab\"")?;
    let prefix = model.get("continuing_subword_prefix").and_then(Value::as_str).unwrap_or("");
    for (number, merge) in merges.iter().enumerate() {
        let pair = match merge {
            Value::String(pair) => pair.split_once(' '),
            Value::Array(pair) => match &pair[..] {
                [Value::String(a), Value::String(b)] => Some((a.as_str(), b.as_str())),
                _ => None,
            },
            _ => None,
        };
        // Old files start their list with a version line.
        if pair.is_some_and(|(a, _)| a == "#version:") {
            continue;
        }
        let whole = pair.and_then(|(a, b)| Some(format!("{a}{}", b.strip_prefix(prefix)?)));
        if !whole.is_some_and(|whole| vocabulary.contains_key(&whole)) {
            return Err(format!("merge {number} does not give a token of the vocabulary"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A word-level tokenizer with [CLS] and [SEP], its own padding and truncation set.
    fn json(extra: &str) -> String {
        r#"{"version":"1.0","truncation":{"max_length":3,"strategy":"LongestFirst","stride":0EXTRA},
            "padding":{"strategy":{"Fixed":9},"direction":"Right","pad_id":0,"pad_type_id":0,"pad_token":"[PAD]"},
            "added_tokens":[],"normalizer":null,"pre_tokenizer":{"type":"WhitespaceSplit"},
            "post_processor":{"type":"BertProcessing","sep":["[SEP]",3],"cls":["[CLS]",2]},"decoder":null,
            "model":{"type":"WordLevel","unk_token":"[UNK]",
            "vocab":{"[PAD]":0,"[UNK]":1,"[CLS]":2,"[SEP]":3,"a":4,"b":5,"c":6,"d":7}}}"#
            .replace("EXTRA", extra)
    }

    fn ids(json: String, max: usize, special: bool, text: &str) -> Encoded {
        Tokenizer::from_json(json, Path::new("t"), max, special).unwrap().encode(text).unwrap()
    }

    #[test]
    fn truncation_and_padding_of_the_file_are_overridden() {
        assert_eq!(ids(json(""), 10, false, "a b x c d").ids, [4, 5, 1, 6, 7]);
        let cut = ids(json(""), 4, true, "a x c d");
        assert_eq!(cut, Encoded { ids: vec![2, 4, 1, 3], truncated: true, unknown: 1 });
        assert_eq!(ids(json(""), 1, false, "a b").ids, [4]);
        let left = json(r#","direction":"Left""#);
        assert_eq!(ids(left.clone(), 2, false, "a b c d").ids, [6, 7]);
        assert_eq!(ids(left, 4, true, "a b c d").ids, [2, 6, 7, 3]);
        assert!(ids(json(""), 5, false, "").ids.is_empty());
        assert_eq!(ids(json(""), 5, true, "").ids, [2, 3]);
    }

    #[test]
    fn what_cannot_work_is_said() {
        let error = |json: String, max, special| {
            Tokenizer::from_json(json, Path::new("dir/tokenizer.json"), max, special).unwrap_err().to_string()
        };
        assert!(error(json(""), 2, true).contains("data.max_tokens"));
        assert!(error(json(""), 0, false).contains("at least 1"));
        for bad in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"model":{}}"#,
            r#"{"model":{"type":"BPE","vocab":{},"merges":[["a","b"]]}}"#,
        ] {
            let message = error(bad.into(), 9, false);
            assert!(message.starts_with("dir/tokenizer.json: is not a usable"), "{bad}: {message}");
        }
        let short = r###"{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"continuing_subword_prefix":"##","merges":["a b"]}}"###;
        assert!(error(short.into(), 9, false).contains("merge 0"));
    }
}
