//! Helpers for JSON lines: parse one line, and say what is wrong with it in the words of the file.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

/// What a JSON line should have been: (key, what its value should be, whether it must be there).
pub(super) type Keys = &'static [(&'static str, &'static str, bool)];

/// Why `line` could not be parsed as an object with `keys`. Parses a second time: only lines with errors come here.
pub(super) fn explain(line: &str, keys: Keys, error: &serde_json::Error) -> String {
    let all = error.to_string();
    // Each line is parsed alone, so serde's "at line 1" would only mislead.
    let message = all.rsplit_once(" at line ").map_or(all.as_str(), |(message, _)| message);
    match serde_json::from_str::<serde_json::Value>(line) {
        Ok(serde_json::Value::Object(object)) => {
            let missing = keys.iter().find(|(key, _, must)| *must && !object.contains_key(*key));
            if let Some((key, what, _)) = missing {
                return format!("key \"{key}\" is missing; it should hold {what}");
            }
            let wrong = keys.iter().find(|(key, what, _)| object.get(*key).is_some_and(|v| !is(v, what)));
            match wrong {
                Some((key, what, _)) => format!("key \"{key}\" should hold {what} ({message})"),
                None => message.to_owned(),
            }
        }
        Ok(_) => "is JSON but not an object {…}".to_owned(),
        Err(_) => format!("is not valid JSON: {message} (column {})", error.column()),
    }
}

/// Whether a value is what the words in [`Keys`] promise.
fn is(value: &serde_json::Value, what: &str) -> bool {
    let list = |good: fn(&serde_json::Value) -> bool| value.as_array().is_some_and(|a| a.iter().all(good));
    match what {
        STRING => value.is_string(),
        LABELS => list(|v| v.is_string() || v.is_u64() || v.is_i64()),
        INDICES => list(|v| v.as_u64().is_some_and(|v| u32::try_from(v).is_ok())),
        NUMBERS => list(serde_json::Value::is_number),
        _ => true,
    }
}

pub(super) const STRING: &str = "a string";
pub(super) const LABELS: &str = "a list of strings or integers";
pub(super) const INDICES: &str = "a list of label numbers, from 0";
pub(super) const NUMBERS: &str = "a list of numbers";

/// A label in JSON: a string, or an integer that is taken as its decimal digits.
pub(super) struct JsonLabel(pub(super) String);

impl<'de> Deserialize<'de> for JsonLabel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LabelVisitor;
        impl Visitor<'_> for LabelVisitor {
            type Value = JsonLabel;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a label (string or integer)")
            }
            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<JsonLabel, E> {
                if name.is_empty() {
                    Err(E::custom("an empty label"))
                } else {
                    Ok(JsonLabel(name.to_owned()))
                }
            }
            fn visit_u64<E>(self, number: u64) -> Result<JsonLabel, E> {
                Ok(JsonLabel(number.to_string()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<JsonLabel, E> {
                Ok(JsonLabel(number.to_string()))
            }
        }
        deserializer.deserialize_any(LabelVisitor)
    }
}

/// A list of JSON label numbers that fit u32.
pub(super) fn indices<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
    let wide = Vec::<u64>::deserialize(deserializer)?;
    wide.into_iter()
        .map(|v| {
            u32::try_from(v).map_err(|_| D::Error::custom(format!("{v} is too large for a label number")))
        })
        .collect()
}
