//! The dense layer: its kernels against their twins, and its step and ranking against formulas in f64.

mod support;

use regrow::classifier::{
    Dense, DenseBlock, DenseOptions, DenseRole, Head, Positives, Ranker, Step, StepScale,
};
use regrow::device::{Buffer, Device, Recording, Slice};
use regrow::kernels::fan_in_dlogits::{Block, Loss};
use regrow::kernels::fan_in_top_k::{LOWEST, NOTHING, segments};
use regrow::kernels::optimizer::Rule;
use regrow::kernels::products::Products;
use regrow::kernels::storage::Precision;
use regrow::kernels::{columns_of, label_loss, logits_top_k, row_bias};
use support::device::{
    Numbers, Outputs, assert_close, compare, engines, garbage, run, sum_tolerance, upload, writable,
};
use support::layer::{Hyper, Layer, loss_of, shapes};

/// What the gradients are divided by.
const SCALE: f32 = 0.25;

#[test]
fn losses_of_given_logits() {
    for (seed, (block, features)) in shapes().into_iter().enumerate() {
        // For its positives.
        let layer = Layer::new((block, features), seed as u64);
        let (columns, mut numbers) = (layer.columns(), Numbers::new(seed as u64 + 300));
        let (logits, bias) = (numbers.floats(block.rows * columns, 4.0), numbers.floats(block.rows, 2.0));
        let z = |i: usize| f64::from(logits[i]) + f64::from(bias[i / columns]);
        let launch = |device: &Device, loss: Option<Loss>| {
            let [dlogits, sums] = [block.rows * columns, block.rows].map(|len| garbage(device, len));
            let [logits, bias] = [&logits, &bias].map(|values| upload(device, values));
            let positives = upload(device, &layer.positives);
            let bindings = [&logits, &bias, &positives, &dlogits.whole(), &sums.whole()];
            run(device, [label_loss::launch(block, loss, SCALE, layer.positives.len(), bindings)]);
            [dlogits, sums]
        };
        for loss in [Loss::Bce, Loss::SquaredHinge] {
            let case = format!("{loss:?} of {block:?}");
            let got = compare(&case, |device| {
                let [dlogits, sums] = launch(device, Some(loss));
                let outputs = Outputs::of(device).close("dlogits", &dlogits, block.rows * columns, 8);
                outputs.close("label_loss", &sums, block.rows, 8 + block.batch)
            });
            let (mut losses, mut gradients) = (vec![0.0; block.rows], vec![0.0; block.rows * columns]);
            for (i, gradient) in gradients.iter_mut().enumerate().filter(|(i, _)| i % columns < block.batch) {
                let pair = [(block.first_label + i / columns) as u32, (i % columns) as u32];
                let (value, slope) = loss_of(loss, z(i), layer.positives.contains(&pair));
                losses[i / columns] += value;
                *gradient = f64::from(SCALE) * slope;
            }
            assert_close(&case, got.floats("dlogits"), &gradients, sum_tolerance(8, &gradients));
            assert_close(&case, got.floats("label_loss"), &losses, sum_tolerance(8 + block.batch, &losses));
        }
        let case = format!("logits of {block:?}");
        let got = compare(&case, |device| {
            let [sums, _] = launch(device, None);
            Outputs::of(device).close("logits", &sums, block.rows * columns, 1)
        });
        let truth: Vec<f64> = (0..block.rows * columns).map(z).collect();
        assert_close(&case, got.floats("logits"), &truth, sum_tolerance(1, &truth));
    }
}

#[test]
fn biases_of_rows_leave_the_padding_zero() {
    for (rows, batch) in [(1, 1), (7, 16), (33, 7), (65, 33)] {
        let columns = columns_of(batch);
        let mut numbers = Numbers::new(rows as u64);
        let (z, bias) = (numbers.floats(rows * columns, 1.0), numbers.floats(rows, 1.0));
        let got = compare(&format!("{rows} biases"), |device| {
            let buffer = writable(device, &z);
            run(device, [row_bias::launch(rows, batch, &upload(device, &bias), &buffer.whole())]);
            Outputs::of(device).exact("z", &buffer, rows * columns)
        });
        for (i, got) in got.floats("z").iter().enumerate() {
            let inside = i % columns < batch;
            assert_eq!(*got, if inside { z[i] + bias[i / columns] } else { 0.0 }, "{rows}, {batch}, {i}");
        }
    }
}

/// The K best (score, label) of a sample, best first, equal scores by lower label, without those that are filtered.
fn best(scores: &[f64], first_label: usize, filter: &[u32], k: usize) -> Vec<(f64, u32)> {
    let mut all: Vec<(f64, u32)> =
        scores.iter().enumerate().map(|(i, score)| (*score, (first_label + i) as u32)).collect();
    all.retain(|(_, label)| !filter.contains(label));
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    all.truncate(k);
    all
}

#[test]
fn best_of_given_logits() {
    for (rows, batch, k) in [(1, 1, 5), (7, 33, 3), (513, 7, 5), (1100, 16, 3), (300, 1, 60)] {
        let block =
            Block { rows, first_label: 40, fan_in: 1, group: 1, batch, precision: Precision::default() };
        let (columns, mut numbers) = (columns_of(batch), Numbers::new(rows as u64));
        // Whole numbers: sums are exact, and many are equal.
        let (mut logits, bias) = (numbers.integers(rows * columns, 9), numbers.integers(rows, 3));
        if rows > 7 {
            // Never among the best.
            logits[5 * columns] = f32::NAN;
        }
        let score = |row: usize, sample: usize| f64::from(logits[row * columns + sample] + bias[row]);
        let scores = |sample: usize, rows: std::ops::Range<usize>| -> Vec<f64> {
            rows.map(|row| score(row, sample)).map(|z| if z.is_nan() { f64::MIN } else { z }).collect()
        };
        let (mut filter_offsets, mut filter_labels) = (vec![0_u32], Vec::new());
        for sample in 0..batch {
            if sample % 2 == 1 {
                let best = best(&scores(sample, 0..rows), 40, &[], 3);
                filter_labels.extend(best.iter().step_by(2).map(|(_, label)| *label));
                filter_labels.push(1_000_000);
            }
            filter_offsets.push(filter_labels.len() as u32);
        }
        let count = segments(rows);
        let (mut want_scores, mut want_labels) = (vec![], vec![]);
        for segment in 0..count {
            for sample in 0..columns {
                let mut list = vec![];
                let mine = segment * 512..rows.min((segment + 1) * 512);
                if sample < batch {
                    let filter =
                        &filter_labels[filter_offsets[sample] as usize..filter_offsets[sample + 1] as usize];
                    list = best(&scores(sample, mine.clone()), 40 + mine.start, filter, k);
                }
                list.retain(|(score, _)| *score > f64::MIN);
                list.resize(k, (f64::from(LOWEST), NOTHING));
                want_scores.extend(list.iter().map(|(score, _)| *score as f32));
                want_labels.extend(list.iter().map(|(_, label)| *label));
            }
        }
        filter_labels.push(0);
        let case = format!("top {k} of {rows} labels, {batch} samples");
        let got = compare(&case, |device| {
            let [logits, bias] = [&logits, &bias].map(|values| upload(device, values));
            let filter = [upload(device, &filter_offsets), upload(device, &filter_labels)];
            let [scores, labels] = [(); 2].map(|()| garbage(device, count * columns * k));
            let bindings = [&logits, &bias, &filter[0], &filter[1], &scores.whole(), &labels.whole()];
            run(device, [logits_top_k::launch(block, k, bindings)]);
            Outputs::of(device).within("scores", &scores, count * columns * k, 0.0).exact(
                "labels",
                &labels,
                count * columns * k,
            )
        });
        assert_eq!(got.words("labels"), want_labels, "{case}");
        assert_eq!(got.floats("scores"), want_scores, "{case}");
    }
}

fn options(labels: usize, features: usize, max_batch: usize, rule: Rule) -> DenseOptions {
    DenseOptions {
        role: DenseRole::Classifier,
        labels,
        features,
        max_batch,
        rule,
        train_bias: true,
        init_scale: 1.0,
        bias_init: -0.5,
        seed: 7,
        max_block_rows: 0,
    }
}

/// A dense layer's numbers as a fixed fan-in layer that has every feature once, in order.
fn dense_layer(labels: usize, features: usize, batch: usize) -> Layer {
    let block = Block {
        rows: labels,
        first_label: 0,
        fan_in: features,
        group: 1,
        batch,
        precision: Precision::default(),
    };
    let mut layer = Layer::new((block, features), labels as u64);
    for row in layer.indices.chunks_exact_mut(features.next_multiple_of(2)) {
        row[..features].iter_mut().enumerate().for_each(|(i, index)| *index = i as u16);
    }
    layer
}

/// The tensor of all blocks.
fn read(device: &Device, layer: &Dense, buffer: fn(&DenseBlock) -> &Buffer, width: usize) -> Vec<f32> {
    let block = |block: &DenseBlock| -> Vec<f32> {
        device.read_vec(buffer(block), block.shape.rows * width).unwrap()
    };
    layer.blocks.iter().flat_map(block).collect()
}

#[test]
fn a_step_is_that_of_the_formulas() {
    for (labels, features, batch, max_block_rows) in
        [(1, 1, 1, 0), (7, 33, 7, 3), (33, 7, 33, 16), (65, 20, 16, 0)]
    {
        let truth = dense_layer(labels, features, batch);
        let columns = truth.columns();
        // Positives of the labels that there are.
        let positives: Vec<[u32; 2]> =
            truth.positives.iter().copied().filter(|pair| (pair[0] as usize) < labels).collect();
        let hyper = Hyper { step: 1, ..Hyper::SAMPLE };
        for (rule, loss) in [(Rule::Momentum, Loss::Bce), (Rule::AdamW, Loss::SquaredHinge)] {
            let (sums, mut slopes) = truth.loss(loss);
            slopes.iter_mut().for_each(|slope| *slope *= f64::from(SCALE));
            let before = Numbers::new(3).floats(features * columns, 1.0);
            let mut dx = truth.feature_gradient(&slopes);
            dx.iter_mut().zip(&before).for_each(|(dx, before)| *dx += f64::from(*before));
            let dweights = truth.weight_gradient(&slopes);
            let dbias: Vec<f64> = slopes.chunks(columns).map(|row| row.iter().sum()).collect();
            for (engine, device) in engines() {
                let place =
                    format!("{labels} labels, {features} features, batch {batch}, {rule:?} on {engine}");
                let options = DenseOptions { max_block_rows, ..options(labels, features, batch, rule) };
                let layer = Dense::new(device, options, Products::floor()).unwrap();
                layer.set_contents(device, &truth.weights, &truth.bias).unwrap();
                let logits = layer.logits(device, batch, &upload(device, &truth.x)).unwrap();
                let z = truth.logits();
                let want: Vec<f64> =
                    (0..batch * labels).map(|i| z[i % labels * columns + i / labels]).collect();
                assert_close(&place, &logits, &want, sum_tolerance(features + 1, &want));
                let (x, dx_buffer) = (upload(device, &truth.x), writable(device, &before));
                let losses = writable(device, &[0.0_f32, 1.0, 0.0, 0.0]);
                let step = Step {
                    batch,
                    loss,
                    scale: StepScale { gradient: SCALE, loss: 0.5, place: 1 },
                    step: 0,
                    rates: hyper.rates(rule),
                    positives: &Positives { count: positives.len(), pairs: upload(device, &positives) },
                    x: &exactly(&x, features * columns),
                    dx: &exactly(&dx_buffer.whole(), features * columns),
                    losses: &losses.whole(),
                };
                let mut recording = Recording::new();
                layer.record_step(&mut recording, &step);
                device.submit(recording).unwrap();

                let ring: Vec<f32> = device.read_vec(&losses, 4).unwrap();
                let want = [0.0, 1.0 + 0.5 * sums.iter().sum::<f64>(), 0.0, 0.0];
                assert_close(&place, &ring, &want, sum_tolerance(features + 16, &want));
                let got: Vec<f32> = device.read_vec(&dx_buffer, features * columns).unwrap();
                assert_close(&place, &got, &dx, sum_tolerance(labels + features + 8, &dx));
                let sides = [
                    (read(device, &layer, |b| &b.weights, features), &truth.weights, &dweights, hyper),
                    (
                        read(device, &layer, |b| &b.bias, 1),
                        &truth.bias,
                        &dbias,
                        Hyper { weight_decay: 0.0, ..hyper },
                    ),
                ];
                for (got, before, gradient, hyper) in sides {
                    let want: Vec<f64> = before
                        .iter()
                        .zip(gradient)
                        .map(|(p, g)| hyper.step(rule, f64::from(*p), *g, 0.0, 0.0)[0])
                        .collect();
                    // The first step of Adam is ± the learning rate, unless the gradient is lost in its own rounding.
                    let clear = |g: f64| rule == Rule::Momentum || g == 0.0 || g.abs() > 1e-3;
                    for ((got, want), g) in got.iter().zip(&want).zip(gradient).filter(|(_, g)| clear(**g)) {
                        let tolerance = sum_tolerance(batch + features + 8, &[*want, 1.0]);
                        assert_close(&format!("{place}, gradient {g}"), &[*got], &[*want], tolerance);
                    }
                }
                let wanted = [(&dweights, read(device, &layer, |b| &b.first, features))];
                for (want, got) in wanted {
                    let share = if rule == Rule::Momentum { 1.0 } else { 1.0 - hyper.beta1 };
                    // Momentum has the coupled decay in its buffer, AdamW has not.
                    let decay = if rule == Rule::Momentum { hyper.weight_decay } else { 0.0 };
                    let want: Vec<f64> = want
                        .iter()
                        .zip(&truth.weights)
                        .map(|(g, w)| share * (g + decay * f64::from(*w)))
                        .collect();
                    assert_close(&place, &got, &want, sum_tolerance(batch + features + 8, &want));
                }
            }
        }
    }
}

/// The front of a test's buffer, without the guard behind it.
fn exactly(slice: &Slice, count: usize) -> Slice {
    slice.front((count * 4) as u64)
}

/// Blocks of 130 labels, a batch for which a ranker has room for 256 of them at once, and labels that are left out.
#[test]
fn ranking_is_a_sort_of_the_logits() {
    let (labels, features, batch, k) = (700, 6, 7, 5);
    let columns = columns_of(batch);
    let mut numbers = Numbers::new(5);
    let (weights, bias) = (numbers.integers(labels * features, 3), numbers.integers(labels, 2));
    let mut x = numbers.integers(features * columns, 2);
    x.chunks_mut(columns).for_each(|x| x[batch..].fill(0.0));
    let scores = |sample: usize| -> Vec<f64> {
        let score = |l: usize| {
            let row = &weights[l * features..][..features];
            let sum: f32 = row.iter().enumerate().map(|(d, w)| w * x[d * columns + sample]).sum();
            f64::from(bias[l] + sum)
        };
        (0..labels).map(score).collect()
    };
    let filters: Vec<Vec<u32>> = (0..batch)
        .map(|sample| {
            best(&scores(sample), 0, &[], 3).iter().map(|(_, label)| *label).take(sample % 3).collect()
        })
        .collect();
    let mut offsets = vec![0_u32];
    filters.iter().for_each(|filter| offsets.push(offsets.last().unwrap() + filter.len() as u32));
    let filtered = [filters.concat(), vec![0; 4]].concat();
    for (engine, device) in engines() {
        for max_block_rows in [0, 130] {
            // A batch of 65,536 leaves room for the logits of 256 labels, so blocks are ranked in pieces.
            for max_batch in [batch, 65_536] {
                let options = DenseOptions { max_block_rows, ..options(labels, features, 0, Rule::Sgd) };
                let layer = Dense::allocate(device, options, Products::floor()).unwrap();
                layer.set_contents(device, &weights, &bias).unwrap();
                let head = Head::Dense(layer);
                let ranker = Ranker::new(device, &head, k, max_batch).unwrap();
                let (x, offsets, filtered) =
                    (upload(device, &x), upload(device, &offsets), upload(device, &filtered));
                let mut recording = Recording::new();
                let x = exactly(&x, features * columns);
                let ranked = ranker.record(&mut recording, &head, batch, &x, [&offsets, &filtered]);
                device.submit(recording).unwrap();
                for (sample, list) in ranked.collect(device).unwrap().into_iter().enumerate() {
                    let got: Vec<(f64, u32)> =
                        list.into_iter().map(|(label, score)| (f64::from(score), label)).collect();
                    let want = best(&scores(sample), 0, &filters[sample], k);
                    assert_eq!(got, want, "sample {sample}, blocks of {max_block_rows} on {engine}");
                }
            }
        }
    }
}

/// Starting weights are uniform within ± scale / √D, whatever the blocks and the device, and differ between layers.
#[test]
fn a_start_depends_on_the_seed_alone() {
    let (labels, features) = (300, 25);
    let start = |device: &Device, options: DenseOptions| {
        Dense::new(device, options, Products::floor()).unwrap().contents(device).unwrap()
    };
    let whole = options(labels, features, 4, Rule::AdamW);
    let [(_, first), ..] = engines();
    let (weights, bias) = start(first, whole);
    assert!(bias.iter().all(|bias| *bias == -0.5) && bias.len() == labels);
    let bound = 1.0 / 5.0;
    assert!(weights.iter().all(|w| w.abs() <= bound));
    let mean =
        |f: fn(f64) -> f64| weights.iter().map(|w| f(f64::from(*w))).sum::<f64>() / weights.len() as f64;
    // Of 7500 numbers the mean is off by bound / √3 / √7500 = 1.3e-3, their mean square bound² / 3 by 1 %.
    assert!(mean(|w| w).abs() < 6e-3, "{}", mean(|w| w));
    assert!((mean(|w| w * w) / (0.04 / 3.0) - 1.0).abs() < 0.05);
    for (engine, device) in engines() {
        let blocks = DenseOptions { max_block_rows: 7, ..whole };
        assert_eq!(start(device, blocks).0, weights, "{engine}");
    }
    for other in [DenseOptions { seed: 8, ..whole }, DenseOptions { role: DenseRole::Auxiliary, ..whole }] {
        let other = start(first, other).0;
        assert!(other.iter().zip(&weights).filter(|(a, b)| a == b).count() < 10);
    }
    assert!(Dense::new(first, DenseOptions { labels: 0, ..whole }, Products::floor()).is_err());
}
