//! The sections of a config and the checks of their values. Keys are documented in `defaults.toml`.

use serde::{Deserialize, Deserializer, Serialize};

use super::Config;
use super::number_or_name::number_or_name;
use crate::classifier::InvertedIndex;
use crate::error::{Error, Result};
use crate::evaluate::Metrics;
use crate::kernels::fan_in_dlogits::Loss;
use crate::kernels::products::MatmulPrecision;
use crate::kernels::rewire_gradient::MAX_CANDIDATES;
use crate::kernels::storage::Storage;
use crate::optimize::{Optimizer, Rule, Schedule};

/// Documents of a step, all that it accumulates together.
const MOST_DOCUMENTS: usize = 65_536;

macro_rules! choices {
    ($(#[$doc:meta] $name:ident { $($(#[$variant_doc:meta])* $variant:ident),* $(,)? })*) => {$(
        #[$doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant),* }
    )*};
}

choices! {
    /// `data.format`.
    Format {
        /// Found from the files.
        Auto,
        /// JSON lines.
        Jsonl,
        /// Text lines and a sparse label matrix.
        Matrix,
        /// Text lines and label lines.
        Lines,
        /// The label-feature folders.
        Lf,
    }
    /// `classifier.reduction`.
    Reduction {
        /// Sum over labels, mean over documents.
        DocumentMean,
        /// Sum over both, mean over the micro-batches of a step.
        Sum,
        /// Mean over both.
        Mean,
    }
    /// `classifier.head`.
    HeadKind {
        /// A fixed number of connections a label, rewired.
        FanIn,
        /// All features.
        Dense,
        /// An intermediate layer as wide as the fan-in, and a dense layer over it.
        Bottleneck,
    }
    /// `classifier.pattern`.
    Pattern {
        /// Connections may look at any feature.
        Free,
        /// The f-th of F connections looks into the f-th of F strata of the features.
        Stratified,
    }
    /// `intermediate.activation`.
    IntermediateActivation {
        /// None: the layer is linear, as in the reference's code.
        None,
        /// Rectified linear.
        Relu,
        /// GELU with the error function.
        Gelu,
    }
    /// `auxiliary.normalisation`.
    Normalisation {
        /// Both losses are sums over their outputs, times what the main loss's reduction gives.
        PerDocument,
        /// The auxiliary loss is a mean over documents and clusters, as in the reference.
        Mean,
    }
    /// `rewire.mode`.
    RewireMode {
        /// Indices stay as they started.
        Off,
        /// Prune what is smaller than a threshold.
        Threshold,
        /// Prune the smallest share.
        Fraction,
    }
    /// `schedule` of a threshold or a learning rate.
    ScheduleKind {
        /// A half cosine down.
        Cosine,
        /// No change.
        Constant,
    }
    /// `rewire.growth`.
    RewireGrowth {
        /// New indices are drawn at random.
        Random,
        /// Some are drawn at random, and the one with the largest gradient over the last batch is taken.
        Gradient,
    }
    /// `rewire.init`.
    RewireInit {
        /// Regrown weights are zero.
        Zero,
        /// They are drawn as at the start.
        Random,
    }
    /// `kind` of an optimizer.
    OptimizerKind {
        /// Stochastic gradient descent, with momentum if it is above 0.
        Sgd,
        /// Adam with coupled weight decay.
        Adam,
        /// Adam with decoupled weight decay.
        Adamw,
    }
    /// A name for `classifier.bias_init`.
    BiasRule {
        /// What the labels' mean frequency in train suggests.
        Prior,
    }
    /// `train.evaluate_on`.
    EvaluateOn {
        /// Dev if there is one, else test.
        Auto,
        /// The dev split.
        Dev,
        /// The test split.
        Test,
        /// The training split.
        Train,
        /// Nothing.
        None,
    }
}

/// `data.text`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Text {
    /// The title alone.
    #[serde(rename = "title")]
    Title,
    /// The content alone.
    #[serde(rename = "content")]
    Content,
    /// Both, joined by a space.
    #[serde(rename = "title+content")]
    TitleContent,
}

/// `classifier.bias_init`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum BiasInit {
    /// This number.
    Value(f64),
    /// Computed from the data.
    Named(BiasRule),
}

impl<'de> Deserialize<'de> for BiasInit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number_or_name(deserializer, "a number or \"prior\"", Self::Value, Self::Named)
    }
}

impl BiasInit {
    /// The starting bias of a layer of `labels` labels whose training documents have `labels_per_document` on average.
    ///
    /// The prior is the logit at which BCE expects as many positives as there are; squared hinge wants the margin of a
    /// negative, -1.
    #[must_use]
    pub fn value(self, loss: Loss, labels: usize, labels_per_document: f64) -> f64 {
        match (self, loss) {
            (Self::Value(value), _) => value,
            (Self::Named(BiasRule::Prior), Loss::SquaredHinge) => -1.0,
            (Self::Named(BiasRule::Prior), Loss::Bce) => {
                let share = (labels_per_document / labels.max(1) as f64).clamp(1e-9, 0.5);
                (share / (1.0 - share)).ln()
            }
        }
    }
}

macro_rules! sections {
    ($(#[$doc:meta] $name:ident { $($key:ident: $type:ty),* $(,)? })*) => {$(
        #[$doc]
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(missing_docs, reason = "each key is documented in defaults.toml")]
        pub struct $name { $(pub $key: $type),* }
    )*};
}

sections! {
    /// `[data]`.
    Data { path: String, format: Format, text: Text, augment: bool, max_tokens: usize, cache: String }
    /// `[classifier]`.
    Classifier {
        head: HeadKind, fan_in: usize, pattern: Pattern, group: usize, grouping: String, weights: Storage, moments: Storage, features: Storage, loss: Loss, reduction: Reduction, bias: bool,
        init_scale: f64, bias_init: BiasInit, dense_labels: f64, dense_features: usize, inverted_index: InvertedIndex, device: String,
    }
    /// `[intermediate]`.
    Intermediate { width: usize, activation: IntermediateActivation }
    /// `[auxiliary]`.
    Auxiliary { weight: f64, cutoff_epoch: u32, clusters: String, cluster_size: usize, normalisation: Normalisation }
    /// `[rewire]`.
    Rewire {
        mode: RewireMode, threshold: f64, threshold_end: f64, schedule: ScheduleKind, fraction: f64,
        fraction_schedule: ScheduleKind, per_row: bool, growth: RewireGrowth, candidates: usize, interval: u64,
        until: f64, init: RewireInit, keep_second_moment: bool, by_documents: u32,
    }
    /// `[optimizer]`.
    Optimizers {
        encoder: OptimizerSection, intermediate: OptimizerSection, classifier: OptimizerSection,
        auxiliary: OptimizerSection,
    }
    /// `[optimizer.encoder]`, and those of the other parts.
    OptimizerSection {
        kind: OptimizerKind, lr: f64, weight_decay: f64, momentum: f64, beta1: f64, beta2: f64, epsilon: f64,
        schedule: ScheduleKind, warmup_steps: u64,
    }
    /// `[train]`.
    Train {
        epochs: u32, batch_size: usize, accumulate: usize, seed: u64, evaluate_every: u32, evaluate_on: EvaluateOn,
        checkpoint_every: u64, holdout: f64, select_metric: String, patience: u32, min_delta: f64, clip_norm: f64, deterministic: bool, matmul_precision: MatmulPrecision, kernels_off: String,
    }
    /// `[evaluate]`.
    Evaluate {
        propensity_a: f64, propensity_b: f64, propensity_augmented: bool, batch_size: usize, filter: bool,
    }
}

impl OptimizerSection {
    /// The optimizer for a run of `total` steps.
    #[must_use]
    pub fn optimizer(&self, total: u64) -> Optimizer {
        let rule = match self.kind {
            OptimizerKind::Sgd if self.momentum == 0.0 => Rule::Sgd,
            OptimizerKind::Sgd => Rule::Momentum,
            OptimizerKind::Adam => Rule::Adam,
            OptimizerKind::Adamw => Rule::AdamW,
        };
        let warmup = self.warmup_steps;
        Optimizer {
            rule,
            learning_rate: self.lr,
            weight_decay: self.weight_decay,
            beta1: if self.kind == OptimizerKind::Sgd { self.momentum } else { self.beta1 },
            beta2: self.beta2,
            epsilon: self.epsilon,
            schedule: match self.schedule {
                ScheduleKind::Cosine => Schedule::Cosine { warmup, total },
                ScheduleKind::Constant => Schedule::Constant { warmup },
            },
        }
    }
}

impl Config {
    /// Connections follow documents where each label has its own and each may look anywhere, and then are trained.
    fn check_by_documents(&self) -> Result<()> {
        let (c, epochs) = (&self.classifier, self.rewire.by_documents);
        let why = if epochs == 0 {
            return Ok(());
        } else if epochs >= self.train.epochs {
            format!(
                "is {epochs}; it must be below train.epochs = {}, an epoch has to follow",
                self.train.epochs
            )
        } else if c.head != HeadKind::FanIn {
            "needs classifier.head = \"fan_in\"".to_owned()
        } else if c.group > 1 || c.pattern != Pattern::Free || c.dense_labels > 0.0 {
            "needs connections of the labels' own that may look anywhere: classifier.group = 1, pattern = \"free\", \
             dense_labels = 0"
                .to_owned()
        } else {
            return Ok(());
        };
        Err(Error::config("rewire.by_documents", why))
    }

    /// Checks that every value can work.
    ///
    /// # Errors
    /// [`Error::Config`] with the first key that cannot.
    pub fn check(&self) -> Result<()> {
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
        let (e, c, r, t) = (&self.encoder, &self.classifier, &self.rewire, &self.train);
        at_least_one("data.max_tokens", self.data.max_tokens)?;
        e.check()?;
        at_least_one("classifier.fan_in", c.fan_in)?;
        // A pretrained model's features are known when it is opened.
        if e.kind == super::EncoderKind::Bag {
            self.check_fan_in(*e.hidden.last().unwrap_or(&e.dim))?;
        }
        if !matches!(c.moments, Storage::F32 | Storage::Bf16) {
            return Err(Error::config("classifier.moments", "must be f32 or bf16"));
        }
        if !matches!(c.features, Storage::F32 | Storage::F16) {
            return Err(Error::config("classifier.features", "must be f32 or f16"));
        }
        let narrow = [
            ("classifier.weights", c.weights),
            ("classifier.moments", c.moments),
            ("classifier.features", c.features),
        ];
        let narrow = narrow.into_iter().find(|(_, storage)| *storage != Storage::F32);
        if let (true, Some((key, _))) = (c.head != HeadKind::FanIn, narrow) {
            return Err(Error::config(key, "only the fan_in head is stored narrow; the others take f32"));
        }
        within("classifier.init_scale", c.init_scale, 0.0, 1e6, "0 or more")?;
        if let BiasInit::Value(bias) = c.bias_init {
            within("classifier.bias_init", bias, -1e6, 1e6, "a finite number or \"prior\"")?;
        }
        within("rewire.threshold", r.threshold, 0.0, f64::MAX, "0 or more")?;
        within("rewire.threshold_end", r.threshold_end, 0.0, f64::MAX, "0 or more")?;
        within("rewire.fraction", r.fraction, 0.0, 1.0, "from 0 to 1")?;
        let most = MAX_CANDIDATES as f64;
        within("rewire.candidates", r.candidates as f64, 1.0, most, &format!("from 1 to {most}"))?;
        within("rewire.until", r.until, 0.0, 1.0, "from 0 to 1")?;
        if r.mode != RewireMode::Off {
            at_least_one("rewire.interval", usize::try_from(r.interval).unwrap_or(usize::MAX))?;
        }
        self.check_by_documents()?;
        let o = &self.optimizer;
        for (name, section) in [
            ("encoder", &o.encoder),
            ("intermediate", &o.intermediate),
            ("classifier", &o.classifier),
            ("auxiliary", &o.auxiliary),
        ] {
            section.optimizer(1).check(&format!("optimizer.{name}"))?;
        }
        at_least_one("train.epochs", t.epochs as usize)?;
        at_least_one("train.batch_size", t.batch_size)?;
        at_least_one("train.accumulate", t.accumulate)?;
        within("train.holdout", t.holdout, 0.0, 0.9, "from 0 (none) to 0.9")?;
        within("train.min_delta", t.min_delta, 0.0, 100.0, "from 0 to 100 percent points")?;
        if Metrics::default().get(&t.select_metric).is_none() {
            let message =
                format!("is {:?}; it must be one of {}", t.select_metric, Metrics::names().join(", "));
            return Err(Error::config("train.select_metric", message));
        }
        if t.patience > 0 && t.evaluate_every == 0 {
            let message = "needs evaluations during the run; say train.evaluate_every = 1";
            return Err(Error::config("train.patience", message));
        }
        within("train.clip_norm", t.clip_norm, 0.0, 1e30, "0 (off) or more")?;
        within("train.batch_size", t.batch_size as f64, 1.0, MOST_DOCUMENTS as f64, "at most 65536")?;
        if t.accumulate > MOST_DOCUMENTS / t.batch_size {
            let message = format!(
                "a step takes at most {MOST_DOCUMENTS} documents; with train.batch_size = {} it must be at most {}, is {}",
                t.batch_size,
                MOST_DOCUMENTS / t.batch_size,
                t.accumulate
            );
            return Err(Error::config("train.accumulate", message));
        }
        self.check_heads()?;
        at_least_one("evaluate.batch_size", self.evaluate.batch_size)?;
        within("evaluate.batch_size", self.evaluate.batch_size as f64, 1.0, 65_536.0, "at most 65536")?;
        within("evaluate.propensity_a", self.evaluate.propensity_a, 0.0, 100.0, "0 or more")?;
        within("evaluate.propensity_b", self.evaluate.propensity_b, f64::MIN_POSITIVE, 1e9, "above 0")
    }
}
