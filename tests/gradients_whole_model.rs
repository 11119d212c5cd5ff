//! Gradients of the whole model, bag encoder with a hidden layer and classifier, against finite differences of the
//! formulas in `docs/model.md` computed here in f64, on every engine.

mod support;

use regrow::config::Config;
use regrow::data::{Batch, Split};
use regrow::device::Device;
use regrow::encoder::Parameter;
use regrow::train::{EncoderSizes, FeedSizes, Model, ModelSizes};
use support::device::engines;

const VOCABULARY: usize = 11;
const LABELS: usize = 9;

/// The documents: (tokens, labels); one has no tokens, one no labels, one repeats a token.
fn documents() -> Vec<(Vec<u32>, Vec<u32>)> {
    vec![
        (vec![3, 4, 3, 10], vec![0, 8]),
        (vec![], vec![2]),
        (vec![5], vec![]),
        (vec![1, 2, 9, 7, 6], vec![1, 2, 5]),
    ]
}

fn config(loss: &str, hidden: &str) -> Config {
    let settings = [
        "encoder.dim=6",
        &format!("encoder.hidden={hidden}"),
        "encoder.dropout=0",
        "classifier.fan_in=3",
        &format!("classifier.loss={loss}"),
        "classifier.init_scale=2",
        // SGD with momentum: after the first step the momentum is the gradient.
        "optimizer.encoder.kind=sgd",
        "optimizer.encoder.momentum=0.5",
        "optimizer.encoder.weight_decay=0",
        "optimizer.classifier.kind=sgd",
        "optimizer.classifier.momentum=0.5",
        "optimizer.classifier.weight_decay=0",
        "train.batch_size=4",
    ];
    Config::with_settings(&settings.map(str::to_owned)).unwrap()
}

/// The model's numbers in f64, as `docs/model.md` names them.
#[derive(Clone)]
struct Truth {
    /// Embedding, γ, β, then weight and bias of each hidden layer: values and shapes.
    encoder: Vec<(Vec<f64>, Vec<usize>)>,
    weights: Vec<f64>,
    indices: Vec<u16>,
    bias: Vec<f64>,
    hinge: bool,
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
                    0.5 * z * (1.0 + erf(z * std::f64::consts::FRAC_1_SQRT_2))
                })
                .collect();
        }
        h
    }

    /// Sum over labels, mean over documents.
    fn loss(&self) -> f64 {
        let documents = documents();
        let mut total = 0.0;
        for (tokens, labels) in &documents {
            let h = self.features(tokens);
            for l in 0..LABELS {
                let slots = l * 3..l * 3 + 3;
                let z = self.bias[l]
                    + slots.map(|s| self.weights[s] * h[usize::from(self.indices[s])]).sum::<f64>();
                let sign = if labels.contains(&(l as u32)) { 1.0 } else { -1.0 };
                total +=
                    if self.hinge { (1.0 - sign * z).max(0.0).powi(2) } else { (-sign * z).exp().ln_1p() };
            }
        }
        total / documents.len() as f64
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
        for (engine, device) in engines() {
            check(&format!("{loss}, hidden {hidden} on {engine}"), device, &config(loss, hidden));
        }
    }
}

fn check(place: &str, device: &Device, config: &Config) {
    let feed = FeedSizes { positives: 6, ..FeedSizes::of_documents(4, 4, 3) };
    let sizes = ModelSizes {
        encoder: EncoderSizes::Bag { vocabulary: VOCABULARY },
        labels: LABELS,
        train_batch: 4,
        feed,
        bias_init: -0.5,
        max_block_rows: 4,
    };
    let model = Model::new(device, config, sizes).unwrap();
    let contents = model.classifier.contents(device).unwrap();
    let truth = Truth {
        encoder: model.encoder.parameters().iter().map(|p| read(device, p)).collect(),
        weights: wide(contents.weights),
        indices: contents.indices,
        bias: wide(contents.bias),
        hinge: place.starts_with("squared"),
    };
    let split = Split::from_documents(documents());
    let batch = Batch::assemble(&split, &[0, 1, 2, 3], 4);
    let optimizers = [&config.optimizer.encoder, &config.optimizer.classifier].map(|o| o.optimizer(10));
    let [encoder, classifier] = optimizers.each_ref();
    let outcome = model.train_step(device, config, [encoder, classifier], &batch, 0).unwrap();
    let got = f64::from(outcome.loss(device).unwrap());
    let expected = truth.loss();
    assert!((got - expected).abs() <= 1e-5 * expected, "{place}: loss {got}, expected {expected}");

    for (i, parameter) in model.encoder.parameters().iter().enumerate() {
        let gradient: Vec<f32> = device.read_vec(&parameter.first, parameter.len()).unwrap();
        let slopes = (0..parameter.len()).map(|n| truth.slope(|truth| &mut truth.encoder[i].0[n]));
        compare(&format!("{place}: {}", parameter.name), &gradient, &slopes.collect::<Vec<_>>());
    }
    let [weights, _, bias, _] = model.classifier.states(device).unwrap();
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
