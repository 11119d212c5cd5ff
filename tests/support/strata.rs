//! Layers whose indices lie in strata, on the host and on a device.

use regrow::classifier::{Contents, FanIn, FanInOptions, Loss, Positives, Step, StepScale};
use regrow::device::{Device, Recording};
use regrow::kernels::fan_in_dlogits::Block;
use regrow::kernels::optimizer::Rule;
use regrow::kernels::storage::{Indices, Precision, Storage};
use regrow::kernels::{columns_of, index_words};

use super::device::{Numbers, upload};
use super::layer::{Hyper, Layer};

pub const SCALE: f32 = 0.25;

pub const SEED: u64 = 0xfeed_5eed_0000_0003;

/// ⌊f · D / F⌋ and the next.
pub fn stratum(slot: usize, fan_in: usize, features: usize) -> [usize; 2] {
    [slot, slot + 1].map(|slot| slot * features / fan_in)
}

pub fn block(rows: usize, fan_in: usize, group: usize, batch: usize) -> Block {
    Block { rows, first_label: 0, fan_in, group, batch, precision: Precision::default() }
}

/// Strata of one feature, of unequal widths, of 256 features in a byte each, and of more, which take two; rows that end
/// within words; groups; several parts of the sweep and several runs of the feature gradient.
pub fn shapes() -> Vec<(Block, usize)> {
    vec![
        (block(1, 1, 1, 1), 3),
        (block(7, 3, 1, 7), 10),
        (block(33, 9, 4, 5), 9),
        (block(65, 33, 1, 33), 65),
        (block(300, 5, 1, 7), 12),
        (block(300, 9, 8, 33), 20),
        (block(75, 17, 32, 7), 40),
        (block(40, 3, 1, 20), 768),
        (block(50, 2, 4, 20), 100),
        (block(30, 2, 1, 5), 10_000),
        (block(40, 3, 8, 20), 769),
        (block(2500, 4, 8, 5), 70),
    ]
}

/// Indices of a layer within their strata, as features.
pub fn stratify(layer: &mut Layer, seed: u64) {
    let (fan_in, features) = (layer.block.fan_in, layer.features);
    let mut numbers = Numbers::new(seed + 300);
    for row in layer.indices.chunks_exact_mut(index_words(fan_in) * 2) {
        for (slot, index) in row[..fan_in].iter_mut().enumerate() {
            let [start, end] = stratum(slot, fan_in, features);
            *index = (start + numbers.below(end - start)) as u16;
        }
    }
}

pub fn sample(shape: (Block, usize), seed: u64, storage: Storage) -> Layer {
    let mut layer = Layer::new(shape, seed);
    layer.weights.iter_mut().for_each(|w| *w = storage.decode(storage.nearest(*w)));
    stratify(&mut layer, seed);
    layer
}

/// Numbers that every storage has and whose sums are exact.
pub fn integers(shape: (Block, usize), seed: u64) -> Layer {
    let mut layer = Layer::integers(shape, seed);
    stratify(&mut layer, seed);
    layer
}

pub fn contents(layer: &Layer) -> Contents {
    let fan_in = layer.block.fan_in;
    let rows = layer.indices.chunks_exact(index_words(fan_in) * 2);
    Contents {
        weights: layer.weights.clone(),
        indices: rows.flat_map(|row| row[..fan_in].to_vec()).collect(),
        bias: layer.bias.clone(),
    }
}

pub fn options(layer: &Layer, precision: Precision, rule: Rule, max_block_rows: usize) -> FanInOptions {
    let Block { rows, fan_in, group, batch, .. } = layer.block;
    FanInOptions {
        labels: rows,
        features: layer.features,
        fan_in,
        group,
        max_batch: batch,
        rule,
        precision,
        train_bias: true,
        init_scale: 1.0,
        bias_init: 0.0,
        seed: SEED,
        max_block_rows,
        inverted_index: Default::default(),
    }
}

pub fn stratified(layer: &Layer, weights: Storage, moments: Storage) -> Precision {
    Precision {
        weights,
        moments,
        indices: Indices::Stratified { features: layer.features },
        ..Precision::default()
    }
}

pub fn on(device: &Device, layer: &Layer, options: FanInOptions) -> FanIn {
    let fan = FanIn::allocate(device, options).unwrap();
    fan.set_contents(device, &contents(layer)).unwrap();
    assert_eq!(fan.contents(device).unwrap(), contents(layer));
    fan
}

/// The positives of the labels that are there.
pub fn positives(device: &Device, layer: &Layer) -> Positives {
    let labels = layer.block.rows as u32;
    let mut pairs: Vec<[u32; 2]> = layer.positives.iter().copied().filter(|pair| pair[0] < labels).collect();
    let count = pairs.len();
    pairs.resize(count.max(1), [u32::MAX; 2]);
    Positives { count, pairs: upload(device, &pairs) }
}

/// One step; gives (loss, dx).
pub fn train(device: &Device, fan: &FanIn, layer: &Layer, rule: Rule, step: u64) -> (f32, Vec<f32>) {
    let batch = layer.block.batch;
    let area = layer.features * columns_of(batch);
    let (x, dx) = (upload(device, &layer.x), device.allocate("dx", (area * 4) as u64).unwrap());
    let losses = device.allocate("losses", 16).unwrap();
    let mut recording = Recording::new();
    recording.clear(&dx);
    recording.clear(&losses);
    fan.record_step(
        &mut recording,
        &Step {
            batch,
            loss: Loss::Bce,
            scale: StepScale { gradient: SCALE, loss: 1.0, place: 0 },
            step,
            rates: Hyper::SAMPLE.rates(rule),
            positives: &positives(device, layer),
            x: &x,
            dx: &dx.whole(),
            losses: &losses.whole(),
        },
    );
    device.submit(recording).unwrap();
    (device.read_vec::<f32>(&losses, 1).unwrap()[0], device.read_vec(&dx, area).unwrap())
}
