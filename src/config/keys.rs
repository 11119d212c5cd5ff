//! Keys: which there are, what type each has, and the nearest one to a wrong spelling.

use std::path::Path;

use toml::{Table, Value};

use super::{Config, DEFAULTS};
use crate::error::{Error, Result};

/// Keys that may differ between a run and its continuation: where things lie, not what is computed.
const FREE_TO_CHANGE: &[&str] = &["data.path", "data.cache", "classifier.device", "evaluate.batch_size"];

/// Keys that take a number or a name.
const NUMBER_OR_NAME: &[&str] =
    &["classifier.bias_init", "encoder.hidden_dropout", "encoder.attention_dropout", "encoder.freeze"];

/// Keys whose names may be numbers: an adapter's in `regrow devices`.
const NAME_OR_INDEX: &[&str] = &["classifier.device"];

/// The defaults as a table.
pub(super) fn defaults() -> Table {
    DEFAULTS.parse().expect("defaults.toml is valid: a test reads it")
}

/// Parses a config file.
pub(super) fn parse_toml(text: &str, path: &Path) -> Result<Table> {
    text.parse::<Table>().map_err(|error| {
        let line =
            error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        Error::line(path, line as u64, error.message().replace('\n', " "))
    })
}

/// Lays `changes` over `table`; every key must be known and of the default's type.
pub(super) fn merge(table: &mut Table, changes: &Table) -> Result<()> {
    let mut leaves = Vec::new();
    collect("", changes, &mut leaves);
    leaves.into_iter().try_for_each(|(key, value)| put(table, &key, value))
}

/// Applies `section.key=value`. The value is TOML, or a string without its quotes.
pub(super) fn set(table: &mut Table, setting: &str) -> Result<()> {
    // What follows a line break would be another line of TOML, not a part of the value.
    if setting.trim().contains(['\n', '\r']) {
        return Err(Error::Usage(format!(
            "--set {setting:?}: holds a line break; give each key a --set section.key=value of its own"
        )));
    }
    let Some((key, value)) = setting.split_once('=') else {
        return Err(Error::Usage(format!("--set {setting}: say section.key=value")));
    };
    let (key, value) = (key.trim(), value.trim());
    if key.split('.').any(str::is_empty) {
        return Err(Error::Usage(format!("--set {setting}: lacks a name; --set takes section.key=value")));
    }
    let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    put(table, key, parsed.unwrap_or_else(|| Value::String(value.to_owned())))
}

fn collect(prefix: &str, table: &Table, leaves: &mut Vec<(String, Value)>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => collect(&key, inner, leaves),
            value => leaves.push((key, value.clone())),
        }
    }
    if table.is_empty() && !prefix.is_empty() {
        // An empty section says nothing, but it must be one that exists.
        leaves.push((format!("{prefix}."), Value::Boolean(true)));
    }
}

fn put(table: &mut Table, key: &str, value: Value) -> Result<()> {
    if let Some(section) = key.strip_suffix('.') {
        return if is_section(table, section) { Ok(()) } else { Err(unknown_section(section)) };
    }
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().unwrap_or_default();
    let mut section = Some(&mut *table);
    for part in parts {
        section = section.and_then(|table| table.get_mut(part)).and_then(Value::as_table_mut);
    }
    let Some(slot) = section.and_then(|table| table.get_mut(last)) else {
        return Err(unknown_key(key));
    };
    if slot.is_table() {
        return Err(Error::config(key, "is a section: name a key in it"));
    }
    *slot = resolve_value(key, slot, value)?;
    Ok(())
}

fn is_section(table: &Table, section: &str) -> bool {
    let mut at = table;
    for part in section.split('.') {
        match at.get(part).and_then(Value::as_table) {
            Some(inner) => at = inner,
            None => return false,
        }
    }
    true
}

/// `value` in the type of `default`.
///
/// # Errors
/// [`Error::Config`] when it has another type; whole numbers may stand for fractions.
pub fn resolve_value(key: &str, default: &Value, value: Value) -> Result<Value> {
    match (default, value) {
        (Value::Float(_), Value::Integer(whole)) => Ok(Value::Float(whole as f64)),
        (Value::String(_), Value::Integer(whole)) if NUMBER_OR_NAME.contains(&key) => {
            Ok(Value::Float(whole as f64))
        }
        (Value::String(_), Value::Integer(index)) if NAME_OR_INDEX.contains(&key) => {
            Ok(Value::String(index.to_string()))
        }
        (Value::String(_), Value::Float(number)) if NUMBER_OR_NAME.contains(&key) => Ok(Value::Float(number)),
        // A number that the config file gave and a name that `--set` puts back.
        (Value::Float(_), Value::String(name)) if NUMBER_OR_NAME.contains(&key) => Ok(Value::String(name)),
        (Value::Integer(_), Value::Integer(whole)) if whole < 0 => {
            Err(Error::config(key, format!("must be 0 or more, is {whole}")))
        }
        (Value::Array(_), Value::Array(items)) => {
            match items.iter().find(|item| item.as_integer().is_none_or(|whole| whole < 0)) {
                Some(item) => {
                    Err(Error::config(key, format!("must be a list of whole numbers, holds {item}")))
                }
                None => Ok(Value::Array(items)),
            }
        }
        (default, value) if default.same_type(&value) => Ok(value),
        (default, value) => {
            let allowed =
                if NUMBER_OR_NAME.contains(&key) { "a number or a name" } else { type_name(default) };
            Err(Error::config(key, format!("must be {allowed}, is {} ({value})", type_name(&value))))
        }
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
    }
}

fn unknown_key(key: &str) -> Error {
    let mut known = Vec::new();
    collect("", &defaults(), &mut known);
    let name = last_part(key);
    // A right name in a wrong section is nearer than any spelling.
    let distance = |candidate: &str| {
        let by_name = edit_distance(last_part(candidate), name) * 2;
        by_name + usize::from(candidate != key) + edit_distance(candidate, key).min(8)
    };
    let known = known.iter().map(|(candidate, _)| candidate.as_str());
    // A hint that is far off helps nobody. The name counts: an equal section makes no two keys alike, and in another one that
    // there is it must be nearer.
    let section = section_of(key);
    let in_section: Vec<&str> = known.clone().filter(|candidate| section_of(candidate) == section).collect();
    let letters = |candidate: &str| {
        if in_section.is_empty() || section_of(candidate) == section { 3 } else { 5 }
    };
    let alike = known.filter(|candidate| {
        is_alike(last_part(candidate), name, letters(candidate)) || edit_distance(candidate, key) <= 1
    });
    let hint = match alike.min_by_key(|candidate| distance(candidate)) {
        None if !in_section.is_empty() && !section.is_empty() => {
            let names: Vec<&str> = in_section.into_iter().map(last_part).collect();
            format!("; {section} has {}", names.join(", "))
        }
        nearest => hint(nearest),
    };
    Error::config(key, format!("there is no such key{hint}"))
}

fn unknown_section(section: &str) -> Error {
    let mut known = Vec::new();
    collect("", &defaults(), &mut known);
    let sections = known.iter().filter_map(|(key, _)| key.rsplit_once('.')).map(|(section, _)| section);
    let alike = sections.filter(|candidate| is_alike(candidate, section, 3));
    let nearest = alike.min_by_key(|candidate| edit_distance(candidate, section));
    Error::config(section, format!("there is no such section{}", hint(nearest)))
}

fn last_part(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or_default()
}

fn section_of(key: &str) -> &str {
    key.rsplit_once('.').map_or("", |(section, _)| section)
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default()
}

/// Whether one may be a misspelling of the other: one of so many `letters` differs at most.
fn is_alike(a: &str, b: &str, letters: usize) -> bool {
    edit_distance(a, b) <= a.chars().count().max(b.chars().count()) / letters
}

/// Levenshtein distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Turns a complete table into a config; an error names its key.
pub(super) fn to_config(table: &Table) -> Result<Config> {
    if let Ok(config) = Value::Table(table.clone()).try_into() {
        return Ok(config);
    }
    // Some value is of the right type but not allowed: find it by putting one after the other into the defaults.
    let mut leaves = Vec::new();
    collect("", table, &mut leaves);
    for (key, value) in leaves {
        let mut alone = defaults();
        put(&mut alone, &key, value.clone())?;
        if let Err(error) = Value::Table(alone).try_into::<Config>() {
            let message = error.message().replace('\n', " ");
            return Err(Error::config(key, format!("{value} is not allowed: {message}")));
        }
    }
    Err(Error::config("config", "the values are not allowed together"))
}

/// Every key of a config with its value, in the order of the defaults.
pub(super) fn values(config: &Config) -> Vec<(String, Value)> {
    let mut leaves = Vec::new();
    if let Ok(Value::Table(table)) = Value::try_from(config) {
        collect("", &table, &mut leaves);
    }
    leaves
}

/// The keys in which two configs differ and that matter.
pub(super) fn differences(a: &Config, b: &Config) -> Vec<String> {
    let differing = values(a).into_iter().zip(values(b)).filter(|((_, a), (_, b))| a != b);
    differing.map(|((key, _), _)| key).filter(|key| !FREE_TO_CHANGE.contains(&key.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::fan_in_dlogits::Loss;

    fn error(text: &str, settings: &[&str]) -> String {
        let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
        Config::parse(text, Path::new("x.toml"), &settings).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_a_config() {
        let config = Config::with_settings(&[]).unwrap();
        assert_eq!(config.classifier.fan_in, 32);
        assert_eq!(Config::parse(&config.to_toml(), Path::new("x"), &[]).unwrap(), config);
    }

    #[test]
    fn settings_win_over_the_file() {
        let settings =
            ["train.epochs=3".into(), "encoder.tokenizer = a b.json".into(), "encoder.hidden=[4, 64]".into()];
        let config = Config::parse("[train]\nepochs = 2", Path::new("x.toml"), &settings).unwrap();
        assert_eq!(config.train.epochs, 3);
        assert_eq!(config.encoder.tokenizer, "a b.json");
        assert_eq!(config.encoder.hidden, [4, 64]);
    }

    #[test]
    fn wrong_keys_and_values_are_named() {
        assert_eq!(
            error("[classifier]\nfan_inn = 3", &[]),
            "config classifier.fan_inn: there is no such key; did you mean classifier.fan_in?"
        );
        assert!(error("", &["train.fan_in=3"]).contains("did you mean classifier.fan_in?"));
        assert!(error("", &["trainepochs=3"]).contains("did you mean train.epochs?"));
        assert!(error("[classifer]", &[]).ends_with("no such section; did you mean classifier?"));
        assert_eq!(
            error("[train]\nepochs = \"3\"", &[]),
            "config train.epochs: must be a whole number, is a string (\"3\")"
        );
        assert!(error("", &["classifier.loss=focal"]).contains("classifier.loss"));
        assert!(error("", &["classifier.features=bf16"]).contains("classifier.features: must be f32 or f16"));
        let dense = error("", &["classifier.head=dense", "classifier.features=f16"]);
        assert!(dense.contains("classifier.features: only the fan_in head"), "{dense}");
        assert!(error("", &["train.matmul_precision=low"]).contains("train.matmul_precision"));
        assert!(error("", &["classifier.bias_init=often"]).contains("classifier.bias_init"));
        assert!(error("", &["optimizer.classifier.lr=nan"]).contains("optimizer.classifier.lr"));
        assert!(error("", &["optimizer.encoder.lr=0"]).contains("above 0"));
        assert!(error("", &["classifier.fan_in=1000"]).contains("256 features"));
        assert!(error("[train\nepochs = 3", &[]).starts_with("x.toml:1: "));
        assert!(error("", &["train.epochs"]).contains("section.key=value"));
    }

    #[test]
    fn hints_are_not_far_fetched() {
        for setting in ["a.b=c", "zzz=1"] {
            assert!(error("", &[setting]).ends_with("there is no such key"), "{}", error("", &[setting]));
        }
        // Where there is none, the section's keys: in another section a short name is soon alike.
        for setting in ["data.foo=1", "data.dir=1"] {
            let text = error("", &[setting]);
            assert!(
                text.contains("there is no such key; data has ") && text.contains("max_tokens, "),
                "{text}"
            );
        }
        assert!(error("", &["train.fan_inn=3"]).contains("did you mean classifier.fan_in?"));
        assert!(error("[train.foo]", &[]).ends_with("train.foo: there is no such section"));
    }

    #[test]
    fn the_bias_is_a_number_or_a_name() {
        let config = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
            Config::parse("[classifier]\nbias_init = -3", Path::new("x.toml"), &settings).unwrap()
        };
        let bias = |config: &Config| config.classifier.bias_init.value(Loss::Bce, 400, 2.0);
        assert_eq!(bias(&config(&[])), -3.0);
        // ln(0.005 / 0.995)
        assert!((bias(&config(&["classifier.bias_init=prior"])) + 5.293_304_8).abs() < 1e-6);
        assert_eq!(Config::parse(&config(&[]).to_toml(), Path::new("x"), &[]).unwrap(), config(&[]));
    }

    #[test]
    fn values_are_every_key_as_text() {
        let config =
            Config::with_settings(&["encoder.tokenizer=a b".into(), "encoder.hidden=[64]".into()]).unwrap();
        let values = config.values();
        let value = |key: &str| values.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        assert_eq!(value("encoder.tokenizer"), Some("a b"));
        assert_eq!(value("encoder.hidden"), Some("[64]"));
        assert_eq!(value("optimizer.classifier.lr"), Some("0.01"));
        assert_eq!(value("train.deterministic"), Some("false"));
    }

    #[test]
    fn differences_name_what_matters() {
        let a = Config::with_settings(&[]).unwrap();
        let settings = ["data.path=x", "classifier.device=0", "train.seed=1"].map(str::to_owned);
        let b = Config::with_settings(&settings).unwrap();
        assert_eq!(b.classifier.device, "0");
        assert_eq!(a.differences(&b), ["train.seed"]);
    }
}
