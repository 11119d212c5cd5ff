//! An encoder alone: texts in, features out.

use std::path::Path;

use super::build_encoder::{build_encoder, micro_batch};
use super::encoder_source::{EncoderSource, check_tokenizer};
use super::feed::{Feed, FeedSizes};
use super::model_folder::{Described, MODEL_FILE, without_states};
use super::sizes::{EncoderSizes, ModelSizes};
use super::stored::{Content, encoder_tensors};
use crate::config::Config;
use crate::data::{Batch, Tokenizer};
use crate::device::{Device, Recording};
use crate::encoder::Encoder;
use crate::error::{Error, Result};

/// What to say to whoever gives texts to a model that was trained on features.
#[must_use]
pub fn no_text_encoder(folder: &Path) -> Error {
    let message = "this model takes features, not texts: it was trained with encoder.kind = \"features\" and has no \
                   text encoder; regrow evaluate measures it on a data set with features";
    Error::data(folder, message)
}

/// An encoder on a device with its tokenizer.
pub struct TextEncoder {
    /// What cuts texts into tokens.
    pub tokenizer: Tokenizer,
    encoder: Box<dyn Encoder>,
    feed: Feed,
    micro_batch: usize,
}

impl TextEncoder {
    /// The encoder of a regrow model folder, for up to `batch` texts at once. The classifier is not read.
    ///
    /// # Errors
    /// [`Error::Artefact`] when a file is missing, damaged or of another kind; [`Error::Data`] when the model takes
    /// features; [`Error::Device`].
    pub fn open(folder: &Path, device: &Device, batch: usize) -> Result<Self> {
        let Described { config, encoder, tokenizer, file, .. } = Described::open(folder)?;
        if let EncoderSizes::Features(_) = encoder {
            return Err(no_text_encoder(folder));
        }
        let this = Self::build(device, &config, encoder, tokenizer, batch)?;
        for tensor in encoder_tensors(&*this.encoder, Content::Model) {
            tensor.load(device, &file, &folder.join(MODEL_FILE))?;
        }
        Ok(this)
    }

    /// A pretrained encoder as a config describes it.
    ///
    /// # Errors
    /// [`Error::Usage`] when the config's encoder is not pretrained; as [`EncoderSource::load`]; [`Error::Device`].
    pub fn pretrained(
        device: &Device,
        config: &Config,
        source: &EncoderSource,
        batch: usize,
    ) -> Result<Self> {
        let Some(tokenizer) = source.tokenizer() else {
            return Err(Error::Usage(
                "the encoder is not pretrained: there is nothing to encode with".into(),
            ));
        };
        let tokenizer = Tokenizer::from_file(tokenizer, config.data.max_tokens, true)?;
        check_tokenizer(config, &tokenizer)?;
        let sizes = source.sizes(config, Some(tokenizer.vocabulary() as usize))?;
        let this = Self::build(device, config, sizes, tokenizer, batch)?;
        source.load(device, config, this.encoder.parameters())?;
        Ok(this)
    }

    fn build(
        device: &Device,
        config: &Config,
        encoder: EncoderSizes,
        tokenizer: Tokenizer,
        batch: usize,
    ) -> Result<Self> {
        let micro_batch = micro_batch(config).min(batch);
        let feed = FeedSizes::of_documents(batch, micro_batch, tokenizer.max_tokens());
        let sizes = ModelSizes {
            encoder,
            labels: 0,
            auxiliary: None,
            train_batch: 0,
            feed,
            bias_init: 0.0,
            max_block_rows: 0,
        };
        Ok(Self {
            encoder: build_encoder(device, &without_states(config), sizes)?,
            feed: Feed::new(device, feed, 0)?,
            tokenizer,
            micro_batch,
        })
    }

    /// Features of a text, D.
    #[must_use]
    pub fn width(&self) -> usize {
        self.encoder.features()
    }

    /// The features of texts, [texts, D]; at most as many texts as the encoder was opened for.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`]; [`Error::Device`] when the device fails.
    pub fn encode(&self, device: &Device, texts: &[&str]) -> Result<Vec<f32>> {
        let batch = Batch::from_texts(&self.tokenizer, texts, self.micro_batch)?;
        let mut recording = Recording::new();
        let fed = self.feed.record(&mut recording, &batch, &|_| Vec::new());
        let features = self.encoder.forward(&mut recording, &fed.tokens, None);
        let bytes = (texts.len() * self.width() * 4) as u64;
        let ticket = recording.read_back(&features.front(bytes));
        device.submit(recording)?;
        Ok(bytemuck::pod_collect_to_vec(&device.collect(ticket)?))
    }
}
