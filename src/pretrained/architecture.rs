//! What an encoder looks like, from and to a Hugging Face `config.json`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::json;
use crate::error::{Error, Result};
use crate::kernels::activation::Activation;

/// Values of `model_type` that are read, and the family of each.
const MODEL_TYPES: [(&str, Family); 5] = [
    ("bert", Family::Bert),
    ("distilbert", Family::DistilBert),
    ("roberta", Family::Roberta),
    ("xlm-roberta", Family::Roberta),
    ("camembert", Family::Roberta),
];

/// Names of activations in configs. The fast and the accurate GELU of Transformers are the same tanh formula.
const ACTIVATIONS: [(&str, Activation); 8] = [
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("relu", Activation::Relu),
];

/// What DistilBERT writes into its layers instead of its config, and what BERT has where its config says nothing.
const NORM_EPSILON: f64 = 1e-12;
const DROPOUT: f64 = 0.1;
/// The padding id of RoBERTa and its kin where a config does not name it.
const ROBERTA_PAD: usize = 1;

/// The largest sizes that are believed: products of two stay far below 2⁶³, lists of layers short.
const LARGEST_TABLE: usize = 1 << 30;
const LARGEST_WIDTH: usize = 1 << 20;
const MOST_LAYERS: usize = 1 << 10;

/// Which of the known ways to name and to arrange the parts of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// BERT and its many children, MiniLM among them.
    Bert,
    /// DistilBERT: no token types, names of its own.
    DistilBert,
    /// RoBERTa, XLM-RoBERTa and CamemBERT: BERT with positions that begin after the padding id.
    Roberta,
}

/// The sizes and constants of a post-norm encoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Architecture {
    /// Which names its tensors have.
    pub family: Family,
    /// Rows of the table of word embeddings.
    pub vocabulary: usize,
    /// Numbers of a token between layers: H.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads of a layer; they share H equally.
    pub heads: usize,
    /// Numbers of a token inside the feed-forward part.
    pub intermediate: usize,
    /// Rows of the table of position embeddings.
    pub positions: usize,
    /// The row of the first token: 0, or for RoBERTa the padding id + 1.
    pub first_position: usize,
    /// Rows of the table of token types; 0 if there is none. Row 0 is added to every token.
    pub token_types: usize,
    /// Between the two dense layers of the feed-forward part.
    pub activation: Activation,
    /// Added to the variance in every layer norm.
    pub norm_epsilon: f64,
    /// Probability to drop a number of the embeddings and of each sublayer's output.
    pub hidden_dropout: f64,
    /// Probability to drop an attention weight.
    pub attention_dropout: f64,
}

impl Architecture {
    /// Reads a Hugging Face `config.json`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read; [`Error::Data`], naming file and key, if it is of a kind of model that
    /// regrow does not have or contradicts itself.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_config_json(&json::read_object(path)?, path)
    }

    /// The architecture that the object of a `config.json` describes; `path` is for messages.
    ///
    /// # Errors
    ///
    /// As [`Architecture::read`].
    pub fn from_config_json(config: &Map<String, Value>, path: &Path) -> Result<Self> {
        let keys = Keys { config, path };
        let family = keys.family()?;
        keys.must_not("is_decoder")?;
        keys.must_not("add_cross_attention")?;
        if let Some(kind) = keys.get("position_embedding_type")
            && kind != "absolute"
        {
            return Err(keys.wrong("position_embedding_type", "regrow has absolute positions only"));
        }
        let architecture = match family {
            Family::DistilBert => Self {
                family,
                vocabulary: keys.size("vocab_size", LARGEST_TABLE)?,
                hidden: keys.size("dim", LARGEST_WIDTH)?,
                layers: keys.size("n_layers", MOST_LAYERS)?,
                heads: keys.size("n_heads", LARGEST_WIDTH)?,
                intermediate: keys.size("hidden_dim", LARGEST_WIDTH)?,
                positions: keys.size("max_position_embeddings", LARGEST_TABLE)?,
                first_position: 0,
                token_types: 0,
                activation: keys.activation("activation")?,
                norm_epsilon: NORM_EPSILON,
                hidden_dropout: keys.probability("dropout")?,
                attention_dropout: keys.probability("attention_dropout")?,
            },
            Family::Bert | Family::Roberta => Self {
                family,
                vocabulary: keys.size("vocab_size", LARGEST_TABLE)?,
                hidden: keys.size("hidden_size", LARGEST_WIDTH)?,
                layers: keys.size("num_hidden_layers", MOST_LAYERS)?,
                heads: keys.size("num_attention_heads", LARGEST_WIDTH)?,
                intermediate: keys.size("intermediate_size", LARGEST_WIDTH)?,
                positions: keys.size("max_position_embeddings", LARGEST_TABLE)?,
                first_position: if family == Family::Roberta {
                    keys.whole("pad_token_id", 0..=LARGEST_TABLE, Some(ROBERTA_PAD))? + 1
                } else {
                    0
                },
                token_types: keys.whole("type_vocab_size", 0..=LARGEST_TABLE, Some(2))?,
                activation: keys.activation("hidden_act")?,
                norm_epsilon: keys.number("layer_norm_eps", NORM_EPSILON, |x| x > 0.0 && x < 1.0)?,
                hidden_dropout: keys.probability("hidden_dropout_prob")?,
                attention_dropout: keys.probability("attention_probs_dropout_prob")?,
            },
        };
        if !architecture.hidden.is_multiple_of(architecture.heads) {
            let (hidden, heads) = match family {
                Family::DistilBert => ("dim", "n_heads"),
                Family::Bert | Family::Roberta => ("hidden_size", "num_attention_heads"),
            };
            let message = format!("it must divide {hidden}, which is {}", architecture.hidden);
            return Err(keys.wrong(heads, &message));
        }
        if architecture.positions <= architecture.first_position {
            let message =
                format!("positions of this family begin at {}, so none is left", architecture.first_position);
            return Err(keys.wrong("max_position_embeddings", &message));
        }
        Ok(architecture)
    }

    /// The most tokens a document can have, special tokens included.
    #[must_use]
    pub fn max_tokens(&self) -> usize {
        self.positions - self.first_position
    }

    /// The same architecture with its first `layers` layers only.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] if it has fewer, or if none is asked for.
    pub fn first_layers(self, layers: usize) -> Result<Self> {
        if layers == 0 || layers > self.layers {
            let message =
                format!("{layers} layers of the encoder are asked for; choose 1 to {}", self.layers);
            return Err(Error::Usage(message));
        }
        Ok(Self { layers, ..self })
    }

    /// A Hugging Face `config.json` of this architecture. Reading it again gives the same architecture.
    #[must_use]
    pub fn to_config_json(&self) -> Value {
        let activation = match self.activation {
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_new",
            Activation::Relu => "relu",
        };
        if self.family == Family::DistilBert {
            return json!({
                "architectures": ["DistilBertModel"],
                "model_type": "distilbert",
                "vocab_size": self.vocabulary,
                "dim": self.hidden,
                "n_layers": self.layers,
                "n_heads": self.heads,
                "hidden_dim": self.intermediate,
                "max_position_embeddings": self.positions,
                "sinusoidal_pos_embds": false,
                "pad_token_id": 0,
                "activation": activation,
                "dropout": self.hidden_dropout,
                "attention_dropout": self.attention_dropout,
            });
        }
        let (class, model_type) = match self.family {
            Family::Roberta => ("RobertaModel", "roberta"),
            Family::Bert | Family::DistilBert => ("BertModel", "bert"),
        };
        json!({
            "architectures": [class],
            "model_type": model_type,
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": self.positions,
            "position_embedding_type": "absolute",
            "pad_token_id": self.first_position.saturating_sub(1),
            "type_vocab_size": self.token_types,
            "hidden_act": activation,
            "layer_norm_eps": self.norm_epsilon,
            "hidden_dropout_prob": self.hidden_dropout,
            "attention_probs_dropout_prob": self.attention_dropout,
        })
    }
}

/// The keys of a config, with errors that name file and key.
struct Keys<'a> {
    config: &'a Map<String, Value>,
    path: &'a Path,
}

impl Keys<'_> {
    /// A key that is there and not null.
    fn get(&self, key: &str) -> Option<&Value> {
        self.config.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &str, message: &str) -> Error {
        let value = self.get(key).map_or_else(|| "missing".to_string(), Value::to_string);
        Error::data(self.path, format!("{key} is {value}: {message}"))
    }

    fn family(&self) -> Result<Family> {
        let name = self.get("model_type").and_then(Value::as_str);
        let found = MODEL_TYPES.iter().find(|(known, _)| Some(*known) == name);
        found.map(|&(_, family)| family).ok_or_else(|| {
            let known = MODEL_TYPES.map(|(name, _)| name).join(", ");
            self.wrong("model_type", &format!("regrow reads encoders of the types {known}"))
        })
    }

    fn activation(&self, key: &str) -> Result<Activation> {
        let Some(value) = self.get(key) else { return Ok(Activation::Gelu) };
        let found = ACTIVATIONS.iter().find(|(known, _)| Some(*known) == value.as_str());
        found.map(|&(_, activation)| activation).ok_or_else(|| {
            let known = ACTIVATIONS.map(|(name, _)| name).join(", ");
            self.wrong(key, &format!("regrow has {known}"))
        })
    }

    fn must_not(&self, key: &str) -> Result<()> {
        match self.get(key) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(_) => Err(self.wrong(key, "decoders are not supported, only encoders")),
        }
    }

    fn size(&self, key: &str, most: usize) -> Result<usize> {
        self.whole(key, 1..=most, None)
    }

    fn whole(
        &self,
        key: &str,
        range: std::ops::RangeInclusive<usize>,
        default: Option<usize>,
    ) -> Result<usize> {
        let size = match (self.get(key), default) {
            (None, Some(default)) => return Ok(default),
            (value, _) => value.and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok()),
        };
        size.filter(|size| range.contains(size)).ok_or_else(|| {
            self.wrong(key, &format!("a whole number from {} to {} is expected", range.start(), range.end()))
        })
    }

    fn number(&self, key: &str, default: f64, is_allowed: impl Fn(f64) -> bool) -> Result<f64> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let number = value.as_f64().filter(|&number| is_allowed(number));
        number.ok_or_else(|| self.wrong(key, "a number between 0 and 1 is expected"))
    }

    fn probability(&self, key: &str) -> Result<f64> {
        self.number(key, DROPOUT, |x| (0.0..1.0).contains(&x))
    }
}
