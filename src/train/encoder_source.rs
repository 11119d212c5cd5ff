//! What the encoder of a run is made of: found, and checked against the config, before anything is allocated.

use std::path::Path;

use serde_json::Value;

use super::sizes::EncoderSizes;
use crate::config::{Config, EncoderActivation, EncoderFamily, EncoderInit, EncoderKind, EncoderPooling};
use crate::data::{FeatureTable, Tokenizer};
use crate::device::Device;
use crate::encoder::{PARAMETER_PREFIX, Parameter, Pooling};
use crate::error::{Error, Result};
use crate::kernels::activation::Activation;
use crate::pretrained::{
    Architecture, Download, EncoderTensors, Family, HubSettings, PretrainedModel, PretrainedWeights,
};

/// Where the encoder's shape and starting values come from.
pub enum EncoderSource {
    /// A bag of tokens, its sizes from the config.
    Bag,
    /// Precomputed features of this width.
    Features(usize),
    /// A transformer with random weights, its sizes from the config.
    Scratch,
    /// A pretrained transformer, and what is taken of it.
    Pretrained(Box<PretrainedModel>, Architecture),
}

impl EncoderSource {
    /// Finds what the config names; a download tells its progress.
    ///
    /// # Errors
    /// As [`PretrainedModel::find`]; [`Error::Config`] when the config asks for more than the model has.
    pub fn find(config: &Config, progress: &mut dyn FnMut(Download<'_>) -> Result<()>) -> Result<Self> {
        let e = &config.encoder;
        match (e.kind, e.init) {
            (EncoderKind::Bag, _) => Ok(Self::Bag),
            (EncoderKind::Features, _) => {
                let folder = Path::new(&e.features);
                let table = FeatureTable::find(folder, "train")?.ok_or_else(|| {
                    let message = format!("{} has neither train.safetensors nor train.npy", folder.display());
                    Error::config("encoder.features", message)
                })?;
                Ok(Self::Features(table.width()))
            }
            (EncoderKind::Transformer, EncoderInit::Scratch) => Ok(Self::Scratch),
            (EncoderKind::Transformer, EncoderInit::Pretrained) => {
                let hub = HubSettings::from_env();
                let revision = Some(e.revision.as_str()).filter(|revision| !revision.is_empty());
                let model = PretrainedModel::find(&e.model, revision, &hub, progress)?;
                let mut architecture = model.architecture;
                if e.layers > architecture.layers {
                    let message =
                        format!("{} is more than the model's {} layers", e.layers, architecture.layers);
                    return Err(Error::config("encoder.layers", message));
                }
                if e.layers > 0 {
                    architecture.layers = e.layers;
                }
                check_length(config, &architecture)?;
                Ok(Self::Pretrained(Box::new(model), architecture))
            }
        }
    }

    /// The tokenizer that belongs to the weights.
    #[must_use]
    pub fn tokenizer(&self) -> Option<&Path> {
        match self {
            Self::Bag | Self::Features(_) | Self::Scratch => None,
            Self::Pretrained(model, _) => Some(&model.tokenizer),
        }
    }

    /// The sizes of the encoder, given the tokens of the data's tokenizer; none: as many as config or weights have.
    ///
    /// # Errors
    /// [`Error::Config`] when tokenizer and weights do not belong together, or texts may be longer than the model's
    /// positions.
    pub fn sizes(&self, config: &Config, vocabulary: Option<usize>) -> Result<EncoderSizes> {
        let vocabulary = match (self, vocabulary) {
            (_, Some(vocabulary)) => vocabulary,
            (Self::Pretrained(_, architecture), None) => architecture.vocabulary,
            (_, None) => config.encoder.vocabulary as usize,
        };
        match self {
            Self::Bag => Ok(EncoderSizes::Bag { vocabulary }),
            Self::Features(width) => Ok(EncoderSizes::Features(*width)),
            Self::Scratch => {
                let architecture = from_config(config, vocabulary);
                check_length(config, &architecture)?;
                Ok(EncoderSizes::Transformer { architecture, pooling: pooling(config, None) })
            }
            Self::Pretrained(model, architecture) => {
                if vocabulary > architecture.vocabulary {
                    let message = format!(
                        "the tokenizer has {vocabulary} tokens, but the weights of {} only {}: they do not belong together",
                        model.folder.display(),
                        architecture.vocabulary
                    );
                    return Err(Error::config("encoder.tokenizer", message));
                }
                let pooling = pooling(config, model.pooling);
                Ok(EncoderSizes::Transformer { architecture: *architecture, pooling })
            }
        }
    }

    /// Whether the pretrained weights, if there are any, are all there and finite. Reads them once.
    ///
    /// # Errors
    /// As [`PretrainedWeights::open`] and [`PretrainedWeights::read`].
    pub fn check_weights(&self, config: &Config) -> Result<()> {
        let Some((weights, architecture)) = self.weights(config)? else { return Ok(()) };
        EncoderTensors::of(&architecture).iter().try_for_each(|tensor| weights.read(tensor).map(|_| ()))
    }

    fn weights(&self, config: &Config) -> Result<Option<(PretrainedWeights, Architecture)>> {
        let Self::Pretrained(source, architecture) = self else { return Ok(None) };
        let prefix = Some(config.encoder.prefix.as_str()).filter(|prefix| !prefix.is_empty());
        let weights = PretrainedWeights::open(&source.folder, architecture, prefix)?;
        Ok(Some((weights, *architecture)))
    }

    /// Reads the pretrained weights into an encoder's parameters, if there are any.
    ///
    /// # Errors
    /// As [`EncoderSource::check_weights`]; [`Error::Device`].
    pub fn load(&self, device: &Device, config: &Config, parameters: &[Parameter]) -> Result<()> {
        let Some((weights, architecture)) = self.weights(config)? else { return Ok(()) };
        for (tensor, parameter) in EncoderTensors::of(&architecture).iter().zip(parameters) {
            debug_assert_eq!(parameter.name, format!("{PARAMETER_PREFIX}{}", tensor.name));
            parameter.write(device, &weights.read(tensor)?)?;
        }
        Ok(())
    }
}

fn check_length(config: &Config, architecture: &Architecture) -> Result<()> {
    let (wanted, most) = (config.data.max_tokens, architecture.max_tokens());
    if wanted > most {
        let message = format!("{wanted} is more than the {most} positions of the encoder");
        return Err(Error::config("data.max_tokens", message));
    }
    Ok(())
}

/// A transformer has something to look at in every document: the special tokens, if nothing else.
///
/// # Errors
/// [`Error::Config`] when the tokenizer gives no token for an empty text.
pub(super) fn check_tokenizer(config: &Config, tokenizer: &Tokenizer) -> Result<()> {
    if config.encoder.kind == EncoderKind::Transformer && tokenizer.encode("")?.ids.is_empty() {
        let message = "the tokenizer adds no special tokens, so that an empty text has no token at all; \
                       give its tokenizer.json a post-processor such as BertProcessing";
        return Err(Error::config("encoder.tokenizer", message));
    }
    Ok(())
}

/// Whether the tokenizer's special tokens are added: a transformer has learnt them, a bag gains nothing.
#[must_use]
pub fn special_tokens(config: &Config) -> bool {
    config.encoder.kind == EncoderKind::Transformer
}

impl EncoderSizes {
    /// The sizes that the `config.json` of a model folder tells; `path` is for messages.
    pub(super) fn described(encoder: &Value, path: &Path, vocabulary: usize) -> Result<Self> {
        let wrong = |key: &str| Error::artefact(path, format!("encoder.{key} is missing or not known"));
        match encoder["kind"].as_str() {
            Some("bag") => Ok(Self::Bag { vocabulary }),
            Some("features") => {
                let width = encoder["width"].as_u64().filter(|width| (1..=65_536).contains(width));
                Ok(Self::Features(width.ok_or_else(|| wrong("width"))? as usize))
            }
            Some("transformer") => {
                let object = encoder["architecture"].as_object().ok_or_else(|| wrong("architecture"))?;
                let pooling = &encoder["pooling"];
                let layers = pooling["layers"].as_u64().and_then(|layers| usize::try_from(layers).ok());
                let pooling = match (pooling["kind"].as_str(), layers) {
                    (Some("mean"), _) => Pooling::Mean,
                    (Some("cls"), Some(layers)) => Pooling::First(layers),
                    _ => return Err(wrong("pooling")),
                };
                let architecture = Architecture::from_config_json(object, path)?;
                if vocabulary > architecture.vocabulary {
                    return Err(Error::artefact(path, "tokenizer.json has more tokens than the embeddings"));
                }
                Ok(Self::Transformer { architecture, pooling })
            }
            _ => Err(wrong("kind")),
        }
    }
}

/// How tokens become features; a folder may say how its model was trained.
fn pooling(config: &Config, hint: Option<crate::pretrained::Pooling>) -> Pooling {
    let layers = config.encoder.pooled_layers;
    match (config.encoder.pooling, hint) {
        (EncoderPooling::Cls, _) | (EncoderPooling::Auto, Some(crate::pretrained::Pooling::Cls)) => {
            Pooling::First(layers)
        }
        _ => Pooling::Mean,
    }
}

/// The architecture that the config spells out.
pub(super) fn from_config(config: &Config, vocabulary: usize) -> Architecture {
    let e = &config.encoder;
    let family = match e.family {
        EncoderFamily::Bert => Family::Bert,
        EncoderFamily::Distilbert => Family::DistilBert,
        EncoderFamily::Roberta => Family::Roberta,
    };
    // As the families have them: RoBERTa's padding id is 1, and its positions begin after it.
    let first_position = if family == Family::Roberta { 2 } else { 0 };
    Architecture {
        family,
        vocabulary,
        hidden: e.dim,
        layers: e.layers,
        heads: e.heads,
        intermediate: e.intermediate,
        positions: e.positions + first_position,
        first_position,
        token_types: match family {
            Family::Bert => 2,
            Family::Roberta => 1,
            Family::DistilBert => 0,
        },
        activation: match e.activation {
            EncoderActivation::Gelu => Activation::Gelu,
            EncoderActivation::GeluTanh => Activation::GeluTanh,
            EncoderActivation::Relu => Activation::Relu,
        },
        norm_epsilon: e.norm_epsilon,
        hidden_dropout: 0.1,
        attention_dropout: 0.1,
    }
}
