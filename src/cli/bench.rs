//! `regrow bench`.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{DeviceArgs, print, say};
use crate::bench::{BenchOptions, EncoderShape, EncoderSizes, LayerSizes, Report, bench};
use crate::classifier::InvertedIndex;
use crate::error::{Error, Result};
use crate::kernels::products::MatmulPrecision;
use crate::kernels::storage::{Indices, Precision, Storage};
use crate::optimize::Rule;

/// Measure this device's limits (copying, multiply-adds, gathers) and beside them a training step of the classifier, a
/// ranking, a rewiring and a training step of an encoder. Needs no data. Results are only as calm as the machine: the
/// control row tells.
#[derive(Args)]
pub(super) struct BenchArgs {
    /// Labels of the classifier
    #[arg(long, default_value_t = 131_072)]
    labels: usize,
    /// Connections of a label
    #[arg(long, default_value_t = 32)]
    fan_in: usize,
    /// Features of the encoder
    #[arg(long, default_value_t = 768)]
    features: usize,
    /// Which features a label's connections may look at
    #[arg(long, value_enum, default_value = "free")]
    pattern: PatternArg,
    /// Labels that share their indices
    #[arg(long, default_value_t = 1)]
    group: usize,
    /// Documents of a step
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// How weights are stored
    #[arg(long, value_enum, default_value = "f32")]
    weights: StorageArg,
    /// How the optimizer's states are stored
    #[arg(long, value_enum, default_value = "f32")]
    moments: MomentsArg,
    /// Whether the lists that say which connections look at a feature are kept: classifier.inverted_index
    #[arg(long, value_enum, default_value = "auto")]
    inverted_index: IndexArg,
    /// Round features to 16 bits in the classifier's step
    #[arg(long)]
    half_features: bool,
    /// The classifier's optimizer
    #[arg(long, value_enum, default_value = "sgd")]
    optimizer: RuleArg,
    /// The encoder: none, tiny (2 layers of 128), minilm (6 of 384) or bert (12 of 768)
    #[arg(long, value_enum, default_value = "minilm")]
    encoder: EncoderArg,
    /// Documents of the encoder's step
    #[arg(long, default_value_t = 16)]
    encoder_batch: usize,
    /// Tokens of the encoder's documents
    #[arg(long, default_value_t = 32)]
    tokens: usize,
    /// Documents of the lengths that titles have, up to --tokens
    #[arg(long)]
    short: bool,
    /// What products of matrices keep of their operands: highest, f32; high, also a GPU's matrix units in f16; medium, also
    /// those of an x86 CPU (AMX) in bf16
    #[arg(long, value_enum, default_value = "high")]
    matmul_precision: PrecisionArg,
    /// Seconds for each row
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Put a report beside this one: a file that --json wrote, of the same sizes
    #[arg(long, value_name = "REPORT.json")]
    compare: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum StorageArg {
    F32,
    F16,
    Bf16,
    Fp8,
}

#[derive(Clone, Copy, ValueEnum)]
enum PatternArg {
    /// Any
    Free,
    /// Those of a stratum of its own
    Stratified,
}

#[derive(Clone, Copy, ValueEnum)]
enum IndexArg {
    /// Rebuilt on software Vulkan where it is large
    Auto,
    /// Kept
    Kept,
    /// Rebuilt in every step
    Rebuilt,
}

#[derive(Clone, Copy, ValueEnum)]
enum MomentsArg {
    F32,
    Bf16,
}

#[derive(Clone, Copy, ValueEnum)]
enum RuleArg {
    Sgd,
    Momentum,
    Adam,
    Adamw,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionArg {
    Highest,
    High,
    Medium,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EncoderArg {
    None,
    Tiny,
    Minilm,
    Bert,
}

impl BenchArgs {
    pub(super) fn run(&self) -> Result<()> {
        if !(self.seconds > 0.0 && self.seconds <= 600.0) {
            return Err(Error::Usage(format!(
                "--seconds must be above 0 and at most 600, is {}",
                self.seconds
            )));
        }
        let options = self.options();
        let other = self.other(&options.sizes())?;
        let device = self.device.open(options.precision)?;
        let watched = io::stderr().is_terminal();
        let report = bench(&device, &options, &mut |what| {
            if watched {
                say(&format!("measuring: {what}"));
            }
        })?;
        if self.json {
            print(&serde_json::to_string(&report).unwrap_or_default())?;
        } else {
            report.lines().iter().try_for_each(|line| print(line))?;
        }
        match other {
            Some(other) => report.beside(&other).iter().try_for_each(|line| print(line)),
            None => Ok(()),
        }
    }

    /// The report to compare with, read before anything is measured.
    fn other(&self, sizes: &str) -> Result<Option<Report>> {
        let Some(path) = &self.compare else { return Ok(None) };
        let text = fs::read_to_string(path).map_err(Error::io("reading", path))?;
        let report: Report = serde_json::from_str(&text).map_err(|error| {
            Error::artefact(path, format!("is no report of regrow bench --json: {error}"))
        })?;
        if report.sizes != sizes {
            return Err(Error::Usage(format!(
                "{} measured other sizes: {} there, {sizes} here",
                path.display(),
                report.sizes
            )));
        }
        Ok(Some(report))
    }

    fn options(&self) -> BenchOptions {
        let weights = match self.weights {
            StorageArg::F32 => Storage::F32,
            StorageArg::F16 => Storage::F16,
            StorageArg::Bf16 => Storage::Bf16,
            StorageArg::Fp8 => Storage::Fp8,
        };
        let moments = match self.moments {
            MomentsArg::F32 => Storage::F32,
            MomentsArg::Bf16 => Storage::Bf16,
        };
        let indices = match self.pattern {
            PatternArg::Free => Indices::Free,
            PatternArg::Stratified => Indices::Stratified { features: self.features },
        };
        let features = if self.half_features { Storage::F16 } else { Storage::F32 };
        let shape = match self.encoder {
            EncoderArg::None => None,
            EncoderArg::Tiny => Some(EncoderShape::Tiny),
            EncoderArg::Minilm => Some(EncoderShape::Minilm),
            EncoderArg::Bert => Some(EncoderShape::Bert),
        };
        BenchOptions {
            layer: LayerSizes {
                labels: self.labels,
                features: self.features,
                fan_in: self.fan_in,
                group: self.group,
                batch: self.batch,
                rule: match self.optimizer {
                    RuleArg::Sgd => Rule::Sgd,
                    RuleArg::Momentum => Rule::Momentum,
                    RuleArg::Adam => Rule::Adam,
                    RuleArg::Adamw => Rule::AdamW,
                },
                precision: Precision { weights, moments, features, indices },
                inverted_index: match self.inverted_index {
                    IndexArg::Auto => InvertedIndex::Auto,
                    IndexArg::Kept => InvertedIndex::Kept,
                    IndexArg::Rebuilt => InvertedIndex::Rebuilt,
                },
            },
            encoder: shape.map(|shape| EncoderSizes {
                shape,
                batch: self.encoder_batch,
                tokens: self.tokens,
                short: self.short,
            }),
            precision: match self.matmul_precision {
                PrecisionArg::Highest => MatmulPrecision::Highest,
                PrecisionArg::High => MatmulPrecision::High,
                PrecisionArg::Medium => MatmulPrecision::Medium,
            },
            seconds: self.seconds,
        }
    }
}
