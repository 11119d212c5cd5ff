//! `regrow encode`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::progress::bar;
use super::{DeviceArgs, check_target, open, print, say};
use crate::config::Config;
use crate::data::{FEATURES, Texts};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::{Dtype, TensorSpec, write_tensors};
use crate::kernels::products::MatmulPrecision;
use crate::train::{RunFolder, TextEncoder};

/// Tokens of a text that a pretrained model sees at most, unless --max-tokens says otherwise.
const MAX_TOKENS: usize = 128;

/// Write the features of texts to a safetensors file.
///
/// Line i of the input becomes row i of the tensor "features" [N, D], f32. A classifier alone is then trained with
/// encoder.kind = "features" and encoder.features = the folder with train.safetensors (and dev, test).
#[derive(Args)]
pub(super) struct EncodeArgs {
    /// Run folder, the model folder in it, a folder with a pretrained model, or its Hugging Face id
    model: String,
    /// File with a text a line, or JSON lines with a "text"; also .gz or .zst
    #[arg(long)]
    input: PathBuf,
    /// The file to write, .safetensors
    #[arg(long)]
    output: PathBuf,
    /// Texts that are encoded together
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Pretrained models: longest text in tokens [default: 128]
    #[arg(long)]
    max_tokens: Option<usize>,
    /// Pretrained models: change another key of the config's encoder section; may be repeated
    #[arg(long = "set", value_name = "encoder.KEY=VALUE")]
    settings: Vec<String>,
    #[command(flatten)]
    device: DeviceArgs,
}

impl EncodeArgs {
    pub(super) fn run(&self) -> Result<()> {
        if self.batch == 0 || self.batch > 65_536 {
            return Err(Error::Usage(format!("--batch must be 1 to 65536, is {}", self.batch)));
        }
        // Whoever reads the file goes by its name.
        if self.output.extension().is_none_or(|extension| extension != "safetensors") {
            let output = self.output.display();
            return Err(Error::Usage(format!("--output {output}: name a file that ends in .safetensors")));
        }
        check_target("--output", &self.output)?;
        let trained = self.trained_model();
        if trained.is_some() {
            self.refuse_flags_of_pretrained_models()?;
        }
        let device = self.device.open(MatmulPrecision::High)?;
        let encoder = match trained {
            Some(folder) => TextEncoder::open(&folder, &device, self.batch)?,
            None => self.pretrained(&device)?,
        };
        // The file's header comes first and tells the number of rows.
        let rows = count(&self.input)?;
        say(&format!("{rows} texts to {} features each on {}", encoder.width(), device.name()));
        let bar = bar(rows as u64, "encoding {bar:30} {pos}/{len} {per_sec} {eta}");
        let specs = [TensorSpec::new(FEATURES, Dtype::F32, vec![rows, encoder.width()])];
        let written = write_tensors(&self.output, &[].into(), &specs, &mut |_, out| {
            let mut texts = Texts::open(&self.input)?;
            let mut done = 0;
            while done < rows {
                let batch: Vec<String> = texts.by_ref().take(self.batch).collect::<Result<_>>()?;
                if batch.is_empty() {
                    return Err(Error::data(&self.input, "became shorter while it was read"));
                }
                let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
                let features = encoder.encode(&device, &batch)?;
                out.write_all(bytemuck::cast_slice(&features)).map_err(Error::io("writing", &self.output))?;
                done += batch.len();
                bar.set_position(done as u64);
            }
            Ok(())
        });
        bar.finish_and_clear();
        written?;
        print(&format!("{rows} rows: {}", self.output.display()))
    }

    /// The model folder, where the model is one that regrow trained.
    fn trained_model(&self) -> Option<PathBuf> {
        let path = Path::new(&self.model);
        match RunFolder::existing(path) {
            Ok(run) => Some(run.model()),
            Err(_) => path.join("labels.txt").is_file().then(|| path.to_path_buf()),
        }
    }

    /// A trained model encodes as it was trained; ignoring what the user asked for would give other features than meant.
    fn refuse_flags_of_pretrained_models(&self) -> Result<()> {
        let flag = match (self.max_tokens, &self.settings[..]) {
            (Some(_), _) => "--max-tokens",
            (None, [_, ..]) => "--set",
            (None, []) => return Ok(()),
        };
        Err(Error::Usage(format!(
            "{flag} is for pretrained models; {} was trained by regrow and encodes as it was trained",
            self.model
        )))
    }

    fn pretrained(&self, device: &Device) -> Result<TextEncoder> {
        let mut settings = vec![
            "encoder.kind=transformer".to_owned(),
            format!("encoder.model={}", self.model),
            format!("data.max_tokens={}", self.max_tokens.unwrap_or(MAX_TOKENS)),
            format!("train.batch_size={}", self.batch),
        ];
        settings.extend(self.settings.iter().cloned());
        self.configured(device, &settings).map_err(|error| match error {
            // The key that this verb has a flag for.
            Error::Config { key, message } if key == "data.max_tokens" => {
                Error::Usage(format!("--max-tokens: {message}"))
            }
            other => other,
        })
    }

    fn configured(&self, device: &Device, settings: &[String]) -> Result<TextEncoder> {
        let config = Config::with_settings(settings)?;
        let source = open::encoder_source(&config)?;
        TextEncoder::pretrained(device, &config, &source, self.batch)
    }
}

fn count(path: &Path) -> Result<usize> {
    let mut rows = 0;
    for text in Texts::open(path)? {
        text?;
        rows += 1;
    }
    if rows == 0 {
        return Err(Error::data(path, "has no line"));
    }
    Ok(rows)
}
