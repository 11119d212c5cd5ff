//! A step of several micro-batches with the encoder on one device and the classifier on another: what crosses piece by piece
//! changes nothing, and crosses while the encoder has something to do.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use regrow::classifier::Ranker;
use regrow::config::Config;
use regrow::data::{Batch, LabelClusters, Split};
use regrow::device::{Device, DeviceOptions, Recording, Slice};
use regrow::encoder::{Encoder, Features, PackedTokens, Parameter, Pooling};
use regrow::kernels::activation::Activation;
use regrow::optimize::Rates;
use regrow::pretrained::{Architecture, Family};
use regrow::train::{
    AuxiliarySizes, Calendar, Devices, EncoderSizes, FeedSizes, Model, ModelSizes, Schedules,
};
use serde_json::Value;

/// A transformer of one layer, with every dropout, and everything above it.
fn transformer(devices: Devices<'_>) -> (Config, Model) {
    let settings = [
        "encoder.kind=transformer",
        "encoder.init=scratch",
        "encoder.layers=1",
        "encoder.hidden_dropout=0.1",
        "encoder.attention_dropout=0.1",
        "train.batch_size=4",
        "train.accumulate=3",
        "train.epochs=9",
        "train.deterministic=true",
        "classifier.fan_in=3",
        "intermediate.width=20",
        "intermediate.activation=relu",
        "auxiliary.weight=0.4",
        "auxiliary.cutoff_epoch=9",
    ];
    let config = Config::with_settings(&settings.map(str::to_owned)).unwrap();
    let architecture = Architecture {
        family: Family::Bert,
        vocabulary: 11,
        hidden: 8,
        layers: 1,
        heads: 2,
        intermediate: 12,
        positions: 8,
        first_position: 0,
        token_types: 2,
        activation: Activation::Gelu,
        norm_epsilon: 1e-12,
        hidden_dropout: 0.1,
        attention_dropout: 0.1,
    };
    let sizes = ModelSizes {
        encoder: EncoderSizes::Transformer { architecture, pooling: Pooling::Mean },
        labels: 5,
        auxiliary: Some(AuxiliarySizes { clusters: 3, bias_init: -0.25 }),
        train_batch: 12,
        feed: FeedSizes::of_split(&short_texts(), 12, 4),
        bias_init: -0.5,
        max_block_rows: 0,
    };
    let model = Model::new(devices, &config, sizes).unwrap();
    (config, model)
}

/// 19 documents of one to five tokens of 11, with one or two labels of five.
fn short_texts() -> Split {
    Split::from_documents((0..19_u32).map(|i| {
        let tokens: Vec<u32> = (0..=i % 5).map(|place| (i * 3 + place * 7) % 11).collect();
        let mut labels = vec![i % 5, i * 2 % 5];
        labels.sort_unstable();
        labels.dedup();
        (tokens, labels)
    }))
}

/// A step of micro-batches of four, four and three documents, one of four and two, one of two.
const STEPS: [Range<u32>; 3] = [0..11, 11..17, 17..19];

fn batch_of(rows: Range<u32>) -> Batch {
    let mut batch = Batch::assemble(&short_texts(), &rows.collect::<Vec<_>>(), 4);
    batch.find_clusters(&LabelClusters::new(vec![0, 1, 2, 0, 1]).unwrap());
    batch
}

/// Losses, ranked labels and the encoder's numbers, as bits.
fn bits_of_micro_batches(devices: Devices<'_>) -> Vec<u32> {
    let (config, model) = transformer(devices);
    let schedules = Schedules::new(&config, &Calendar::new(&config, 19));
    let mut bits = Vec::new();
    for (step, rows) in STEPS.iter().chain(&STEPS).enumerate() {
        let outcome = model.train_step(devices, &config, &schedules, &batch_of(rows.clone()), step as u64);
        let losses = outcome.unwrap().losses(devices).unwrap();
        bits.extend([losses.main, losses.auxiliary.unwrap()].map(f32::to_bits));
    }
    let ranker = Ranker::new(devices.classifier, &model.classifier, 5, 12).unwrap();
    let ranked = model.rank(devices, &ranker, &batch_of(0..11), &|_| Vec::new()).unwrap();
    for list in ranked.collect(devices).unwrap() {
        bits.extend(list.into_iter().flat_map(|(label, score)| [label, score.to_bits()]));
    }
    for parameter in model.encoder.parameters() {
        bits.extend(devices.encoder.read_vec::<u32>(&parameter.values, parameter.len()).unwrap());
    }
    bits
}

/// On a GPU the pieces are really on their way while the next are computed.
#[test]
fn micro_batches_that_cross_change_no_bit() {
    let options = DeviceOptions::default();
    for open in [Device::cpu, |options| Device::gpu(None, options)] {
        let devices = [(); 2].map(|()| open(options).unwrap());
        let one = bits_of_micro_batches(Devices::from(&devices[0]));
        let two = bits_of_micro_batches(Devices { encoder: &devices[0], classifier: &devices[1] });
        assert_eq!(one, two, "{}", devices[0].name());
    }
}

/// An encoder that notes how much each device was given when a pass of a micro-batch is recorded.
struct Watched {
    encoder: Box<dyn Encoder>,
    devices: Arc<[Device; 2]>,
    seen: Arc<Mutex<Vec<Moment>>>,
}

/// A pass (`f`orward or `b`ackward) of a micro-batch, and what the devices of encoder and classifier were given before.
type Moment = (char, usize, [u64; 2]);

impl Watched {
    fn note(&self, pass: char, number: usize) {
        self.seen.lock().unwrap().push((pass, number, self.devices.each_ref().map(Device::queued)));
    }
}

impl Encoder for Watched {
    fn features(&self) -> usize {
        self.encoder.features()
    }

    fn forward_one(
        &self,
        recording: &mut Recording,
        batch: &[PackedTokens],
        number: usize,
        step: Option<u64>,
    ) -> Slice {
        self.note('f', number);
        self.encoder.forward_one(recording, batch, number, step)
    }

    fn feature_gradient(&self) -> Option<Slice> {
        self.encoder.feature_gradient()
    }

    fn backward_one(&self, recording: &mut Recording, batch: &[PackedTokens], number: usize, step: u64) {
        self.note('b', number);
        self.encoder.backward_one(recording, batch, number, step);
    }

    fn update(&self, recording: &mut Recording, batch: &[PackedTokens], rates: Rates, step: u64) {
        self.encoder.update(recording, batch, rates, step);
    }

    fn parameters(&self) -> &[Parameter] {
        self.encoder.parameters()
    }

    fn describe(&self) -> Value {
        self.encoder.describe()
    }
}

/// The classifier's device gets to work before the first forward pass; features go up while the next micro-batch but one
/// is still to come; the last micro-batch's backward pass is queued before the others' gradient is there.
#[test]
fn crossings_and_passes_take_turns() {
    let devices = Arc::new([(); 2].map(|()| Device::cpu(DeviceOptions::default()).unwrap()));
    let both = Devices { encoder: &devices[0], classifier: &devices[1] };
    let (config, mut model) = transformer(both);
    let seen = Arc::default();
    let encoder = std::mem::replace(&mut model.encoder, Box::new(Features::new(1)));
    model.encoder = Box::new(Watched { encoder, devices: devices.clone(), seen: Arc::clone(&seen) });
    let schedules = Schedules::new(&config, &Calendar::new(&config, 19));
    let moments = |rows: Range<u32>| -> Vec<Moment> {
        let start = devices.each_ref().map(Device::queued);
        model.train_step(both, &config, &schedules, &batch_of(rows), 0).unwrap();
        let since = |now: [u64; 2]| [now[0] - start[0], now[1] - start[1]];
        std::mem::take(&mut *seen.lock().unwrap())
            .into_iter()
            .map(|(pass, number, now)| (pass, number, since(now)))
            .collect()
    };
    let three = [
        ('f', 0, [0, 1]),
        ('f', 1, [1, 1]),
        // The first features are up, the second are computed.
        ('f', 2, [2, 2]),
        // All are up, the sweep is queued, the last gradient is down.
        ('b', 2, [4, 6]),
        // The last backward pass is queued, and the others' gradient is down.
        ('b', 0, [6, 6]),
        ('b', 1, [6, 6]),
    ];
    assert_eq!(moments(STEPS[0].clone()), three);
    assert_eq!(moments(STEPS[2].clone()), [('f', 0, [0, 1]), ('b', 0, [2, 3])]);
}
