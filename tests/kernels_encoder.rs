//! The kernels of the encoder, of dropout and of dense optimizer steps against their twins, and both against f64.

mod support;

use regrow::kernels::dropout::Dropout;
use regrow::kernels::optimizer::Rule;
use regrow::kernels::storage::StateStorage;
use regrow::kernels::{
    bag_forward, column_sum, columns_of, dropout_columns, dropout_columns_backward, embedding_gradient,
    embedding_update, layer_norm, layer_norm_backward, layer_norm_parameters, optimizer_step,
};
use regrow::random::{Purpose, words};
use support::device::{
    Numbers, Outputs, ULP, assert_close, compare, engines, garbage, run, sum_tolerance, upload, writable,
};
use support::layer::Hyper;

fn f64s(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

#[test]
fn column_sums() {
    for (rows, columns) in [(1, 1), (7, 65), (33, 3), (130, 70)] {
        let matrix = Numbers::new(rows as u64).floats(rows * columns, 1.0);
        let case = format!("column sums of {rows} x {columns}");
        let got = compare(&case, |device| {
            let sums = garbage(device, columns);
            run(device, [column_sum::launch(rows, columns, &upload(device, &matrix), &sums.whole(), false)]);
            Outputs::of(device).close("sums", &sums, columns, rows)
        });
        let sum = |c: usize| matrix.chunks(columns).map(|row| f64::from(row[c])).sum();
        let truth: Vec<f64> = (0..columns).map(sum).collect();
        assert_close(&case, got.floats("sums"), &truth, sum_tolerance(rows, &truth));
    }
}

const EPSILON: f32 = 1e-5;

/// LayerNorm of one row in f64: (y, mean, 1/σ).
fn norm(x: &[f64], gamma: &[f32], beta: &[f32]) -> (Vec<f64>, f64, f64) {
    let count = x.len() as f64;
    let mean = x.iter().sum::<f64>() / count;
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
    let rstd = 1.0 / (variance + f64::from(EPSILON)).sqrt();
    let y = x.iter().zip(gamma).zip(beta);
    (
        y.map(|((x, gamma), beta)| (x - mean) * rstd * f64::from(*gamma) + f64::from(*beta)).collect(),
        mean,
        rstd,
    )
}

/// How far the gradient of a norm's input may be off: 4 ulps for each of about `hidden` terms, of the largest that
/// may cancel.
fn norm_gradient_tolerance(rows: &[f64], hidden: usize, gamma: &[f32], dy: &[f32]) -> f64 {
    let rstd = rows.chunks(hidden).map(|row| norm(row, gamma, gamma).2).fold(0.0, f64::max);
    let terms = dy.iter().zip(gamma.iter().cycle()).map(|(dy, gamma)| f64::from(dy * gamma));
    sum_tolerance(hidden + 4, &terms.map(|g| rstd * g).collect::<Vec<_>>())
}

#[test]
fn layer_norm_and_its_gradients() {
    for (rows, hidden) in [(1, 2), (7, 33), (33, 64), (16, 65), (65, 130)] {
        let mut numbers = Numbers::new(hidden as u64);
        let mut x = numbers.floats(rows * hidden, 2.0);
        // A mean far from zero: the variance must not be a difference of large squares.
        x.iter_mut().take(hidden).for_each(|x| *x += 10.0);
        let (gamma, beta) = (numbers.floats(hidden, 1.0), numbers.floats(hidden, 1.0));
        let dy = numbers.floats(rows * hidden, 1.0);
        let tolerance = norm_gradient_tolerance(&f64s(&x), hidden, &gamma, &dy);
        let case = format!("layer norm of {rows} x {hidden}");
        let got = compare(&case, |device| {
            let tensors = [&x, &gamma, &beta, &dy].map(|values| upload(device, values));
            let [x, gamma, beta, dy] = tensors.each_ref();
            let (y, stats, dx) =
                (garbage(device, rows * hidden), garbage(device, rows * 2), garbage(device, rows * hidden));
            let (dgamma, dbeta) = (garbage(device, hidden), garbage(device, hidden));
            let s = stats.whole();
            run(
                device,
                [
                    layer_norm::launch(rows, hidden, EPSILON, [x, gamma, beta, &y.whole(), &s]),
                    layer_norm_backward::launch(rows, hidden, [x, &s, gamma, dy, &dx.whole()]),
                    layer_norm_parameters::launch(
                        rows,
                        hidden,
                        [x, &s, dy, &dgamma.whole(), &dbeta.whole()],
                        false,
                    ),
                ],
            );
            Outputs::of(device)
                .close("y", &y, rows * hidden, hidden)
                .close("stats", &stats, rows * 2, hidden)
                .within("dx", &dx, rows * hidden, tolerance)
                .close("dgamma", &dgamma, hidden, rows + hidden)
                .close("dbeta", &dbeta, hidden, rows)
        });
        let (mut y, mut stats, mut dx) = (Vec::new(), Vec::new(), Vec::new());
        let (mut dgamma, mut dbeta) = (vec![0.0; hidden], vec![0.0; hidden]);
        for (x, dy) in f64s(&x).chunks(hidden).zip(f64s(&dy).chunks(hidden)) {
            let (row, mean, rstd) = norm(x, &gamma, &beta);
            y.extend(row);
            stats.extend([mean, rstd]);
            for h in 0..hidden {
                // Finite differences: independent of the formula of the gradient.
                let moved = |by: f64| {
                    let mut x = x.to_vec();
                    x[h] += by;
                    norm(&x, &gamma, &beta).0.iter().zip(dy).map(|(y, dy)| y * dy).sum::<f64>()
                };
                dx.push((moved(1e-5) - moved(-1e-5)) / 2e-5);
                dgamma[h] += dy[h] * (x[h] - mean) * rstd;
                dbeta[h] += dy[h];
            }
        }
        let truths = [("y", y), ("stats", stats), ("dx", dx), ("dgamma", dgamma), ("dbeta", dbeta)];
        for (name, truth) in truths {
            let tolerance = sum_tolerance(rows + hidden, &truth) + 1e-6;
            assert_close(&format!("{case}, {name}"), got.floats(name), &truth, tolerance);
        }
    }
}

/// Documents over a vocabulary: (tokens, offsets [B + 1]); the second document is empty.
fn documents(batch: usize, vocabulary: usize) -> (Vec<u32>, Vec<u32>) {
    let mut numbers = Numbers::new((batch * vocabulary) as u64);
    let (mut tokens, mut offsets) = (Vec::new(), vec![0]);
    for document in 0..batch {
        let count = if document == 1 { 0 } else { 1 + numbers.below(40) };
        tokens.extend((0..count).map(|_| numbers.below(vocabulary) as u32));
        offsets.push(tokens.len() as u32);
    }
    (tokens, offsets)
}

#[test]
fn bags_of_embeddings_there_and_back() {
    for (batch, vocabulary, hidden) in [(1, 3, 1), (7, 65, 33), (16, 10, 64), (33, 131, 5)] {
        let mut numbers = Numbers::new(hidden as u64);
        let (tokens, offsets) = documents(batch, vocabulary);
        let table = numbers.floats(vocabulary * hidden, 1.0);
        let dpooled = numbers.floats(batch * hidden, 1.0);
        // Occurrences of each token, in the order of the documents.
        let document_of = |t: usize| offsets.partition_point(|offset| *offset as usize <= t) - 1;
        let mut unique = tokens.clone();
        unique.sort_unstable();
        unique.dedup();
        let (mut bucket_offsets, mut bucket_rows) = (vec![0_u32], Vec::new());
        for token in &unique {
            let places = (0..tokens.len()).filter(|t| tokens[*t] == *token);
            bucket_rows.extend(places.map(|t| document_of(t) as u32));
            bucket_offsets.push(bucket_rows.len() as u32);
        }
        let case = format!("bags of {batch} documents, {vocabulary} x {hidden}");
        let got = compare(&case, |device| {
            let [table, dpooled] = [&table, &dpooled].map(|values| upload(device, values));
            let words = [&tokens, &offsets, &bucket_offsets, &bucket_rows].map(|words| upload(device, words));
            let [tokens_slice, offsets, bucket_offsets, bucket_rows] = words.each_ref();
            let (pooled, gradient) =
                (garbage(device, batch * hidden), garbage(device, unique.len() * hidden));
            let backward = [&dpooled, offsets, bucket_offsets, bucket_rows, &gradient.whole()];
            run(
                device,
                [
                    bag_forward::launch(
                        batch,
                        tokens.len(),
                        hidden,
                        [&table, tokens_slice, offsets, &pooled.whole()],
                    ),
                    embedding_gradient::launch(unique.len(), tokens.len(), hidden, backward),
                ],
            );
            Outputs::of(device).close("pooled", &pooled, batch * hidden, 45).close(
                "gradient",
                &gradient,
                unique.len() * hidden,
                bucket_rows_of(&unique, &tokens),
            )
        });
        let mut pooled = vec![0.0; batch * hidden];
        let mut gradient = vec![0.0; unique.len() * hidden];
        for (t, token) in tokens.iter().enumerate() {
            let document = document_of(t);
            let count = f64::from(offsets[document + 1] - offsets[document]);
            let place = unique.binary_search(token).unwrap();
            for h in 0..hidden {
                pooled[document * hidden + h] += f64::from(table[*token as usize * hidden + h]) / count;
                gradient[place * hidden + h] += f64::from(dpooled[document * hidden + h]) / count;
            }
        }
        assert_close(&case, got.floats("pooled"), &pooled, sum_tolerance(45, &pooled));
        let terms = bucket_rows_of(&unique, &tokens);
        assert_close(&case, got.floats("gradient"), &gradient, sum_tolerance(terms, &gradient));
    }
}

/// Occurrences of the most frequent token, and a few for the division.
fn bucket_rows_of(unique: &[u32], tokens: &[u32]) -> usize {
    let count = |token: &u32| tokens.iter().filter(|t| *t == token).count();
    unique.iter().map(count).max().unwrap_or(0) + 3
}

#[test]
fn dense_and_embedding_steps() {
    let (hyper, exact) = (Hyper::SAMPLE, StateStorage::default());
    for (vocabulary, hidden) in [(1, 1), (7, 33), (131, 5), (65, 64)] {
        let count = vocabulary * hidden;
        let mut numbers = Numbers::new(count as u64);
        let parameters = numbers.floats(count, 1.0);
        // Every third token is in the batch; the gradients of the others are zero.
        let unique: Vec<u32> = (0..vocabulary as u32).step_by(3).collect();
        let sparse = numbers.floats(unique.len() * hidden, 1.0);
        let mut dense = vec![0.0_f32; count];
        for (gradient, token) in sparse.chunks(hidden).zip(&unique) {
            dense[*token as usize * hidden..][..hidden].copy_from_slice(gradient);
        }
        for rule in Rule::ALL {
            let case = format!("{rule:?} of {vocabulary} x {hidden}");
            let states = |state: usize| if rule.states() >= state { count } else { 4 };
            // From states of zero, three steps.
            let got = compare(&case, |device| {
                let [sparse, dense] = [&sparse, &dense].map(|values| upload(device, values));
                let unique_slice = upload(device, &unique);
                let [table, tensor] = [(); 2].map(|()| writable(device, &parameters));
                let [m1, m2] = [(); 2].map(|()| writable(device, &vec![0.0_f32; states(1)]));
                let [v1, v2] = [(); 2].map(|()| writable(device, &vec![0.0_f32; states(2)]));
                let launches = (1..=3).flat_map(|step| {
                    let rates = Hyper { step, ..hyper }.rates(rule);
                    let table = [&sparse, &unique_slice, &table.whole(), &m1.whole(), &v1.whole()];
                    let tensor = [&dense, &tensor.whole(), &m2.whole(), &v2.whole()];
                    [
                        embedding_update::launch(vocabulary, hidden, unique.len(), rule, rates, exact, table),
                        optimizer_step::launch(count, rule, rates, exact, tensor),
                    ]
                });
                run(device, launches);
                Outputs::of(device)
                    .close("table", &table, count, 4)
                    .close("table_first", &m1, states(1), 4)
                    .close("table_second", &v1, states(2), 4)
                    .close("tensor", &tensor, count, 4)
                    .close("tensor_first", &m2, states(1), 4)
                    .close("tensor_second", &v2, states(2), 4)
            });
            for i in 0..count {
                let mut truth = [f64::from(parameters[i]), 0.0, 0.0];
                for step in 1..=3 {
                    let [p, m, v] = truth;
                    truth = Hyper { step, ..hyper }.step(rule, p, f64::from(dense[i]), m, v);
                }
                for (which, names) in
                    [["table", "tensor"], ["table_first", "tensor_first"], ["table_second", "tensor_second"]]
                        .into_iter()
                        .enumerate()
                        .take(rule.states() + 1)
                {
                    for name in names {
                        let place = format!("{case}, {name} {i}");
                        assert_close(
                            &place,
                            &got.floats(name)[i..=i],
                            &truth[which..=which],
                            16.0 * ULP * 3.0,
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn dropout_keeps_the_same_elements_there_and_back() {
    for (batch, features) in [(1, 3), (7, 70), (16, 33), (33, 65), (33, 1024)] {
        let columns = columns_of(batch);
        let from = Numbers::new(features as u64).floats(batch * features, 1.0);
        let back = Numbers::new(7).floats(features * columns, 1.0);
        for probability in [0.0, 0.5, 0.1] {
            let dropout = Dropout { probability, seed: 0x1234_5678_9abc_def0, step: 77, stream: 0 };
            let case = format!("dropout {probability} of {batch} x {features}");
            let got = compare(&case, |device| {
                let (x, dfeatures) = (garbage(device, features * columns), garbage(device, batch * features));
                let [from, back] = [&from, &back].map(|values| upload(device, values));
                run(
                    device,
                    [
                        dropout_columns::launch(batch, features, dropout, &from, &x.whole()),
                        dropout_columns_backward::launch(batch, features, dropout, &back, &dfeatures.whole()),
                    ],
                );
                let out = Outputs::of(device).exact("x", &x, features * columns);
                out.exact("dfeatures", &dfeatures, batch * features)
            });
            let (x, dfeatures) = (got.floats("x"), got.floats("dfeatures"));
            let scale = (1.0 / (1.0 - f64::from(probability))) as f32;
            let mut kept = 0;
            for element in 0..batch * features {
                let (b, d) = (element / features, element % features);
                // By the generator itself: word number element % 4 of counter element / 4.
                let word = words(dropout.seed, Purpose::Dropout, 77, element as u32 / 4, 0)[element % 4];
                let keep = f64::from(word) >= (f64::from(probability) * 4_294_967_296.0).floor();
                let factor = |value: f32| if keep { value * scale } else { 0.0 };
                assert_eq!(x[d * columns + b], factor(from[element]), "{case}: element {element}");
                assert_eq!(
                    dfeatures[element],
                    factor(back[d * columns + b]),
                    "{case}: element {element}, back"
                );
                kept += usize::from(keep);
            }
            assert!(
                x.chunks(columns).all(|x| x[batch..].iter().all(|x| *x == 0.0)),
                "{case}: beyond the batch"
            );
            let (count, p) = ((batch * features) as f64, f64::from(probability));
            let deviation = (count * p * (1.0 - p)).sqrt();
            assert!((kept as f64 - count * (1.0 - p)).abs() <= 4.0 * deviation, "{case}: {kept} kept");
        }
    }
    // Another step, another mask.
    let (_, device) = engines()[0];
    let masks = [0, 1].map(|step| {
        let x = garbage(device, 64 * 16);
        let dropout = Dropout { probability: 0.5, seed: 1, step, stream: 0 };
        let ones = upload(device, &[1.0_f32; 16 * 64]);
        run(device, [dropout_columns::launch(16, 64, dropout, &ones, &x.whole())]);
        device.read_vec::<u32>(&x, 64 * 16).unwrap()
    });
    assert_ne!(masks[0], masks[1]);
}
