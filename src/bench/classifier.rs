//! The fixed fan-in layer alone: a training step, a ranking, a rewiring.

use super::timer::time;
use super::{CACHE, Row, Work};
use crate::classifier::{
    FanIn, FanInOptions, Head, InvertedIndex, Loss, Positives, Prune, Ranker, Regrow, Step, StepScale,
};
use crate::config::GROUPS;
use crate::device::{Buffer, Device, Recording, Slice};
use crate::error::{Error, Result};
use crate::kernels::columns_of;
use crate::kernels::storage::{Indices, Precision, Storage};
use crate::optimize::{Optimizer, Rule, Schedule};
use crate::random::{Purpose, below, unit, words};
use crate::train::Plan;

/// Labels that a ranking returns.
const RANKED: usize = 5;
/// Share of the connections that a rewiring prunes.
const REWIRED: f64 = 0.15;
/// Positive labels of a document.
const POSITIVES: usize = 3;

/// The layer that is measured.
#[derive(Clone, Copy, Debug)]
pub struct LayerSizes {
    /// Labels, L.
    pub labels: usize,
    /// Features, D.
    pub features: usize,
    /// Connections of a label, F.
    pub fan_in: usize,
    /// Labels that share a row of indices.
    pub group: usize,
    /// Documents of a training step and of a ranking, B.
    pub batch: usize,
    /// Update rule.
    pub rule: Rule,
    /// How weights, states and indices are stored.
    pub precision: Precision,
    /// What becomes of the inverted index.
    pub inverted_index: InvertedIndex,
}

impl LayerSizes {
    /// What can be told before anything is allocated.
    pub(super) fn check(&self) -> Result<()> {
        let Self { labels, features, fan_in, group, batch, .. } = self;
        match [
            ("labels", labels),
            ("features", features),
            ("fan_in", fan_in),
            ("group", group),
            ("batch", batch),
        ]
        .iter()
        .find(|(_, size)| **size == 0)
        {
            Some((name, _)) => Err(Error::Usage(format!("{name} must be at least 1, is 0"))),
            None if !GROUPS.contains(group) => {
                Err(Error::Usage(format!("group must be 1, 8, 16, 32 or 64, is {group}")))
            }
            None => Ok(()),
        }
    }

    /// The layer of these sizes.
    pub(super) fn options(&self) -> FanInOptions {
        FanInOptions {
            labels: self.labels,
            features: self.features,
            fan_in: self.fan_in,
            group: self.group,
            max_batch: self.batch,
            rule: self.rule,
            precision: self.precision,
            train_bias: true,
            init_scale: 0.1,
            bias_init: -5.0,
            seed: 1,
            max_block_rows: 0,
            inverted_index: self.inverted_index,
        }
    }

    /// Whether the layer fits into the memory that is free.
    pub(super) fn check_memory(&self, device: &Device) -> Result<()> {
        let planning = device.planning();
        let _layer = FanIn::new(&planning, self.options())?;
        Plan::of_device(&planning, self.labels, self.fan_in).check()
    }

    pub(super) fn describe(&self) -> String {
        let Self { labels, features, fan_in, group, batch, rule, precision, inverted_index } = self;
        let Precision { weights, moments, features: rounded, indices } = precision;
        let rounded = if *rounded == Storage::F32 { "" } else { ", features f16" };
        let group = if *group > 1 { format!(", groups of {group}") } else { String::new() };
        let stratified = if *indices == Indices::Free { "" } else { ", stratified" };
        let index = match inverted_index {
            InvertedIndex::Auto => "",
            InvertedIndex::Kept => ", inverted index kept",
            InvertedIndex::Rebuilt => ", inverted index rebuilt",
        };
        // As the flags name them.
        let rule = format!("{rule:?}").to_lowercase();
        let [weights, moments] = [weights, moments].map(|storage| format!("{storage:?}").to_lowercase());
        format!(
            "{labels} labels, fan-in {fan_in}{stratified}{group}, {features} features, batch {batch}, {rule}, weights {weights}, \
             moments {moments}{rounded}{index}"
        )
    }

    /// Bytes that one pass over the layer moves at least: everything label-sized read once, what is trained written
    /// once, the features read once, their gradient written once.
    fn least_bytes(&self) -> f64 {
        let connections = (self.labels * self.fan_in) as f64;
        let weights = connections * self.precision.weights.bytes() as f64;
        let states = connections * (self.rule.states() * self.precision.moments.bytes()) as f64;
        let index_words = self.precision.indices.rows(self.fan_in).words();
        let indices = (self.labels.div_ceil(self.group) * index_words * 4) as f64;
        let biases = (self.labels * 4 * (1 + self.rule.states())) as f64;
        let features = (self.features * columns_of(self.batch) * 4) as f64;
        2.0 * (weights + states + biases + features) + indices
    }

    /// Work of one walk of all documents over all connections.
    fn walk(&self) -> f64 {
        self.labels as f64 * self.fan_in as f64 * columns_of(self.batch) as f64
    }
}

/// What a step needs besides the layer.
struct Inputs {
    x: Slice,
    dx: Slice,
    losses: Buffer,
    positives: Positives,
}

impl Inputs {
    fn new(device: &Device, sizes: &LayerSizes) -> Result<Self> {
        let columns = columns_of(sizes.batch);
        let random = |i: u32| words(1, Purpose::Synth, 0, i, 0)[0];
        let mut x = vec![0.0_f32; sizes.features * columns];
        for (i, value) in x.iter_mut().enumerate().filter(|(i, _)| i % columns < sizes.batch) {
            *value = unit(random(i as u32)) - 0.5;
        }
        let mut pairs: Vec<[u32; 2]> = (0..(POSITIVES * sizes.batch) as u32)
            .map(|i| [below(random(!i), sizes.labels as u32), i / POSITIVES as u32])
            .collect();
        pairs.sort_unstable();
        pairs.dedup();
        Ok(Self {
            x: device.upload("x", &x)?.whole(),
            dx: device.allocate("dx", (x.len() * 4) as u64)?.whole(),
            losses: device.allocate("losses", 16)?,
            positives: Positives {
                count: pairs.len(),
                pairs: device.upload("positives", pairs.as_flattened())?.whole(),
            },
        })
    }

    fn record(&self, head: &Head, sizes: &LayerSizes, optimizer: &Optimizer, step: u64) -> Recording {
        let mut recording = Recording::new();
        recording.clear(self.dx.clone());
        recording.clear(&self.losses);
        let scale = 1.0 / sizes.batch as f32;
        head.record_step(
            &mut recording,
            &Step {
                batch: sizes.batch,
                loss: Loss::Bce,
                scale: StepScale { gradient: scale, loss: scale, place: 0 },
                step,
                rates: optimizer.rates(step),
                positives: &self.positives,
                x: &self.x,
                dx: &self.dx,
                losses: &self.losses.whole(),
            },
        );
        recording
    }
}

fn optimizer(rule: Rule) -> Optimizer {
    let adam = matches!(rule, Rule::Adam | Rule::AdamW);
    Optimizer {
        rule,
        learning_rate: 0.01,
        weight_decay: 0.0,
        beta1: if rule == Rule::Sgd { 0.0 } else { 0.9 },
        beta2: if adam { 0.999 } else { 0.0 },
        epsilon: 1e-8,
        schedule: Schedule::Constant { warmup: 0 },
    }
}

/// The rows of the layer.
pub(super) fn measure(
    device: &Device,
    sizes: &LayerSizes,
    seconds: f64,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<Row>> {
    progress("wiring the layer");
    let head = Head::FanIn(FanIn::new(device, sizes.options())?);
    let inputs = Inputs::new(device, sizes)?;
    let optimizer = optimizer(sizes.rule);
    let documents = |row: &Row| Some(sizes.batch as f64 / (row.milliseconds / 1e3));

    progress("classifier step");
    let recording = inputs.record(&head, sizes, &optimizer, 0);
    let bytes = recording.bytes_moved(device.runs_fused());
    let memory_bytes = recording.bytes_moved_past(CACHE, device.runs_fused());
    drop(recording);
    let mut number = 0;
    let mut step = time("classifier step", seconds, || {
        device.submit(inputs.record(&head, sizes, &optimizer, number))?;
        number += 1;
        device.wait()
    })?;
    let walk = sizes.walk();
    let fetches = head.fan_in().map_or(3.0, FanIn::fetches_of_a_step);
    step.work = Some(Work { bytes: bytes as f64, multiply_adds: 3.0 * walk, gathers: fetches * walk });
    step.bytes_over_bound = Some(bytes as f64 / sizes.least_bytes());
    step.memory_bytes_over_bound = Some(memory_bytes as f64 / sizes.least_bytes());
    step.documents_per_second = documents(&step);

    progress("ranking");
    let ranker = Ranker::new(device, &head, RANKED, sizes.batch)?;
    let nothing = device.upload("no filter", &vec![0_u32; sizes.batch + 1])?.whole();
    let rank = || {
        let mut recording = Recording::new();
        let ranked = ranker.record(&mut recording, &head, sizes.batch, &inputs.x, [&nothing, &nothing]);
        (recording, ranked)
    };
    let bytes = rank().0.bytes_moved(device.runs_fused());
    let mut ranking = time("ranking, top 5", seconds, || {
        let (recording, ranked) = rank();
        device.submit(recording)?;
        ranked.collect(device).map(|_| ())
    })?;
    // The CPU gathers once for a whole group.
    let together = if device.runs_fused() { sizes.group as f64 } else { 1.0 };
    ranking.work = Some(Work { bytes: bytes as f64, multiply_adds: walk, gathers: walk / together });
    ranking.documents_per_second = documents(&ranking);

    let Some(layer) = head.fan_in() else { return Ok(vec![step, ranking]) };
    progress("rewiring");
    let mut number = 0;
    let rewiring = time("rewiring, 15 %", seconds, || {
        number += 1;
        layer
            .rewire(
                device,
                Prune::Fraction(REWIRED),
                Regrow { bound: 0.0, step: number, keep_second_moment: false },
            )
            .map(|_| ())
    })?;
    Ok(vec![step, ranking, rewiring])
}
