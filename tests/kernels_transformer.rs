//! The transformer's kernels over rows against their twins, and both against f64.

mod support;

use regrow::device::{Buffer, Device, DeviceOptions};
use regrow::kernels::dropout::Dropout;
use regrow::kernels::pool::{self, Place, PoolKind};
use regrow::kernels::{
    add_norm, clip_factor, column_sum, dropout_rows, embed_tokens, layer_norm_backward,
    layer_norm_parameters, position_gradient, scale_by, square_sum, token_gradient,
};
use regrow::random::{Purpose, words};
use support::device::{
    Numbers, Outputs, ULP, assert_close, compare, garbage, run, sum_tolerance, upload, writable,
};

const SEED: u64 = 0x1234_5678_9abc_def0;

fn dropout(probability: f32, stream: u32) -> Dropout {
    Dropout { probability, seed: SEED, step: 77, stream }
}

/// What element number `element` is multiplied by: word number element % 4 of counter element / 4.
fn factor(dropout: Dropout, element: usize) -> f32 {
    let Dropout { probability, seed, step, stream } = dropout;
    let word = words(seed, Purpose::Dropout, step, element as u32 / 4, stream)[element % 4];
    let keep = f64::from(word) >= (f64::from(probability) * 4_294_967_296.0).floor();
    if keep { (1.0 / (1.0 - f64::from(probability))) as f32 } else { 0.0 }
}

#[test]
fn dropout_of_rows() {
    let mut masks = Vec::new();
    for (count, probability, stream) in
        [(1, 0.5, 0), (7, 0.5, 3), (65, 0.0, 1), (1001, 0.1, 0), (9001, 0.5, 1), (9001, 0.5, 2)]
    {
        let (x, dropout) = (Numbers::new(count as u64).floats(count, 1.0), dropout(probability, stream));
        let case = format!("dropout {probability} of {count}, stream {stream}");
        let got = compare(&case, |device| {
            let y = garbage(device, count);
            run(device, [dropout_rows::launch(count, dropout, &upload(device, &x), &y.whole())]);
            Outputs::of(device).exact("y", &y, count)
        });
        let want: Vec<f32> = x.iter().enumerate().map(|(i, x)| x * factor(dropout, i)).collect();
        assert_eq!(got.floats("y"), want, "{case}");
        let (p, kept) = (f64::from(probability), got.floats("y").iter().filter(|y| **y != 0.0).count());
        let deviation = (count as f64 * p * (1.0 - p)).sqrt();
        assert!((kept as f64 - count as f64 * (1.0 - p)).abs() <= 4.0 * deviation, "{case}: {kept} kept");
        masks.push(want.iter().map(|y| *y != 0.0).collect::<Vec<_>>());
    }
    assert_ne!(masks[4], masks[5], "another stream, another mask");
}

const EPSILON: f32 = 1e-5;

/// LayerNorm of one row in f64: (y, mean, 1/σ).
fn norm(x: &[f64], gamma: &[f32], beta: &[f32]) -> (Vec<f64>, f64, f64) {
    let count = x.len() as f64;
    let mean = x.iter().sum::<f64>() / count;
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
    let rstd = 1.0 / (variance + f64::from(EPSILON)).sqrt();
    let y = x.iter().zip(gamma).zip(beta);
    (y.map(|((x, g), b)| (x - mean) * rstd * f64::from(*g) + f64::from(*b)).collect(), mean, rstd)
}

/// How far the gradient of a norm's input may be off: 4 ulps for each of about `hidden` terms, of the largest that
/// may cancel.
fn norm_gradient_tolerance(rows: &[f64], hidden: usize, gamma: &[f32], dy: &[f32]) -> f64 {
    let rstd = rows.chunks(hidden).map(|row| norm(row, gamma, gamma).2).fold(0.0, f64::max);
    let terms = dy.iter().zip(gamma.iter().cycle()).map(|(dy, gamma)| f64::from(dy * gamma));
    sum_tolerance(hidden + 4, &terms.map(|g| rstd * g).collect::<Vec<_>>())
}

#[test]
fn dropout_residual_and_norm_there_and_back() {
    for (rows, hidden, probability) in
        [(3, 1, 0.0), (1, 2, 0.0), (7, 33, 0.1), (33, 65, 0.5), (66, 7, 0.5), (130, 66, 0.1), (2, 384, 0.1)]
    {
        let (count, dropout) = (rows * hidden, dropout(probability, 5));
        let mut numbers = Numbers::new(hidden as u64);
        let (x, mut residual) = (numbers.floats(count, 2.0), numbers.floats(count, 2.0));
        // A mean far from zero: the variance must not be a difference of large squares.
        residual[..hidden].iter_mut().for_each(|x| *x += 10.0);
        let (gamma, beta) = (numbers.floats(hidden, 1.0), numbers.floats(hidden, 1.0));
        let dy = numbers.floats(count, 1.0);
        let before = numbers.floats(hidden, 1.0);
        let f64s = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<_>>();
        let dropped = |i: usize| f64::from(x[i]) * f64::from(factor(dropout, i));
        let sum: Vec<f64> = (0..count).map(|i| f64::from(residual[i]) + dropped(i)).collect();
        let tolerance = norm_gradient_tolerance(&sum, hidden, &gamma, &dy);
        let case = format!("norm of {rows} x {hidden} with dropout {probability}");
        let got = compare(&case, |device| {
            let tensors = [&x, &residual, &gamma, &beta, &dy].map(|values| upload(device, values));
            let [x, residual, gamma, beta, dy] = tensors.each_ref();
            let [sum, y, dsum, dx] = [(); 4].map(|()| garbage(device, count));
            let stats = garbage(device, rows * 2);
            let [dgamma, dbeta, columns] = [(); 3].map(|()| writable(device, &before));
            let (s, sums, gradient) = (stats.whole(), sum.whole(), dsum.whole());
            let forward = [x, residual, gamma, beta, &sums, &y.whole(), &s];
            let parameters = [&sums, &s, dy, &dgamma.whole(), &dbeta.whole()];
            run(
                device,
                [
                    add_norm::launch(rows, hidden, EPSILON, dropout, forward),
                    layer_norm_backward::launch(rows, hidden, [&sums, &s, gamma, dy, &gradient]),
                    dropout_rows::launch(count, dropout, &gradient, &dx.whole()),
                    layer_norm_parameters::launch(rows, hidden, parameters, true),
                    column_sum::launch(rows, hidden, dy, &columns.whole(), true),
                ],
            );
            Outputs::of(device)
                .close("sum", &sum, count, 1)
                .close("y", &y, count, hidden)
                .close("stats", &stats, rows * 2, hidden)
                .within("dsum", &dsum, count, tolerance)
                .within("dx", &dx, count, 2.0 * tolerance)
                .close("dgamma", &dgamma, hidden, rows + hidden)
                .close("dbeta", &dbeta, hidden, rows)
                .close("columns", &columns, hidden, rows)
        });
        let (mut y, mut stats, mut dsum) = (Vec::new(), Vec::new(), Vec::new());
        let (mut dgamma, mut dbeta) = (f64s(&before), f64s(&before));
        for (row, dy) in sum.chunks(hidden).zip(f64s(&dy).chunks(hidden)) {
            let (out, mean, rstd) = norm(row, &gamma, &beta);
            y.extend(out);
            stats.extend([mean, rstd]);
            for h in 0..hidden {
                // Finite differences: independent of the formula of the gradient.
                let moved = |by: f64| {
                    let mut row = row.to_vec();
                    row[h] += by;
                    norm(&row, &gamma, &beta).0.iter().zip(dy).map(|(y, dy)| y * dy).sum::<f64>()
                };
                dsum.push((moved(1e-5) - moved(-1e-5)) / 2e-5);
                dgamma[h] += dy[h] * (row[h] - mean) * rstd;
                dbeta[h] += dy[h];
            }
        }
        let dx = dsum.iter().enumerate().map(|(i, g)| g * f64::from(factor(dropout, i))).collect();
        for (name, truth) in [
            ("sum", sum),
            ("y", y),
            ("stats", stats),
            ("dsum", dsum),
            ("dx", dx),
            ("dgamma", dgamma),
            ("dbeta", dbeta.clone()),
            ("columns", dbeta),
        ] {
            let terms = if name == "sum" { 1 } else { rows + hidden };
            let tolerance = sum_tolerance(terms, &truth) + 1e-6;
            assert_close(&format!("{case}, {name}"), got.floats(name), &truth, tolerance);
        }
    }
}

/// Lengths of packed documents, with hidden sizes.
const DOCUMENTS: [(&[usize], usize); 5] =
    [(&[1], 1), (&[2, 1, 7], 33), (&[1; 70], 130), (&[33, 5, 1, 65], 65), (&[9, 8, 3, 1, 1, 7], 5)];

fn offsets(lengths: &[usize]) -> Vec<u32> {
    lengths.iter().fold(vec![0], |mut offsets, length| {
        offsets.push(offsets[offsets.len() - 1] + *length as u32);
        offsets
    })
}

/// (document, place in it) of every token.
fn places(lengths: &[usize]) -> Vec<(usize, usize)> {
    lengths.iter().enumerate().flat_map(|(b, length)| (0..*length).map(move |j| (b, j))).collect()
}

/// Whole numbers, whose sums are exact in any order, so that every engine must give the very same.
#[test]
fn token_and_position_embeddings_there_and_back() {
    let cases = DOCUMENTS.into_iter().flat_map(|case| [(case, 0, false), (case, 2, true)]);
    for ((lengths, hidden), first_position, flag) in cases {
        let (documents, places, offsets) = (lengths.len(), places(lengths), offsets(lengths));
        let (tokens, vocabulary) = (places.len(), 11);
        let positions = lengths.iter().max().unwrap() + first_position + 3;
        let mut numbers = Numbers::new((tokens * hidden) as u64);
        // The first token of every document is the same.
        let id = |(_, place): &(usize, usize)| if *place == 0 { 2 } else { numbers.below(vocabulary) as u32 };
        let ids: Vec<u32> = places.iter().map(id).collect();
        let [word, position] = [vocabulary, positions].map(|rows| numbers.integers(rows * hidden, 1000));
        let (kind, dx) = (numbers.integers(hidden, 1000), numbers.integers(tokens * hidden, 1000));
        // A bucket for every id, those that do not occur too.
        let bucket = |u: u32| (0..tokens as u32).filter(|t| ids[*t as usize] == u).collect::<Vec<_>>();
        let buckets: Vec<Vec<u32>> = (0..vocabulary as u32).map(bucket).collect();
        let (bucket_offsets, bucket_positions) =
            (self::offsets(&buckets.iter().map(Vec::len).collect::<Vec<_>>()), buckets.concat());
        let before = [vocabulary, positions].map(|rows| numbers.integers(rows * hidden, 1000));
        let case =
            format!("embeddings of {tokens} tokens of {documents} documents, {hidden}, {first_position}");
        let got = compare(&case, |device| {
            let floats = [&word, &position, &kind, &dx].map(|values| upload(device, values));
            let [word, position, kind, dx] = floats.each_ref();
            let integers =
                [&ids, &offsets, &bucket_offsets, &bucket_positions].map(|values| upload(device, values));
            let [ids, offsets, bucket_offsets, bucket_positions] = integers.each_ref();
            let out = garbage(device, tokens * hidden);
            let [dword, dposition] = before
                .each_ref()
                .map(|before| if flag { writable(device, before) } else { garbage(device, before.len()) });
            let kind = if flag { kind } else { ids };
            let forward = [ids, offsets, word, position, kind, &out.whole()];
            let buckets = [dx, bucket_offsets, bucket_positions, &dword.whole()];
            let back = [dx, offsets, &dposition.whole()];
            run(
                device,
                [
                    embed_tokens::launch(documents, tokens, hidden, first_position, forward, flag),
                    token_gradient::launch(vocabulary, hidden, buckets, flag),
                    position_gradient::launch(
                        documents,
                        tokens,
                        positions,
                        hidden,
                        first_position,
                        back,
                        flag,
                    ),
                ],
            );
            let of = Outputs::of(device).exact("out", &out, tokens * hidden);
            let of = of.exact("dword", &dword, before[0].len());
            of.exact("dposition", &dposition, before[1].len())
        });
        let start = |values: &Vec<f32>| if flag { values.clone() } else { vec![0.0; values.len()] };
        let [mut dword, mut dposition] = before.each_ref().map(start);
        let mut out = Vec::new();
        for (t, (_, place)) in places.iter().enumerate() {
            let (w, p) = (ids[t] as usize * hidden, (first_position + place) * hidden);
            for h in 0..hidden {
                out.push(word[w + h] + position[p + h] + if flag { kind[h] } else { 0.0 });
                dword[w + h] += dx[t * hidden + h];
                dposition[p + h] += dx[t * hidden + h];
            }
        }
        for (name, truth) in [("out", out), ("dword", dword), ("dposition", dposition)] {
            assert_eq!(got.floats(name), truth, "{case}: {name}");
        }
    }
}

#[test]
fn pooling_there_and_back() {
    let kinds = PoolKind::ALL.into_iter().flat_map(|kind| [(kind, false), (kind, true)]);
    let cases = DOCUMENTS.into_iter().zip([0, 3, 0, 2, 1]);
    for (((lengths, hidden), extra), (kind, accumulate)) in
        cases.flat_map(|case| kinds.clone().map(move |kind| (case, kind)))
    {
        let (places, offsets, tokens) = (places(lengths), offsets(lengths), lengths.iter().sum::<usize>());
        // A matrix larger than these documents on every side.
        let place = Place { first_row: extra, width: hidden + 2 * extra, first_column: extra };
        let size = (place.first_row + lengths.len() + extra) * place.width;
        let at = |b: usize, h: usize| (place.first_row + b) * place.width + place.first_column + h;
        let mut numbers = Numbers::new(size as u64);
        let (y, dfeatures) = (numbers.floats(tokens * hidden, 1.0), numbers.floats(size, 1.0));
        let (around, before) = (numbers.floats(size, 1.0), numbers.floats(tokens * hidden, 1.0));
        let case = format!("{kind:?} pooling of {lengths:?} x {hidden} at {place:?}, {accumulate}");
        let got = compare(&case, |device| {
            let [y, dfeatures] = [&y, &dfeatures].map(|values| upload(device, values));
            let (features, o) = (writable(device, &around), upload(device, &offsets));
            let dy = if accumulate { writable(device, &before) } else { garbage(device, before.len()) };
            let (b, f, d) = (lengths.len(), features.whole(), dy.whole());
            run(
                device,
                [
                    pool::forward(kind, b, tokens, hidden, place, &o, &y, &f),
                    pool::backward(kind, b, tokens, hidden, place, &o, &dfeatures, &d, accumulate),
                ],
            );
            Outputs::of(device).close("features", &features, size, 70).close("dy", &dy, tokens * hidden, 3)
        });
        let mut features: Vec<f64> = around.iter().copied().map(f64::from).collect();
        let mut dy = vec![0.0; tokens * hidden];
        for (t, (b, j)) in places.iter().enumerate() {
            let weight = match kind {
                PoolKind::Mean => 1.0 / lengths[*b] as f64,
                PoolKind::First => f64::from(*j == 0),
            };
            for h in 0..hidden {
                let feature = &mut features[at(*b, h)];
                *feature = if *j == 0 { 0.0 } else { *feature } + weight * f64::from(y[t * hidden + h]);
                let old = if accumulate { f64::from(before[t * hidden + h]) } else { 0.0 };
                dy[t * hidden + h] = old + weight * f64::from(dfeatures[at(*b, h)]);
            }
        }
        assert_close(&case, got.floats("features"), &features, sum_tolerance(70, &features));
        assert_close(&case, got.floats("dy"), &dy, sum_tolerance(3, &dy));
    }
}

#[test]
fn gradients_are_clipped_by_their_common_norm() {
    let counts = [1, 7, 65, 300_001];
    let tensors = counts.map(|count| Numbers::new(count as u64).floats(count, 0.1));
    let squares: f64 = tensors.iter().flatten().map(|x| f64::from(*x).powi(2)).sum();
    for max_norm in [1.0, 1e-3, 1e3] {
        let case = format!("norm {} clipped to {max_norm}", squares.sqrt());
        let got = compare(&case, |device| {
            let partials = garbage(device, counts.len() * square_sum::PARTS);
            let factor = garbage(device, 4);
            let buffers = tensors.each_ref().map(|values| writable(device, values));
            let (p, f) = (partials.whole(), factor.whole());
            let sums = buffers.iter().enumerate();
            let sums = sums.map(|(i, x)| square_sum::launch(counts[i], &x.whole(), &p, i)).rev();
            let clip = [clip_factor::launch(counts.len() * square_sum::PARTS, max_norm, &p, &f)];
            let scale = buffers.iter().zip(counts).map(|(x, count)| scale_by::launch(count, &f, &x.whole()));
            run(device, sums.chain(clip).chain(scale));
            let of = Outputs::of(device).close("factor", &factor, 4, 64);
            let names = ["x0", "x1", "x2", "x3"].into_iter().zip(&buffers).zip(counts);
            names.fold(of, |of, ((name, x), count)| of.close(name, x, count, 64))
        });
        let norm = squares.sqrt();
        let factor = (f64::from(max_norm) / (norm + 1e-6)).min(1.0);
        let tolerance = 64.0 * ULP;
        let parts = got.floats("factor");
        assert_close(&case, &parts[..1], &[factor], tolerance * factor);
        assert_close(&case, &parts[1..], &[norm, 0.0, 0.0], tolerance * norm);
        for (name, x) in ["x0", "x1", "x2", "x3"].into_iter().zip(&tensors) {
            let truth: Vec<f64> = x.iter().map(|x| f64::from(*x) * factor).collect();
            assert_close(&format!("{case}, {name}"), got.floats(name), &truth, tolerance * factor * 0.1);
        }
    }
}

/// Sums are cut in the same way however many threads there are.
#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let (rows, hidden) = (300, 70);
    let count = rows * hidden;
    let mut numbers = Numbers::new(3);
    let (x, dy) = (numbers.floats(count, 1.0), numbers.floats(count, 1.0));
    let offsets = [0, 200, rows as u32];
    let positions: Vec<u32> = (0..rows as u32).rev().collect();
    let bits = [1, 2, 5].map(|threads| {
        let device = &Device::cpu(DeviceOptions { threads, ..DeviceOptions::default() }).unwrap();
        let [x, dy] = [&x, &dy].map(|values| upload(device, values));
        let (offsets, positions) = (upload(device, &offsets), upload(device, &positions));
        let (sum, y, stats) = (garbage(device, count), garbage(device, count), garbage(device, rows * 2));
        let [dgamma, dbeta, columns] = [(); 3].map(|()| garbage(device, hidden));
        let (tokens, partials) = (garbage(device, 2 * hidden), garbage(device, square_sum::PARTS));
        let (sums, s) = (sum.whole(), stats.whole());
        let forward = [&x, &dy, &x, &dy, &sums, &y.whole(), &s];
        let parameters = [&sums, &s, &dy, &dgamma.whole(), &dbeta.whole()];
        let buckets = [&x, &offsets, &positions, &tokens.whole()];
        run(
            device,
            [
                add_norm::launch(rows, hidden, EPSILON, dropout(0.1, 0), forward),
                layer_norm_parameters::launch(rows, hidden, parameters, false),
                column_sum::launch(rows, hidden, &x, &columns.whole(), false),
                token_gradient::launch(2, hidden, buckets, false),
                square_sum::launch(count, &x, &partials.whole(), 0),
            ],
        );
        let of = |buffer: &Buffer, len: usize| device.read_vec::<u32>(buffer, len).unwrap();
        [
            of(&y, count),
            of(&dgamma, hidden),
            of(&dbeta, hidden),
            of(&columns, hidden),
            of(&tokens, 2 * hidden),
            of(&partials, square_sum::PARTS),
        ]
    });
    assert_eq!(bits[0], bits[1]);
    assert_eq!(bits[0], bits[2]);
}
