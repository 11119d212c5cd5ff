//! Gradients of a whole small transformer with its classifier, dropouts on, two micro-batches a step, against finite
//! differences of the formulas computed here in f64, on every engine.

mod support;

use std::collections::BTreeMap;

use regrow::config::Config;
use regrow::data::{Batch, Split};
use regrow::encoder::PARAMETER_PREFIX;
use regrow::random::{Purpose, words};
use regrow::train::{
    Calendar, Devices, EncoderSizes, EncoderSource, FeedSizes, Model, ModelSizes, Schedules,
};
use support::device::engines;

const VOCABULARY: usize = 9;
const LABELS: usize = 5;
const HIDDEN: usize = 6;
const HEADS: usize = 2;
const LAYERS: usize = 2;
const POSITIONS: usize = 5;
const SEED: u64 = 42;
const MICRO: usize = 2;
const HIDDEN_DROPOUT: f64 = 0.3;
const ATTENTION_DROPOUT: f64 = 0.2;

/// (tokens, labels); one document has a single token, one repeats a token of another micro-batch.
fn documents() -> Vec<(Vec<u32>, Vec<u32>)> {
    vec![
        (vec![3, 4, 3, 8], vec![0, 4]),
        (vec![5], vec![]),
        (vec![6], vec![2]),
        (vec![1, 2, 3, 7, 6], vec![1, 2]),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    family: &'static str,
    activation: &'static str,
    /// Layers whose first tokens are pooled; 0: the mean.
    pooled: usize,
    recompute: bool,
}

const SHAPES: [Shape; 4] = [
    Shape { family: "bert", activation: "gelu", pooled: 0, recompute: false },
    Shape { family: "roberta", activation: "gelu_tanh", pooled: 1, recompute: true },
    Shape { family: "distilbert", activation: "relu", pooled: 2, recompute: false },
    Shape { family: "bert", activation: "gelu", pooled: 2, recompute: true },
];

fn config(shape: Shape) -> Config {
    let pooling = if shape.pooled == 0 { "mean" } else { "cls" };
    let settings = [
        "encoder.kind=transformer".to_owned(),
        "encoder.init=scratch".to_owned(),
        format!("encoder.family={}", shape.family),
        format!("encoder.activation={}", shape.activation),
        format!("encoder.pooling={pooling}"),
        format!("encoder.pooled_layers={}", shape.pooled.max(1)),
        format!("encoder.recompute={}", shape.recompute),
        format!("encoder.dim={HIDDEN}"),
        format!("encoder.heads={HEADS}"),
        format!("encoder.layers={LAYERS}"),
        "encoder.intermediate=7".to_owned(),
        format!("encoder.positions={POSITIONS}"),
        format!("encoder.hidden_dropout={HIDDEN_DROPOUT}"),
        format!("encoder.attention_dropout={ATTENTION_DROPOUT}"),
        "encoder.dropout=0".to_owned(),
        format!("data.max_tokens={POSITIONS}"),
        format!("train.seed={SEED}"),
        format!("train.batch_size={MICRO}"),
        "train.accumulate=2".to_owned(),
        "classifier.fan_in=3".to_owned(),
        "classifier.init_scale=2".to_owned(),
        // SGD with momentum: after the first step the momentum is the gradient.
        "optimizer.encoder.kind=sgd".to_owned(),
        "optimizer.encoder.momentum=0.5".to_owned(),
        "optimizer.encoder.weight_decay=0".to_owned(),
        "optimizer.classifier.kind=sgd".to_owned(),
    ];
    Config::with_settings(&settings).unwrap()
}

/// The model's numbers in f64.
#[derive(Clone)]
struct Truth {
    shape: Shape,
    tensors: BTreeMap<String, Vec<f64>>,
    weights: Vec<f64>,
    indices: Vec<u16>,
    bias: Vec<f64>,
}

/// A place of the network where numbers are dropped: its stream of random words.
fn stream(place: usize, micro: usize) -> u32 {
    (place + micro * (2 + 3 * LAYERS)) as u32
}

/// What the word decides.
fn factor(probability: f64, index: u32, word: usize, stream: u32) -> f64 {
    let word = words(SEED, Purpose::Dropout, 0, index, stream)[word];
    // The program knows the probability in f32.
    let probability = f64::from(probability as f32);
    if f64::from(word) < (probability * 4_294_967_296.0).floor() { 0.0 } else { 1.0 / (1.0 - probability) }
}

fn drop_rows(x: &mut [Vec<f64>], stream: u32) {
    for (row, x) in x.iter_mut().enumerate() {
        for (column, x) in x.iter_mut().enumerate() {
            let element = row * HIDDEN + column;
            *x *= factor(HIDDEN_DROPOUT, (element / 4) as u32, element % 4, stream);
        }
    }
}

/// The error function by its Taylor series, exact enough for the arguments here.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..60 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

impl Truth {
    fn activate(&self, x: f64) -> f64 {
        match self.shape.activation {
            "gelu" => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            "gelu_tanh" => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
            }
            _ => x.max(0.0),
        }
    }

    fn names(&self, layer: usize) -> [String; 8] {
        let (prefix, names) = if self.shape.family == "distilbert" {
            let names = ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"];
            let rest = ["sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"];
            (format!("transformer.layer.{layer}"), [names, rest].concat())
        } else {
            let names = [
                "attention.self.query",
                "attention.self.key",
                "attention.self.value",
                "attention.output.dense",
            ];
            let rest =
                ["attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"];
            (format!("encoder.layer.{layer}"), [names, rest].concat())
        };
        std::array::from_fn(|i| format!("{prefix}.{}", names[i]))
    }

    fn pair(&self, name: &str) -> (&[f64], &[f64]) {
        (&self.tensors[&format!("{name}.weight")], &self.tensors[&format!("{name}.bias")])
    }

    fn dense(&self, name: &str, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (weight, bias) = self.pair(name);
        let out = |x: &Vec<f64>| {
            let rows = weight.chunks_exact(x.len()).zip(bias);
            rows.map(|(w, b)| b + w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>()).collect()
        };
        x.iter().map(out).collect()
    }

    fn norm(&self, name: &str, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (gamma, beta) = self.pair(name);
        let out = |x: &Vec<f64>| {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
            let rstd = 1.0 / (variance + f64::from(1e-5_f32)).sqrt();
            x.iter().zip(gamma).zip(beta).map(|((x, g), b)| (x - mean) * rstd * g + b).collect()
        };
        x.iter().map(out).collect()
    }

    fn residual(
        &self,
        name: &str,
        mut x: Vec<Vec<f64>>,
        residual: &[Vec<f64>],
        stream: u32,
    ) -> Vec<Vec<f64>> {
        drop_rows(&mut x, stream);
        for (x, r) in x.iter_mut().zip(residual) {
            x.iter_mut().zip(r).for_each(|(x, r)| *x += r);
        }
        self.norm(name, &x)
    }

    /// Rows of the heads' results, from those of queries, keys and values.
    fn heads(&self, [q, k, v]: [&[Vec<f64>]; 3], documents: &[Vec<u32>], stream: u32) -> Vec<Vec<f64>> {
        let size = HIDDEN / HEADS;
        let positions = POSITIONS + if self.shape.family == "roberta" { 2 } else { 0 };
        let mut out = vec![vec![0.0; HIDDEN]; q.len()];
        let mut begin = 0;
        for tokens in documents {
            for t in begin..begin + tokens.len() {
                for head in 0..HEADS {
                    let columns = head * size..(head + 1) * size;
                    let dot = |key: &Vec<f64>| {
                        columns.clone().map(|c| q[t][c] * key[c]).sum::<f64>() / (size as f64).sqrt()
                    };
                    let scores: Vec<f64> = k[begin..begin + tokens.len()].iter().map(dot).collect();
                    let total = scores.iter().map(|s| s.exp()).sum::<f64>();
                    for (j, score) in scores.iter().enumerate() {
                        let index = (t * HEADS + head) * positions.div_ceil(4) + j / 4;
                        let kept = factor(ATTENTION_DROPOUT, index as u32, j % 4, stream);
                        for c in columns.clone() {
                            out[t][c] += score.exp() / total * kept * v[begin + j][c];
                        }
                    }
                }
            }
            begin += tokens.len();
        }
        out
    }

    /// Features of the documents of a micro-batch.
    fn features(&self, documents: &[Vec<u32>], micro: usize) -> Vec<Vec<f64>> {
        let first = if self.shape.family == "roberta" { 2 } else { 0 };
        let table = |name: &str, row: usize| {
            self.tensors
                .get(&format!("embeddings.{name}.weight"))
                .map(|t| t[row * HIDDEN..][..HIDDEN].to_vec())
        };
        let mut x = Vec::new();
        for tokens in documents {
            for (place, token) in tokens.iter().enumerate() {
                let mut row = table("word_embeddings", *token as usize).unwrap();
                let others = [table("position_embeddings", first + place), table("token_type_embeddings", 0)];
                for other in others.into_iter().flatten() {
                    row.iter_mut().zip(other).for_each(|(x, y)| *x += y);
                }
                x.push(row);
            }
        }
        x = self.norm("embeddings.LayerNorm", &x);
        drop_rows(&mut x, stream(1, micro));
        let mut layers = Vec::new();
        for layer in 0..LAYERS {
            let [query, key, value, output, norm, inner, outer, last] = self.names(layer);
            let [q, k, v] = [query, key, value].map(|name| self.dense(&name, &x));
            let context = self.heads([&q, &k, &v], documents, stream(2 + 3 * layer, micro));
            x = self.residual(&norm, self.dense(&output, &context), &x, stream(3 + 3 * layer, micro));
            let mut middle = self.dense(&inner, &x);
            middle.iter_mut().flatten().for_each(|x| *x = self.activate(*x));
            x = self.residual(&last, self.dense(&outer, &middle), &x, stream(4 + 3 * layer, micro));
            layers.push(x.clone());
        }
        let mut begin = 0;
        let mut features = Vec::new();
        for tokens in documents {
            let mut mean = vec![0.0; HIDDEN];
            for row in &x[begin..begin + tokens.len()] {
                mean.iter_mut().zip(row).for_each(|(m, x)| *m += x / tokens.len() as f64);
            }
            let firsts = layers.iter().rev().take(self.shape.pooled).flat_map(|layer| layer[begin].clone());
            features.push(if self.shape.pooled == 0 { mean } else { firsts.collect() });
            begin += tokens.len();
        }
        features
    }

    /// BCE, sum over labels, mean over documents.
    fn loss(&self) -> f64 {
        let documents = documents();
        let mut total = 0.0;
        for (micro, documents) in documents.chunks(MICRO).enumerate() {
            let tokens: Vec<Vec<u32>> = documents.iter().map(|(tokens, _)| tokens.clone()).collect();
            for (h, (_, labels)) in self.features(&tokens, micro).iter().zip(documents) {
                for l in 0..LABELS {
                    let slots = l * 3..l * 3 + 3;
                    let z = self.bias[l]
                        + slots.map(|s| self.weights[s] * h[usize::from(self.indices[s])]).sum::<f64>();
                    let sign = if labels.contains(&(l as u32)) { 1.0 } else { -1.0 };
                    total += (-sign * z).exp().ln_1p();
                }
            }
        }
        total / documents.len() as f64
    }

    /// d loss / d one number of a tensor, by central differences.
    fn slope(&self, name: &str, at: usize) -> f64 {
        let moved = |shift: f64| {
            let mut moved = self.clone();
            moved.tensors.get_mut(name).unwrap()[at] += shift;
            moved.loss()
        };
        (moved(1e-5) - moved(-1e-5)) / 2e-5
    }
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    for shape in SHAPES {
        for (engine, device) in engines() {
            check(&format!("{shape:?} on {engine}"), device, shape);
        }
    }
}

/// Two micro-batches go forth and back between the passes of the classifier.
#[test]
fn gradients_across_two_devices() {
    let [_, (_, cpu), _, (_, gpu)] = engines();
    check("CPU to GPU", Devices { encoder: cpu, classifier: gpu }, SHAPES[0]);
    check("GPU to CPU", Devices { encoder: gpu, classifier: cpu }, SHAPES[0]);
}

fn wide(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

fn check<'d>(place: &str, devices: impl Into<Devices<'d>>, shape: Shape) {
    let devices = devices.into();
    let device = devices.encoder;
    let config = config(shape);
    let split = Split::from_documents(documents());
    let encoder = EncoderSource::Scratch.sizes(&config, Some(VOCABULARY)).unwrap();
    let EncoderSizes::Transformer { .. } = encoder else { panic!("{encoder:?}") };
    let sizes = ModelSizes {
        encoder,
        labels: LABELS,
        auxiliary: None,
        train_batch: 4,
        feed: FeedSizes::of_split(&split, 4, MICRO),
        bias_init: -0.5,
        max_block_rows: 4,
    };
    let model = Model::new(devices, &config, sizes).unwrap();
    // The starting deviation of 0.02 would hide mistakes behind the norms: larger weights, and no zeros.
    for (stream, parameter) in model.encoder.parameters().iter().enumerate() {
        let gamma = parameter.name.to_lowercase().contains("norm.weight");
        let random =
            |i: usize| words(7, Purpose::Synth, stream as u32, i as u32, 0)[0] as f32 / 4_294_967_296.0;
        let value = |i| if gamma { 0.5 + random(i) } else { (random(i) - 0.5) * 1.4 };
        parameter.write(device, &(0..parameter.len()).map(value).collect::<Vec<_>>()).unwrap();
    }
    let contents = model.classifier.fan_in().unwrap().contents(devices.classifier).unwrap();
    let read = |parameter: &regrow::encoder::Parameter| {
        let name = parameter.name.strip_prefix(PARAMETER_PREFIX).unwrap().to_owned();
        (name, wide(device.read_vec(&parameter.values, parameter.len()).unwrap()))
    };
    let truth = Truth {
        shape,
        tensors: model.encoder.parameters().iter().map(read).collect(),
        weights: wide(contents.weights),
        indices: contents.indices,
        bias: wide(contents.bias),
    };
    let batch = Batch::assemble(&split, &[0, 1, 2, 3], MICRO);
    assert_eq!(batch.micro_batches.len(), 2);
    let schedules = Schedules::new(&config, &Calendar::new(&config, split.len()));
    let outcome = model.train_step(devices, &config, &schedules, &batch, 0).unwrap();
    let (got, expected) = (f64::from(outcome.loss(devices).unwrap()), truth.loss());
    assert!((got - expected).abs() <= 1e-5 * expected, "{place}: loss {got}, expected {expected}");

    for parameter in model.encoder.parameters() {
        let name = parameter.name.strip_prefix(PARAMETER_PREFIX).unwrap();
        let gradient: Vec<f32> = device.read_vec(&parameter.first, parameter.len()).unwrap();
        let slopes: Vec<f64> = (0..parameter.len()).map(|i| truth.slope(name, i)).collect();
        let largest = slopes.iter().fold(0.0_f64, |max, slope| max.max(slope.abs()));
        // Adding the same to all keys changes no attention weight: that slope is zero.
        let key_bias = name.ends_with("key.bias") || name.ends_with("k_lin.bias");
        assert!(key_bias == (largest < 1e-7), "{place}: slopes of {name} reach {largest:e}");
        for (i, (got, want)) in gradient.iter().zip(&slopes).enumerate() {
            // f32 sums of some hundred terms through two layers of norms.
            let error = (f64::from(*got) - want).abs();
            assert!(
                error <= 5e-5 * largest + 2e-6,
                "{place}: {name}[{i}] is {got}, slope {want}, largest {largest}"
            );
        }
    }
}
