//! What the user wrote, turned once into what will run: strict TOML with `--set section.key=value`.
//!
//! `defaults.toml` is the one list of keys, with their defaults and their documentation.

mod encoder;
mod heads;
mod keys;
mod number_or_name;
mod sections;

use std::path::{Path, PathBuf};

pub use encoder::{
    Encoder, EncoderActivation, EncoderFamily, EncoderInit, EncoderKind, EncoderPooling, Freeze, FreezeName,
    ModelsOwn, OrModel,
};
pub(crate) use heads::GROUPS;
pub use keys::resolve_value;
pub use sections::{
    Auxiliary, BiasInit, BiasRule, Classifier, Data, Evaluate, EvaluateOn, Format, HeadKind, Intermediate,
    IntermediateActivation, Normalisation, OptimizerKind, OptimizerSection, Optimizers, Pattern, Reduction,
    Rewire, RewireGrowth, RewireInit, RewireMode, ScheduleKind, Text, Train,
};

use crate::error::{Error, Result};

/// Every key with its default and a comment.
pub const DEFAULTS: &str = include_str!("defaults.toml");

/// A resolved config: every key has a value, and the values can work.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `[data]`.
    pub data: Data,
    /// `[encoder]`.
    pub encoder: Encoder,
    /// `[intermediate]`.
    pub intermediate: Intermediate,
    /// `[classifier]`.
    pub classifier: Classifier,
    /// `[auxiliary]`.
    pub auxiliary: Auxiliary,
    /// `[rewire]`.
    pub rewire: Rewire,
    /// `[optimizer.encoder]`, and those of the other parts.
    pub optimizer: Optimizers,
    /// `[train]`.
    pub train: Train,
    /// `[evaluate]`.
    pub evaluate: Evaluate,
}

impl Config {
    /// Reads a config file, changes it by `settings` (`section.key=value`), and checks everything.
    ///
    /// # Errors
    /// [`Error::Config`] with the key: unknown (with the nearest known one), wrong type, or a value that cannot work;
    /// [`Error::Line`] for text that is no TOML or no UTF-8; [`Error::Io`].
    pub fn load(path: &Path, settings: &[String]) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("reading", path))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
            Error::line(path, line as u64, "is not UTF-8; convert the file to UTF-8")
        })?;
        Self::parse(&text, path, settings)
    }

    /// [`Config::load`] for text that was read before; `path` is for messages.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path, settings: &[String]) -> Result<Self> {
        let mut table = keys::defaults();
        keys::merge(&mut table, &keys::parse_toml(text, path)?)?;
        for setting in settings {
            keys::set(&mut table, setting)?;
        }
        let config = keys::to_config(&table)?;
        config.check()?;
        Ok(config)
    }

    /// The defaults.
    ///
    /// # Errors
    /// As [`Config::load`], if `settings` are wrong.
    pub fn with_settings(settings: &[String]) -> Result<Self> {
        Self::parse("", Path::new("defaults"), settings)
    }

    /// The config as TOML, every key with its value.
    ///
    /// # Panics
    /// Never: every value of a config has a form in TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a config is made of what TOML has")
    }

    /// Where token caches and measured choices of kernels lie: `data.cache`, else `$REGROW_CACHE`, else the user's
    /// cache folder.
    #[must_use]
    pub fn cache_folder(&self) -> PathBuf {
        let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if !self.data.cache.is_empty() {
            return PathBuf::from(&self.data.cache);
        }
        from("REGROW_CACHE")
            .or_else(|| from("XDG_CACHE_HOME").map(|cache| cache.join("regrow")))
            .or_else(|| from("LOCALAPPDATA").map(|cache| cache.join("regrow")))
            .or_else(|| from("HOME").map(|home| home.join(".cache").join("regrow")))
            .unwrap_or_else(|| std::env::temp_dir().join("regrow"))
    }

    /// Every key, `section.name`, with its value as a text; the same keys in the same order for every config.
    #[must_use]
    pub fn values(&self) -> Vec<(String, String)> {
        let text = |value: toml::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        keys::values(self).into_iter().map(|(key, value)| (key, text(value))).collect()
    }

    /// The keys in which another config differs, except those that do not change what is computed.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        keys::differences(self, other)
    }
}
