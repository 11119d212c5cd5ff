//! `[encoder]`: its keys and the checks of their values.

use serde::{Deserialize, Deserializer, Serialize};

use super::number_or_name::number_or_name;
use crate::error::{Error, Result};
use crate::kernels::storage::Storage;

/// `encoder.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncoderKind {
    /// Mean of the token embeddings.
    Bag,
    /// The BERT family.
    Transformer,
    /// Precomputed vectors from a file.
    Features,
}

/// `encoder.init`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncoderInit {
    /// The weights of `encoder.model`.
    Pretrained,
    /// Random numbers, in the sizes of the config.
    Scratch,
}

/// `encoder.family`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncoderFamily {
    /// BERT and MiniLM.
    Bert,
    /// DistilBERT: no token types.
    Distilbert,
    /// RoBERTa: positions begin after the padding id.
    Roberta,
}

/// `encoder.activation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncoderActivation {
    /// GELU with the error function.
    Gelu,
    /// GELU with tanh.
    GeluTanh,
    /// Rectified linear.
    Relu,
}

/// `encoder.pooling`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncoderPooling {
    /// What the model's folder says, else the mean.
    Auto,
    /// Mean over the tokens of the last layer.
    Mean,
    /// The first token of the last layers, one after the other.
    Cls,
}

/// A number, or what the model's own config says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum OrModel {
    /// This number.
    Value(f64),
    /// The model's.
    Named(ModelsOwn),
}

/// The name in [`OrModel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelsOwn {
    /// What the model's `config.json` says.
    Model,
}

impl<'de> Deserialize<'de> for OrModel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number_or_name(deserializer, "a number or \"model\"", Self::Value, Self::Named)
    }
}

impl OrModel {
    /// The number, given the model's own.
    #[must_use]
    pub fn or(self, model: f64) -> f32 {
        match self {
            Self::Value(value) => value as f32,
            Self::Named(ModelsOwn::Model) => model as f32,
        }
    }
}

/// `encoder.freeze`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Freeze {
    /// The embeddings and so many layers, as TOML has a number that may also be a name.
    Layers(f64),
    /// By name.
    Named(FreezeName),
}

/// The names in [`Freeze`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FreezeName {
    /// Everything is trained.
    None,
    /// The embeddings stay.
    Embeddings,
    /// Nothing is trained.
    All,
}

impl<'de> Deserialize<'de> for Freeze {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number_or_name(
            deserializer,
            "none, embeddings, all, or a number of layers",
            Self::Layers,
            Self::Named,
        )
    }
}

impl Freeze {
    /// Stages that stay as they are, of the embeddings (the first) and `layers` layers.
    #[must_use]
    pub fn stages(self, layers: usize) -> usize {
        match self {
            Self::Named(FreezeName::None) => 0,
            Self::Named(FreezeName::Embeddings) => 1,
            Self::Named(FreezeName::All) => layers + 1,
            Self::Layers(count) => (1 + count as usize).min(layers + 1),
        }
    }
}

/// `[encoder]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each key is documented in defaults.toml")]
pub struct Encoder {
    pub kind: EncoderKind,
    pub dim: usize,
    pub hidden: Vec<usize>,
    pub dropout: f64,
    pub norm_epsilon: f64,
    pub init_scale: f64,
    pub tokenizer: String,
    pub tokenizer_kind: crate::data::TokenizerKind,
    pub vocabulary: u32,
    pub lowercase: bool,
    pub features: String,
    pub model: String,
    pub revision: String,
    pub prefix: String,
    pub init: EncoderInit,
    pub layers: usize,
    pub heads: usize,
    pub intermediate: usize,
    pub family: EncoderFamily,
    pub activation: EncoderActivation,
    pub positions: usize,
    pub pooling: EncoderPooling,
    pub pooled_layers: usize,
    pub hidden_dropout: OrModel,
    pub attention_dropout: OrModel,
    pub freeze: Freeze,
    pub recompute: bool,
    pub moments: Storage,
}

impl Encoder {
    /// Checks that every value can work.
    ///
    /// # Errors
    /// [`Error::Config`] with the first key that cannot.
    pub(super) fn check(&self) -> Result<()> {
        let at_least_one = |key: &str, value: usize| {
            if value >= 1 { Ok(()) } else { Err(Error::config(key, "must be at least 1, is 0")) }
        };
        let within = |key: &str, value: f64, low: f64, high: f64, allowed: &str| {
            if value >= low && value <= high {
                Ok(())
            } else {
                Err(Error::config(key, format!("must be {allowed}, is {value}")))
            }
        };
        at_least_one("encoder.dim", self.dim)?;
        for width in &self.hidden {
            at_least_one("encoder.hidden", *width)?;
        }
        within("encoder.dropout", self.dropout, 0.0, 0.999, "0 or more and below 1")?;
        within("encoder.norm_epsilon", self.norm_epsilon, f64::MIN_POSITIVE, 1.0, "above 0")?;
        within("encoder.init_scale", self.init_scale, 0.0, 1e6, "0 or more")?;
        at_least_one("encoder.vocabulary", self.vocabulary as usize)?;
        if self.kind == EncoderKind::Transformer {
            self.check_transformer()?;
        }
        if self.kind == EncoderKind::Features && self.features.is_empty() {
            let message =
                "names no folder: give one with train.safetensors (or .npy), as regrow encode writes them";
            return Err(Error::config("encoder.features", message));
        }
        for (key, rate) in
            [("hidden_dropout", self.hidden_dropout), ("attention_dropout", self.attention_dropout)]
        {
            if let OrModel::Value(rate) = rate {
                within(&format!("encoder.{key}"), rate, 0.0, 0.999, "\"model\", or 0 or more and below 1")?;
            }
        }
        if let Freeze::Layers(count) = self.freeze
            && (count.fract() != 0.0 || !(0.0..1e6).contains(&count))
        {
            let allowed = "must be none, embeddings, all, or a number of layers";
            return Err(Error::config("encoder.freeze", format!("{allowed}, is {count}")));
        }
        if !matches!(self.moments, Storage::F32 | Storage::Bf16) {
            return Err(Error::config("encoder.moments", "must be f32 or bf16"));
        }
        Ok(())
    }

    fn check_transformer(&self) -> Result<()> {
        if self.pooled_layers == 0 {
            return Err(Error::config("encoder.pooled_layers", "must be at least 1, is 0"));
        }
        if self.pooled_layers > 1 && self.pooling != EncoderPooling::Cls {
            let message = "more than one layer can only be pooled with encoder.pooling = \"cls\"";
            return Err(Error::config("encoder.pooled_layers", message));
        }
        if self.init == EncoderInit::Pretrained {
            if self.model.is_empty() {
                let message =
                    "names no model: give a folder or a Hugging Face id, or set encoder.init = \"scratch\"";
                return Err(Error::config("encoder.model", message));
            }
            return Ok(());
        }
        for (key, value) in [
            ("encoder.layers", self.layers),
            ("encoder.heads", self.heads),
            ("encoder.intermediate", self.intermediate),
            ("encoder.positions", self.positions),
        ] {
            if value == 0 {
                return Err(Error::config(key, "must be at least 1 with encoder.init = \"scratch\", is 0"));
            }
        }
        if !self.dim.is_multiple_of(self.heads) {
            let message = format!("{} does not divide encoder.dim = {}", self.heads, self.dim);
            return Err(Error::config("encoder.heads", message));
        }
        Ok(())
    }
}
