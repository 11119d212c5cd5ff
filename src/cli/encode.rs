//! `regrow encode`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::progress::bar;
use super::{DeviceArgs, open, print, say};
use crate::config::Config;
use crate::data::{FEATURES, Texts};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::files::{Dtype, TensorSpec, write_tensors};
use crate::train::{RunFolder, TextEncoder};

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
    /// Pretrained models: longest text in tokens
    #[arg(long, default_value_t = 128)]
    max_tokens: usize,
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
        let device = self.device.open()?;
        let encoder = self.encoder(&device)?;
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

    fn encoder(&self, device: &Device) -> Result<TextEncoder> {
        let path = Path::new(&self.model);
        if let Ok(run) = RunFolder::existing(path) {
            return TextEncoder::open(&run.model(), device, self.batch);
        }
        if path.join("labels.txt").is_file() {
            return TextEncoder::open(path, device, self.batch);
        }
        let mut settings = vec![
            "encoder.kind=transformer".to_owned(),
            format!("encoder.model={}", self.model),
            format!("data.max_tokens={}", self.max_tokens),
            format!("train.batch_size={}", self.batch),
        ];
        settings.extend(self.settings.iter().cloned());
        self.pretrained(device, &settings).map_err(|error| match error {
            // The key that this verb has a flag for.
            Error::Config { key, message } if key == "data.max_tokens" => {
                Error::Usage(format!("--max-tokens: {message}"))
            }
            other => other,
        })
    }

    fn pretrained(&self, device: &Device, settings: &[String]) -> Result<TextEncoder> {
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
