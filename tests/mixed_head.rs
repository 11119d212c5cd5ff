//! The layer whose first labels are dense and whose others are fixed fan-in: logits, one step and rankings against the
//! formulas, computed here in f64, on every engine.

mod support;

use regrow::classifier::{
    Contents, Dense, DenseOptions, DenseRole, FanIn, FanInOptions, Head, Loss, Mixed, Positives, Ranker,
    Step, StepScale,
};
use regrow::device::{Device, Recording, Slice};
use regrow::kernels::columns_of;
use regrow::kernels::optimizer::Rule;
use regrow::kernels::products::Products;
use regrow::kernels::storage::Precision;
use support::device::{Numbers, assert_close, engines, sum_tolerance, upload, writable};
use support::layer::Hyper;

/// Sizes of a layer.
#[derive(Clone, Copy, Debug)]
struct Shape {
    dense: usize,
    tail: usize,
    features: usize,
    /// Features of the dense part alone; 0: all are for both.
    private: usize,
    fan_in: usize,
    group: usize,
    batch: usize,
    /// 0: one block each.
    block: usize,
}

/// Of every kind: one label each, shared features, features of their own, groups, several blocks.
const SHAPES: [Shape; 5] = [
    Shape { dense: 1, tail: 1, features: 3, private: 0, fan_in: 2, group: 1, batch: 1, block: 0 },
    Shape { dense: 5, tail: 40, features: 9, private: 0, fan_in: 9, group: 1, batch: 7, block: 0 },
    Shape { dense: 6, tail: 33, features: 20, private: 8, fan_in: 5, group: 1, batch: 17, block: 16 },
    Shape { dense: 3, tail: 70, features: 13, private: 4, fan_in: 7, group: 8, batch: 33, block: 32 },
    Shape { dense: 21, tail: 20, features: 8, private: 4, fan_in: 3, group: 16, batch: 16, block: 16 },
];

/// The numbers of a layer and a batch.
struct Truth {
    shape: Shape,
    /// [D, columns], zero beyond the batch.
    x: Vec<f32>,
    /// [K, D of the dense part] and \[K\].
    dense: (Vec<f32>, Vec<f32>),
    tail: Contents,
    /// (row, sample), sorted.
    positives: Vec<[u32; 2]>,
}

impl Shape {
    fn labels(self) -> usize {
        self.dense + self.tail
    }

    fn dense_features(self) -> usize {
        if self.private > 0 { self.private } else { self.features }
    }

    fn dense_layer(self, device: &Device, rule: Rule) -> Dense {
        let options = DenseOptions {
            role: DenseRole::Frequent,
            labels: self.dense,
            features: self.dense_features(),
            max_batch: self.batch,
            rule,
            train_bias: true,
            init_scale: 1.0,
            bias_init: 0.0,
            seed: 1,
            max_block_rows: self.block,
        };
        Dense::allocate(device, options, Products::floor()).unwrap()
    }

    fn tail_layer(self, device: &Device, rule: Rule) -> FanIn {
        let options = FanInOptions {
            labels: self.tail,
            features: self.features - self.private,
            fan_in: self.fan_in,
            group: self.group,
            max_batch: self.batch,
            rule,
            precision: Precision::default(),
            train_bias: true,
            init_scale: 1.0,
            bias_init: 0.0,
            seed: 1,
            max_block_rows: self.block,
            inverted_index: Default::default(),
        };
        FanIn::allocate(device, options).unwrap()
    }

    fn layer(self, device: &Device, rule: Rule) -> Mixed {
        Mixed::new(self.dense_layer(device, rule), self.tail_layer(device, rule), self.features).unwrap()
    }
}

impl Truth {
    /// `integers`: all numbers are small integers, so that sums are exact and equal scores common.
    fn new(shape: Shape, integers: bool) -> Self {
        let mut numbers = Numbers::new(shape.labels() as u64);
        let mut draw = |count: usize| {
            if integers { numbers.integers(count, 2) } else { numbers.floats(count, 1.0) }
        };
        let columns = columns_of(shape.batch);
        let mut x = draw(shape.features * columns);
        x.chunks_mut(columns).for_each(|x| x[shape.batch..].fill(0.0));
        let dense = (draw(shape.dense * shape.dense_features()), draw(shape.dense));
        let (weights, bias) = (draw(shape.tail * shape.fan_in), draw(shape.tail));
        let rows = shape.tail.div_ceil(shape.group);
        let row = |_| numbers.different(shape.fan_in, shape.features - shape.private);
        let indices = (0..rows).flat_map(row).map(|index| index as u16).collect();
        let mut positives = Vec::new();
        for row in 0..shape.labels() as u32 {
            positives
                .extend((0..shape.batch as u32).filter(|s| (row * 5 + s * 3) % 7 == 0).map(|s| [row, s]));
        }
        Self { shape, x, dense, tail: Contents { weights, indices, bias }, positives }
    }

    fn on(&self, device: &Device, rule: Rule) -> Mixed {
        let layer = self.shape.layer(device, rule);
        layer.dense.set_contents(device, &self.dense.0, &self.dense.1).unwrap();
        layer.tail.set_contents(device, &self.tail).unwrap();
        layer
    }

    /// (feature, weight) of each connection of a row, and its bias.
    fn connections(&self, row: usize) -> (Vec<(usize, f64)>, f64) {
        let Shape { dense, private, fan_in, group, .. } = self.shape;
        match row.checked_sub(dense) {
            None => {
                let width = self.shape.dense_features();
                let weights = self.dense.0[row * width..][..width].iter();
                (weights.map(|w| f64::from(*w)).enumerate().collect(), f64::from(self.dense.1[row]))
            }
            Some(row) => {
                let indices = &self.tail.indices[row / group * fan_in..][..fan_in];
                let weights = &self.tail.weights[row * fan_in..][..fan_in];
                let pairs = indices.iter().zip(weights);
                let pairs = pairs.map(|(i, w)| (private + usize::from(*i), f64::from(*w)));
                (pairs.collect(), f64::from(self.tail.bias[row]))
            }
        }
    }

    fn x(&self, feature: usize, sample: usize) -> f64 {
        f64::from(self.x[feature * columns_of(self.shape.batch) + sample])
    }

    fn logit(&self, row: usize, sample: usize) -> f64 {
        let (connections, bias) = self.connections(row);
        bias + connections.iter().map(|(feature, w)| w * self.x(*feature, sample)).sum::<f64>()
    }

    /// BCE of a pair and its slope.
    fn loss(&self, row: usize, sample: usize) -> (f64, f64) {
        let z = self.logit(row, sample);
        let y = f64::from(self.positives.contains(&[row as u32, sample as u32]));
        (z.max(0.0) - z * y + (-z.abs()).exp().ln_1p(), 1.0 / (1.0 + (-z).exp()) - y)
    }
}

/// Without the guard behind a test's buffer.
fn exactly(slice: &Slice, count: usize) -> Slice {
    slice.front((count * 4) as u64)
}

/// The logits of both parts, one after the other, are those of the formulas.
#[test]
fn logits_are_those_of_both_parts() {
    for shape in SHAPES {
        let truth = Truth::new(shape, false);
        let count = shape.features * columns_of(shape.batch);
        for (engine, device) in engines() {
            let layer = truth.on(device, Rule::Sgd);
            let x = upload(device, &truth.x);
            let [x_dense, x_tail] = layer.views(&exactly(&x, count), shape.batch);
            let parts = [
                (layer.dense.logits(device, shape.batch, &x_dense).unwrap(), 0, shape.dense),
                (layer.tail.logits(device, shape.batch, &x_tail).unwrap(), shape.dense, shape.tail),
            ];
            for (got, first, rows) in parts {
                let want: Vec<f64> =
                    (0..got.len()).map(|i| truth.logit(first + i % rows, i / rows)).collect();
                let place = format!("{shape:?}, rows from {first} on {engine}");
                assert_close(&place, &got, &want, sum_tolerance(shape.features + 1, &want));
            }
            // What was written whole is read whole.
            assert_eq!(layer.tail.contents(device).unwrap(), truth.tail, "{shape:?} on {engine}");
        }
    }
}

/// One step of SGD: the loss, the gradient of all features, and both parts' numbers after it.
#[test]
fn a_step_is_that_of_the_formulas() {
    const SCALE: f32 = 0.125;
    let hyper = Hyper { learning_rate: 0.5, weight_decay: 0.0, ..Hyper::SAMPLE };
    for shape in SHAPES {
        let truth = Truth::new(shape, false);
        let (columns, samples) = (columns_of(shape.batch), 0..shape.batch);
        let mut loss = 0.0;
        let mut dx = vec![0.0; shape.features * columns];
        let [mut weights, mut biases] = [Vec::new(), Vec::new()];
        for row in 0..shape.labels() {
            let slopes: Vec<f64> = samples.clone().map(|s| f64::from(SCALE) * truth.loss(row, s).1).collect();
            loss += samples.clone().map(|s| truth.loss(row, s).0).sum::<f64>();
            let (connections, bias) = truth.connections(row);
            for (feature, weight) in connections {
                let gradient: f64 = samples.clone().map(|s| slopes[s] * truth.x(feature, s)).sum();
                samples.clone().for_each(|s| dx[feature * columns + s] += slopes[s] * weight);
                weights.push(weight - 0.5 * gradient);
            }
            biases.push(bias - 0.5 * slopes.iter().sum::<f64>());
        }
        for (engine, device) in engines() {
            let place = format!("{shape:?} on {engine}");
            let layer = truth.on(device, Rule::Sgd);
            let count = shape.features * columns;
            let (x, gradient) = (upload(device, &truth.x), writable(device, &vec![0.0_f32; count]));
            let losses = writable(device, &[0.0_f32, 1.0, 0.0, 0.0]);
            let head = Head::Mixed(layer);
            let mut recording = Recording::new();
            let step = Step {
                batch: shape.batch,
                loss: Loss::Bce,
                scale: StepScale { gradient: SCALE, loss: 0.5, place: 1 },
                step: 0,
                rates: hyper.rates(Rule::Sgd),
                positives: &Positives {
                    count: truth.positives.len(),
                    pairs: upload(device, &truth.positives),
                },
                x: &exactly(&x, count),
                dx: &exactly(&gradient.whole(), count),
                losses: &losses.whole(),
            };
            head.record_step(&mut recording, &step);
            device.submit(recording).unwrap();
            // Sums over features, over labels, over samples, of numbers below 2.
            let terms = shape.labels() + shape.features + shape.batch + 8;
            let want = [0.0, 1.0 + 0.5 * loss, 0.0, 0.0];
            let ring: Vec<f32> = device.read_vec(&losses, 4).unwrap();
            assert_close(&place, &ring, &want, sum_tolerance(terms, &want));
            let got: Vec<f32> = device.read_vec(&gradient, count).unwrap();
            assert_close(&place, &got, &dx, sum_tolerance(terms, &dx));
            let Head::Mixed(layer) = &head else { unreachable!("as made") };
            let (mut got, mut got_biases) = layer.dense.contents(device).unwrap();
            let tail = layer.tail.contents(device).unwrap();
            got.extend(tail.weights);
            got_biases.extend(tail.bias);
            assert_close(&place, &got, &weights, sum_tolerance(terms, &weights));
            assert_close(&place, &got_biases, &biases, sum_tolerance(terms, &biases));
        }
    }
}

/// The lists of both parts merge into the sort of all logits, labels left out or not; equal scores by lower row.
#[test]
fn a_ranking_is_a_sort_over_both_parts() {
    for shape in SHAPES {
        let truth = Truth::new(shape, true);
        let k = 11.min(shape.labels());
        // The last dense row and the first sparse one, for every second document.
        let left_out = |sample: usize| -> Vec<u32> {
            let both = [shape.dense as u32 - 1, shape.dense as u32];
            both[..if sample % 2 == 1 { 2 } else { 0 }].to_vec()
        };
        let mut offsets = vec![0_u32];
        let mut filtered = Vec::new();
        for sample in 0..shape.batch {
            filtered.extend(left_out(sample));
            offsets.push(filtered.len() as u32);
        }
        filtered.resize(filtered.len() + 4, 0);
        for (engine, device) in engines() {
            let head = Head::Mixed(truth.on(device, Rule::Sgd));
            let ranker = Ranker::new(device, &head, k, shape.batch).unwrap();
            let x = upload(device, &truth.x);
            let (offsets, filtered) = (upload(device, &offsets), upload(device, &filtered));
            let mut recording = Recording::new();
            let x = exactly(&x, shape.features * columns_of(shape.batch));
            let ranked = ranker.record(&mut recording, &head, shape.batch, &x, [&offsets, &filtered]);
            device.submit(recording).unwrap();
            for (sample, got) in ranked.collect(device).unwrap().into_iter().enumerate() {
                let rows = (0..shape.labels() as u32).filter(|row| !left_out(sample).contains(row));
                let mut want: Vec<(u32, f32)> =
                    rows.map(|row| (row, truth.logit(row as usize, sample) as f32)).collect();
                want.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                want.truncate(k);
                let sum = |(row, score): (u32, f32)| (row, score + 0.0);
                let [got, want] = [got, want].map(|list| list.into_iter().map(sum).collect::<Vec<_>>());
                assert_eq!(got, want, "{shape:?}, sample {sample} on {engine}");
            }
        }
    }
}

/// Parts that do not make up the features are refused, and so is a tail that does not begin where a binding may.
#[test]
fn parts_that_do_not_fit() {
    let [(_, device), ..] = engines();
    let refused = |shape: Shape, features: usize| {
        let parts = (shape.dense_layer(device, Rule::Sgd), shape.tail_layer(device, Rule::Sgd));
        Mixed::new(parts.0, parts.1, features).err().expect("an error").to_string()
    };
    assert!(refused(SHAPES[2], 21).contains("8 features and a tail of 12 do not share 21"));
    assert!(refused(Shape { private: 7, ..SHAPES[2] }, 20).contains("a multiple of 4"));
}
