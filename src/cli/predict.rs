//! `regrow predict`.

use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::json;

use super::DeviceArgs;
use crate::classifier::Ranker;
use crate::config::EncoderKind;
use crate::data::{Batch, Texts};
use crate::error::{Error, Result};
use crate::kernels::fan_in_top_k::MAX_K;
use crate::kernels::products::MatmulPrecision;
use crate::train::{Devices, FeedSizes, LoadedModel, RunFolder, load_model, micro_batch, no_text_encoder};

/// Rank the labels of texts.
///
/// Each line of the input is a text, or a JSON object with a "text". Each line of the output is a JSON object:
/// {"labels": [{"label": NAME, "score": LOGIT}, …]}, best first. Input is read and answered in batches, so it may
/// have any length.
#[derive(Args)]
pub(super) struct PredictArgs {
    /// Run folder, or the model folder in it
    run: PathBuf,
    /// File with a text a line, also .gz or .zst; - reads standard input
    #[arg(long, default_value = "-")]
    input: PathBuf,
    /// Labels to list for each text, at most 256
    #[arg(long, default_value_t = 5)]
    top: usize,
    /// Texts that are read before they are answered together
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Answer each text also with the token ids that the model saw
    #[arg(long)]
    tokens: bool,
    /// Another device for the classifier, named as in --device
    #[arg(long, value_name = "cpu|NAME|INDEX", value_parser = NonEmptyStringValueParser::new())]
    classifier_device: Option<String>,
    #[command(flatten)]
    device: DeviceArgs,
}

impl PredictArgs {
    pub(super) fn run(&self) -> Result<()> {
        if self.batch == 0 || self.batch > 65_536 {
            return Err(Error::Usage(format!("--batch must be 1 to 65536, is {}", self.batch)));
        }
        if self.top == 0 || self.top > MAX_K {
            return Err(Error::Usage(format!("--top must be 1 to {MAX_K}, is {}", self.top)));
        }
        let folder = match RunFolder::existing(&self.run) {
            Ok(run) => run.model(),
            Err(_) if self.run.join("model.safetensors").is_file() => self.run.clone(),
            Err(error) => return Err(error),
        };
        let input: Box<dyn Iterator<Item = Result<String>>> = if self.input.as_os_str() == "-" {
            Box::new(Texts::new(BufReader::new(io::stdin()), "standard input"))
        } else {
            Box::new(Texts::open(&self.input)?)
        };
        let classifier = self.classifier_device.as_deref().unwrap_or_default();
        let opened = self.device.open_both(classifier, "--classifier-device", MatmulPrecision::High)?;
        let devices = opened.get();
        let batch = self.batch;
        let loaded = load_model(&folder, devices, |config, tokenizer| {
            if config.encoder.kind == EncoderKind::Features {
                return Err(no_text_encoder(&folder));
            }
            Ok(FeedSizes::of_documents(batch, micro_batch(config), tokenizer.max_tokens()))
        })?;
        let ranker = Ranker::new(devices.classifier, &loaded.model.classifier, self.top, batch)?;
        let mut texts = Vec::with_capacity(batch);
        let mut ended = Ok(());
        for text in input {
            match text {
                Ok(text) => texts.push(text),
                Err(error) => {
                    // What was read before the wrong line is answered, however many texts are taken together.
                    ended = Err(error);
                    break;
                }
            }
            if texts.len() == batch {
                self.answer(devices, &loaded, &ranker, &texts)?;
                texts.clear();
            }
        }
        if !texts.is_empty() {
            self.answer(devices, &loaded, &ranker, &texts)?;
        }
        ended
    }

    fn answer(
        &self,
        devices: Devices<'_>,
        loaded: &LoadedModel,
        ranker: &Ranker,
        texts: &[String],
    ) -> Result<()> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let batch = Batch::from_texts(&loaded.tokenizer, &texts, loaded.model.micro_batch)?;
        let ranked = loaded.model.rank(devices, ranker, &batch, &|_| Vec::new())?.collect(devices)?;
        let mut out = io::stdout().lock();
        let written = ranked.iter().enumerate().try_for_each(|(row, list)| {
            let labels: Vec<_> = list
                .iter()
                .map(|(label, score)| json!({"label": loaded.info.labels.name(*label), "score": score}))
                .collect();
            let mut line = json!({ "labels": labels });
            if self.tokens {
                line["tokens"] = json!(batch.tokens_of(row));
            }
            writeln!(out, "{line}")
        });
        written.and_then(|()| out.flush()).map_err(Error::io("writing", Path::new("standard output")))
    }
}
