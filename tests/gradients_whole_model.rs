//! Gradients of the whole model, bag encoder with hidden layers, intermediate layer, classifier and auxiliary head,
//! against finite differences of the formulas in `docs/model.md` computed here in f64, on every engine.

mod support;

use regrow::classifier::{Dense, DenseBlock, Head};
use regrow::config::{Config, HeadKind, IntermediateActivation, Normalisation};
use regrow::data::{Batch, LabelClusters, Split};
use regrow::device::{Buffer, Device};
use regrow::encoder::Parameter;
use regrow::train::{
    AuxiliarySizes, Calendar, Devices, EncoderSizes, FeedSizes, Model, ModelSizes, Schedules,
};
use support::device::engines;

const VOCABULARY: usize = 11;
const LABELS: usize = 9;
/// The cluster of each label.
const CLUSTERS: [u32; LABELS] = [0, 1, 2, 0, 1, 2, 3, 3, 0];
/// Weight of the auxiliary loss, where there is one.
const SHARE: f64 = 0.3;

/// The documents: (tokens, labels); one has no tokens, one no labels, one repeats a token.
fn documents() -> Vec<(Vec<u32>, Vec<u32>)> {
    vec![
        (vec![3, 4, 3, 10], vec![0, 8]),
        (vec![], vec![2]),
        (vec![5], vec![]),
        (vec![1, 2, 9, 7, 6], vec![1, 2, 5]),
    ]
}

fn config(loss: &str, hidden: &str, more: &[&str]) -> Config {
    let mut settings =
        ["encoder.dim=6".to_owned(), format!("encoder.hidden={hidden}"), format!("classifier.loss={loss}")]
            .to_vec();
    let fixed = ["encoder.dropout=0", "classifier.fan_in=3", "classifier.init_scale=2", "train.batch_size=4"];
    settings.extend(fixed.iter().chain(more).map(|setting| (*setting).to_owned()));
    // SGD with momentum: after the first step the momentum is the gradient.
    for part in ["encoder", "intermediate", "classifier", "auxiliary"] {
        for value in ["kind=sgd", "momentum=0.5", "weight_decay=0"] {
            settings.push(format!("optimizer.{part}.{value}"));
        }
    }
    Config::with_settings(&settings).unwrap()
}

/// The model's numbers in f64, as `docs/model.md` names them.
#[derive(Clone)]
struct Truth {
    /// Embedding, γ, β, then weight and bias of each hidden layer: values and shapes.
    encoder: Vec<(Vec<f64>, Vec<usize>)>,
    /// Weight and bias of the intermediate layer, if there is one, and whether GELU or ReLU follows.
    intermediate: Option<[Vec<f64>; 2]>,
    activation: IntermediateActivation,
    /// Of each label, as many as `indices`; a dense layer has the indices of all features.
    weights: Vec<f64>,
    indices: Vec<u16>,
    bias: Vec<f64>,
    hinge: bool,
    /// Weight and bias of the auxiliary head, if there is one.
    auxiliary: Option<[Vec<f64>; 2]>,
    /// The auxiliary loss is a mean over documents and clusters.
    mean: bool,
}

/// The error function by its Taylor series, exact enough for the arguments here.
fn erf(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    for n in 1..60 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

fn gelu(z: f64) -> f64 {
    0.5 * z * (1.0 + erf(z * std::f64::consts::FRAC_1_SQRT_2))
}

impl Truth {
    fn features(&self, tokens: &[u32]) -> Vec<f64> {
        let (table, shape) = &self.encoder[0];
        let dim = shape[1];
        let mut h = vec![0.0; dim];
        for token in tokens {
            for (h, value) in h.iter_mut().zip(&table[*token as usize * dim..]) {
                *h += value / tokens.len() as f64;
            }
        }
        let mean = h.iter().sum::<f64>() / dim as f64;
        let variance = h.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / dim as f64;
        for (d, h) in h.iter_mut().enumerate() {
            *h = (*h - mean) / (variance + 1e-5).sqrt() * self.encoder[1].0[d] + self.encoder[2].0[d];
        }
        for layer in self.encoder[3..].chunks_exact(2) {
            let (weight, shape) = &layer[0];
            h = (0..shape[0])
                .map(|out| {
                    let row = &weight[out * shape[1]..][..shape[1]];
                    let z = layer[1].0[out] + row.iter().zip(&h).map(|(w, h)| w * h).sum::<f64>();
                    gelu(z)
                })
                .collect();
        }
        h
    }

    /// What the classifier sees.
    fn seen(&self, h: Vec<f64>) -> Vec<f64> {
        let Some([weight, bias]) = &self.intermediate else { return h };
        let rows = weight.chunks_exact(h.len()).zip(bias);
        rows.map(|(row, bias)| {
            let z = bias + row.iter().zip(&h).map(|(w, h)| w * h).sum::<f64>();
            match self.activation {
                IntermediateActivation::None => z,
                IntermediateActivation::Relu => z.max(0.0),
                IntermediateActivation::Gelu => gelu(z),
            }
        })
        .collect()
    }

    /// Main loss, sum over labels, mean over documents; and the auxiliary loss.
    fn losses(&self) -> [f64; 2] {
        let documents = documents();
        let (mut main, mut auxiliary) = (0.0, 0.0);
        let bce = |z: f64, positive: bool| (if positive { -z } else { z }).exp().ln_1p();
        for (tokens, labels) in &documents {
            let h = self.features(tokens);
            if let Some([weight, bias]) = &self.auxiliary {
                for (cluster, row) in weight.chunks_exact(h.len()).enumerate() {
                    let z = bias[cluster] + row.iter().zip(&h).map(|(w, h)| w * h).sum::<f64>();
                    auxiliary += bce(z, labels.iter().any(|l| CLUSTERS[*l as usize] as usize == cluster));
                }
            }
            let h = self.seen(h);
            let slots = self.indices.len() / LABELS;
            for l in 0..LABELS {
                let mine = l * slots..(l + 1) * slots;
                let z = self.bias[l]
                    + mine.map(|s| self.weights[s] * h[usize::from(self.indices[s])]).sum::<f64>();
                let positive = labels.contains(&(l as u32));
                let sign = if positive { 1.0 } else { -1.0 };
                main += if self.hinge { (1.0 - sign * z).max(0.0).powi(2) } else { bce(z, positive) };
            }
        }
        let outputs = self.auxiliary.as_ref().map_or(0, |[_, bias]| bias.len());
        let divisor = documents.len() * if self.mean { outputs } else { 1 };
        [main / documents.len() as f64, auxiliary / divisor.max(1) as f64]
    }

    fn loss(&self) -> f64 {
        let [main, auxiliary] = self.losses();
        if self.auxiliary.is_none() { main } else { (1.0 - SHARE) * main + SHARE * auxiliary }
    }

    /// d loss / d the number that `place` points to, by central differences (error about 1e-9 here).
    fn slope(&self, place: impl Fn(&mut Self) -> &mut f64) -> f64 {
        let at = |shift: f64| {
            let mut moved = self.clone();
            *place(&mut moved) += shift;
            moved.loss()
        };
        (at(1e-5) - at(-1e-5)) / 2e-5
    }
}

fn wide(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

fn read(device: &Device, parameter: &Parameter) -> (Vec<f64>, Vec<usize>) {
    (wide(device.read_vec(&parameter.values, parameter.len()).unwrap()), parameter.shape.clone())
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    for (loss, hidden) in [("bce", "[]"), ("bce", "[5]"), ("squared_hinge", "[7, 4]")] {
        check_everywhere(&config(loss, hidden, &[]));
    }
}

#[test]
fn gradients_of_every_head() {
    let auxiliary = format!("auxiliary.weight={SHARE}");
    let gelu = "intermediate.activation=gelu";
    check_everywhere(&config("bce", "[]", &["intermediate.width=5", gelu, &auxiliary]));
    let linear = ["intermediate.width=7", &auxiliary, "auxiliary.normalisation=mean"];
    check_everywhere(&config("squared_hinge", "[5]", &linear));
    check_everywhere(&config("squared_hinge", "[]", &["classifier.head=dense", &auxiliary]));
    let relu = ["classifier.head=bottleneck", "intermediate.activation=relu"];
    check_everywhere(&config("bce", "[7]", &relu));
}

fn check_everywhere(config: &Config) {
    for (engine, device) in engines() {
        let (c, i) = (&config.classifier, &config.intermediate);
        let place =
            format!("{:?}, {:?}, {i:?}, hidden {:?} on {engine}", c.loss, c.head, config.encoder.hidden);
        check(&place, device, config);
    }
}

/// Four dense labels, then five sparse ones, in blocks of four: both parts look at all three features, or each at four
/// of eight, or each at four outputs of an intermediate layer.
#[test]
fn gradients_of_dense_and_sparse_labels() {
    let private = ["classifier.dense_labels=4", "classifier.dense_features=4", "classifier.fan_in=4"];
    check_everywhere(&config("bce", "[3]", &["classifier.dense_labels=4"]));
    check_everywhere(&config("squared_hinge", "[8]", &private));
    let auxiliary = format!("auxiliary.weight={SHARE}");
    let relu = ["intermediate.width=8", "intermediate.activation=relu", &auxiliary];
    let config = config("bce", "[5]", &[&private[..], &relu].concat());
    check_everywhere(&config);
    let [_, (_, cpu), _, (_, gpu)] = engines();
    check("dense and sparse, CPU to GPU", Devices { encoder: cpu, classifier: gpu }, &config);
}

/// The encoder on one engine, all that lies on it on another.
#[test]
fn gradients_across_two_devices() {
    let [_, (_, cpu), _, (_, gpu)] = engines();
    let auxiliary = format!("auxiliary.weight={SHARE}");
    let everything = ["intermediate.width=5", "intermediate.activation=gelu", &auxiliary];
    let dense = ["classifier.head=dense", &auxiliary];
    for more in [&[][..], &everything, &dense] {
        let config = config("bce", "[5]", more);
        check(&format!("{more:?}, CPU to GPU"), Devices { encoder: cpu, classifier: gpu }, &config);
        check(&format!("{more:?}, GPU to CPU"), Devices { encoder: gpu, classifier: cpu }, &config);
    }
}

fn check<'d>(place: &str, devices: impl Into<Devices<'d>>, config: &Config) {
    let devices = devices.into();
    let device = devices.classifier;
    let feed = FeedSizes { positives: 6, ..FeedSizes::of_documents(4, 4, 3) };
    let clusters = LabelClusters::new(CLUSTERS.to_vec()).unwrap();
    let auxiliary = AuxiliarySizes { clusters: clusters.count(), bias_init: -0.25 };
    let sizes = ModelSizes {
        encoder: EncoderSizes::Bag { vocabulary: VOCABULARY },
        labels: LABELS,
        auxiliary: config.has_auxiliary().then_some(auxiliary),
        train_batch: 4,
        feed,
        bias_init: -0.5,
        max_block_rows: 4,
    };
    let model = Model::new(devices, config, sizes).unwrap();
    let (weights, indices, bias) = match &model.classifier {
        Head::FanIn(layer) => {
            let contents = layer.contents(device).unwrap();
            (contents.weights, contents.indices, contents.bias)
        }
        Head::Dense(layer) => {
            let (weights, bias) = layer.contents(device).unwrap();
            let features = (0..layer.options.features as u16).collect::<Vec<u16>>();
            (weights, features.repeat(LABELS), bias)
        }
        Head::Mixed(layer) => {
            // As many connections for dense labels as for the others, so that rows are alike.
            let (frequent, tail) = (&layer.dense.options, &layer.tail.options);
            assert_eq!(frequent.features, tail.fan_in, "{place}");
            let first = (layer.features() - tail.features) as u16;
            let (weights, bias) = layer.dense.contents(device).unwrap();
            let contents = layer.tail.contents(device).unwrap();
            let of_dense = (0..frequent.features as u16).collect::<Vec<u16>>().repeat(frequent.labels);
            let of_tail = contents.indices.iter().map(|index| first + index);
            (
                [weights, contents.weights].concat(),
                of_dense.into_iter().chain(of_tail).collect(),
                [bias, contents.bias].concat(),
            )
        }
    };
    let dense = config.classifier.head != HeadKind::FanIn || config.classifier.dense_labels > 0.0;
    assert_eq!(model.classifier.dense().is_some(), dense, "{place}");
    let truth = Truth {
        encoder: model.encoder.parameters().iter().map(|p| read(devices.encoder, p)).collect(),
        intermediate: model
            .intermediate
            .as_ref()
            .map(|layer| layer.parameters().each_ref().map(|p| read(device, p).0)),
        activation: config.intermediate.activation,
        weights: wide(weights),
        indices,
        bias: wide(bias),
        hinge: config.classifier.loss == regrow::classifier::Loss::SquaredHinge,
        auxiliary: model.auxiliary.as_ref().map(|head| {
            let (weights, bias) = head.contents(device).unwrap();
            [wide(weights), wide(bias)]
        }),
        mean: config.auxiliary.normalisation == Normalisation::Mean,
    };
    let split = Split::from_documents(documents());
    let mut batch = Batch::assemble(&split, &[0, 1, 2, 3], 4);
    batch.find_clusters(&clusters);
    let schedules = Schedules::new(config, &Calendar::new(config, 40));
    let outcome = model.train_step(devices, config, &schedules, &batch, 0).unwrap();
    let losses = outcome.losses(devices).unwrap();
    let expected = truth.losses();
    assert_eq!(losses.auxiliary.is_some(), config.has_auxiliary(), "{place}");
    let got = [losses.main, losses.auxiliary.unwrap_or(0.0)].map(f64::from);
    for (got, expected) in got.into_iter().zip(expected) {
        assert!((got - expected).abs() <= 1e-5 * expected, "{place}: loss {got}, expected {expected}");
    }

    for (i, parameter) in model.encoder.parameters().iter().enumerate() {
        let gradient: Vec<f32> = devices.encoder.read_vec(&parameter.first, parameter.len()).unwrap();
        let slopes = (0..parameter.len()).map(|n| truth.slope(|truth| &mut truth.encoder[i].0[n]));
        compare(&format!("{place}: {}", parameter.name), &gradient, &slopes.collect::<Vec<_>>());
    }
    for (i, parameter) in model.intermediate.iter().flat_map(|layer| layer.parameters()).enumerate() {
        let gradient: Vec<f32> = device.read_vec(&parameter.first, parameter.len()).unwrap();
        let slopes = (0..parameter.len())
            .map(|n| truth.slope(|truth| &mut truth.intermediate.as_mut().expect("a layer")[i][n]));
        compare(&format!("{place}: {}", parameter.name), &gradient, &slopes.collect::<Vec<_>>());
    }
    if let Some(head) = &model.auxiliary {
        for (i, gradient) in first_states(device, head).into_iter().enumerate() {
            let slopes = (0..gradient.len())
                .map(|n| truth.slope(|truth| &mut truth.auxiliary.as_mut().expect("a head")[i][n]));
            compare(&format!("{place}: auxiliary {i}"), &gradient, &slopes.collect::<Vec<_>>());
        }
    }
    let [weights, bias] = match &model.classifier {
        Head::FanIn(layer) => {
            let [weights, _, bias, _] = layer.states(device).unwrap();
            [weights, bias]
        }
        Head::Dense(layer) => first_states(device, layer),
        Head::Mixed(layer) => {
            let [weights, _, bias, _] = layer.tail.states(device).unwrap();
            let [of_dense, bias_of_dense] = first_states(device, &layer.dense);
            [[of_dense, weights].concat(), [bias_of_dense, bias].concat()]
        }
    };
    let slopes = (0..weights.len()).map(|n| truth.slope(|truth| &mut truth.weights[n]));
    compare(&format!("{place}: classifier.weights"), &weights, &slopes.collect::<Vec<_>>());
    let slopes = (0..bias.len()).map(|n| truth.slope(|truth| &mut truth.bias[n]));
    compare(&format!("{place}: classifier.bias"), &bias, &slopes.collect::<Vec<_>>());
}

/// Within 2e-4 of the largest slope: LayerNorm of the document without tokens divides by √1e-5 and so multiplies
/// f32's rounding by 300.
fn compare(place: &str, gradient: &[f32], slopes: &[f64]) {
    let largest = slopes.iter().fold(0.0_f64, |max, slope| max.max(slope.abs()));
    assert!(largest > 1e-4, "{place}: slopes that say nothing");
    for (i, (got, want)) in gradient.iter().zip(slopes).enumerate() {
        let error = (f64::from(*got) - want).abs();
        assert!(error <= 2e-4 * largest, "{place}[{i}]: {got}, slope {want}, largest {largest}");
    }
}

/// First optimizer states of a dense layer's weights and biases.
fn first_states(device: &Device, layer: &Dense) -> [Vec<f32>; 2] {
    let all = |buffer: fn(&DenseBlock) -> &Buffer, width: usize| -> Vec<f32> {
        let block = |block: &DenseBlock| device.read_vec(buffer(block), block.shape.rows * width).unwrap();
        layer.blocks.iter().flat_map(block).collect()
    };
    [all(|block| &block.first, layer.options.features), all(|block| &block.bias_first, 1)]
}
