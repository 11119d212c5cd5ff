//! Attention over packed documents, forward and backward, on every engine against f64.

mod support;

use regrow::device::{Device, DeviceOptions, Recording};
use regrow::kernels::attention::{Attention, Gradients, Saved, forward, record_backward};
use regrow::kernels::dropout::Dropout;
use regrow::random::{Purpose, words};
use support::device::{Numbers, Outputs, ULP, assert_close, compare, engines, garbage, upload};

/// A batch of packed documents with what comes back to them.
#[derive(Clone)]
struct Case {
    lengths: Vec<usize>,
    heads: usize,
    head_size: usize,
    max_length: usize,
    dropout: Dropout,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    dout: Vec<f32>,
}

const DROPOUT: Dropout = Dropout { probability: 0.25, seed: 0x1234_5678_9abc_def0, step: 77, stream: 5 };

impl Case {
    /// Queries reach `bound`: scores lie as far apart.
    fn new(lengths: &[usize], heads: usize, head_size: usize, dropout: Dropout, bound: f32) -> Self {
        let count = lengths.iter().sum::<usize>() * heads * head_size;
        let mut numbers = Numbers::new((count + heads) as u64);
        Self {
            lengths: lengths.to_vec(),
            heads,
            head_size,
            max_length: 70,
            dropout,
            q: numbers.floats(count, bound),
            k: numbers.floats(count, 2.0),
            v: numbers.floats(count, 1.0),
            dout: numbers.floats(count, 1.0),
        }
    }

    fn name(&self) -> String {
        let Self { lengths, heads, head_size, dropout, .. } = self;
        format!("attention of {lengths:?}, {heads} x {head_size}, dropout {}", dropout.probability)
    }

    fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    fn offsets(&self) -> Vec<u32> {
        let ends = self.lengths.iter().scan(0, |end, length| {
            *end += *length as u32;
            Some(*end)
        });
        std::iter::once(0).chain(ends).collect()
    }

    /// What the probability of (query token, head, key of the document) is multiplied by.
    fn kept(&self, token: usize, head: usize, key: usize) -> f64 {
        let p = f64::from(self.dropout.probability);
        if p == 0.0 {
            return 1.0;
        }
        let row = (token * self.heads + head) as u32;
        let index = row.wrapping_mul(self.max_length.div_ceil(4) as u32).wrapping_add(key as u32 / 4);
        let Dropout { seed, step, stream, .. } = self.dropout;
        let word = words(seed, Purpose::Dropout, step, index, stream)[key % 4];
        if f64::from(word) < (p * 4_294_967_296.0).floor() { 0.0 } else { 1.0 / (1.0 - p) }
    }

    /// Runs forward and backward on a device.
    fn run<'a>(&self, device: &'a Device, tolerance: impl Fn(&str) -> f64) -> Outputs<'a> {
        let (count, rows) = (self.q.len(), self.tokens() * self.heads);
        let attention = Attention {
            documents: self.lengths.len(),
            tokens: self.tokens(),
            heads: self.heads,
            head_size: self.head_size,
            max_length: self.max_length,
            dropout: self.dropout,
        };
        let [q, k, v, dout] = [&self.q, &self.k, &self.v, &self.dout].map(|values| upload(device, values));
        let offsets = upload(device, &self.offsets());
        let [out, dq, dk, dv] = [(); 4].map(|()| garbage(device, count));
        let [lse, delta] = [(); 2].map(|()| garbage(device, rows));
        let [out_slice, lse_slice] = [&out, &lse].map(|buffer| buffer.whole());
        let mut recording = Recording::new();
        recording.launch(forward(attention, &q, &k, &v, &offsets, &out_slice, &lse_slice));
        let saved = Saved { q: &q, k: &k, v: &v, out: &out_slice, lse: &lse_slice, offsets: &offsets };
        let [delta, dq_slice, dk_slice, dv_slice] = [&delta, &dq, &dk, &dv].map(|buffer| buffer.whole());
        let gradients = Gradients { dout: &dout, delta: &delta, dq: &dq_slice, dk: &dk_slice, dv: &dv_slice };
        record_backward(&mut recording, attention, saved, gradients);
        device.submit(recording).unwrap();
        Outputs::of(device)
            .within("out", &out, count, tolerance("out"))
            .within("lse", &lse, rows, tolerance("lse"))
            .within("dq", &dq, count, tolerance("dq"))
            .within("dk", &dk, count, tolerance("dk"))
            .within("dv", &dv, count, tolerance("dv"))
    }
}

const NAMES: [&str; 5] = ["out", "lse", "dq", "dk", "dv"];

/// The five results in f64, and what f32 may be away from them.
struct Truth {
    values: [Vec<f64>; 5],
    tolerances: [f64; 5],
}

fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(0.0, |max, value| max.max(value.abs()))
}

/// One query of one head: its probabilities and what else its results are made of, with bounds of their errors.
struct Query {
    lse: f64,
    lse_error: f64,
    /// For each key: probability, what it is multiplied by, relative error of it.
    p: Vec<f64>,
    kept: Vec<f64>,
    error: Vec<f64>,
    /// For each key: gradient of the score, error of it.
    ds: Vec<f64>,
    ds_error: Vec<f64>,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The inner product of absolute values, whose rounding bounds that of the product.
fn absolute(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a * b).abs()).sum()
}

impl Query {
    fn of(q: &[f64], dout: &[f64], keys: &[Vec<f64>], values: &[Vec<f64>], kept: Vec<f64>) -> Self {
        let (length, scale) = (keys.len() as f64, 1.0 / (q.len() as f64).sqrt());
        let s: Vec<f64> = keys.iter().map(|k| scale * dot(q, k)).collect();
        let top = s.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let lse = top + s.iter().map(|s| (s - top).exp()).sum::<f64>().ln();
        let p: Vec<f64> = s.iter().map(|s| (s - lse).exp()).collect();
        let dp: Vec<f64> = values.iter().zip(&kept).map(|(v, kept)| kept * dot(dout, v)).collect();
        // The Jacobian of the softmax itself: dS_j = Σ_l P_j (δ_jl − P_l) dP_l.
        let of_key = |j: usize| -> f64 {
            (0..p.len()).map(|l| p[j] * (f64::from(u8::from(j == l)) - p[l]) * dp[l]).sum()
        };
        let ds: Vec<f64> = (0..p.len()).map(of_key).collect();

        // A sum of n products is wrong by n + 1 halves of an ulp of the sum of absolute values; exp on a GPU by
        // 3 + 2 |x| ulps. The relative error of a probability is the absolute error of its score and of lse.
        let terms = q.len() as f64 + 3.0;
        let score_error: Vec<f64> = keys.iter().map(|k| ULP * terms * scale * absolute(q, k)).collect();
        let exponential = |j: usize| ULP * (4.0 + 2.0 * (lse - s[j]).min(88.0));
        let lse_error = (0..p.len()).map(|j| p[j] * (score_error[j] + exponential(j))).sum::<f64>()
            + ULP * (length + lse.abs() + top.abs() + 4.0);
        let error: Vec<f64> = (0..p.len()).map(|j| score_error[j] + exponential(j) + lse_error).collect();
        let dp_error: Vec<f64> =
            values.iter().zip(&kept).map(|(v, kept)| ULP * terms * kept * absolute(dout, v)).collect();
        let delta = dot(&p, &dp);
        // Of the output, made with wrong probabilities, times its gradient.
        let delta_error = (0..p.len())
            .map(|j| p[j] * (dp_error[j] + (error[j] + ULP * length) * kept[j] * absolute(dout, &values[j])))
            .sum::<f64>();
        let ds_error = (0..p.len())
            .map(|j| p[j] * (error[j] * (dp[j] - delta).abs() + dp_error[j] + delta_error))
            .collect();
        Self { lse, lse_error, p, kept, error, ds, ds_error }
    }
}

impl Truth {
    fn of(case: &Case) -> Self {
        let &Case { heads, head_size, .. } = case;
        let count = case.q.len();
        let scale = 1.0 / (head_size as f64).sqrt();
        let lens = [count, case.tokens() * heads, count, count, count];
        let (mut values, mut errors) = (lens.map(|len| vec![0.0; len]), lens.map(|len| vec![0.0; len]));
        let mut add = |which: usize, at: usize, value: f64, error: f64| {
            values[which][at] += value;
            errors[which][at] += error;
        };
        for (document, length) in case.lengths.iter().enumerate() {
            let first: usize = case.lengths[..document].iter().sum();
            let rounding = ULP * (*length as f64 + 2.0);
            for head in 0..heads {
                let at = |token: usize| ((first + token) * heads + head) * head_size;
                let rows = |tensor: &[f32]| -> Vec<Vec<f64>> {
                    let row =
                        |token| tensor[at(token)..][..head_size].iter().copied().map(f64::from).collect();
                    (0..*length).map(row).collect()
                };
                let [q, k, v, dout] = [&case.q, &case.k, &case.v, &case.dout].map(|tensor| rows(tensor));
                for i in 0..*length {
                    let kept = (0..*length).map(|j| case.kept(first + i, head, j)).collect();
                    let query = Query::of(&q[i], &dout[i], &k, &v, kept);
                    add(1, (first + i) * heads + head, query.lse, query.lse_error);
                    for j in 0..*length {
                        let (p, ds) = (query.p[j] * query.kept[j], scale * query.ds[j]);
                        let p_error = p * (query.error[j] + rounding);
                        let ds_error = scale * query.ds_error[j] + ds.abs() * rounding;
                        for d in 0..head_size {
                            add(0, at(i) + d, p * v[j][d], p_error * v[j][d].abs());
                            add(2, at(i) + d, ds * k[j][d], ds_error * k[j][d].abs());
                            add(3, at(j) + d, ds * q[i][d], ds_error * q[i][d].abs());
                            add(4, at(j) + d, p * dout[i][d], p_error * dout[i][d].abs());
                        }
                    }
                }
            }
        }
        Self { values, tolerances: errors.map(largest) }
    }

    fn tolerance(&self, name: &str) -> f64 {
        self.tolerances[NAMES.iter().position(|known| *known == name).unwrap()]
    }
}

/// `share`: how much of the largest value a tolerance may be; one in which anything fits would test nothing.
fn check(case: &Case, share: f64) {
    let truth = Truth::of(case);
    for (name, (values, tolerance)) in NAMES.iter().zip(truth.values.iter().zip(truth.tolerances)) {
        let size = largest(values.iter().copied());
        assert!(case.tokens() == 1 || tolerance < share * size, "{name}: {tolerance:e} of {size:e}");
    }
    let got = compare(&case.name(), |device| case.run(device, |name| 2.0 * truth.tolerance(name)));
    for (name, (values, tolerance)) in NAMES.iter().zip(truth.values.iter().zip(truth.tolerances)) {
        assert_close(&format!("{}, {name}", case.name()), got.floats(name), values, tolerance);
    }
}

#[test]
fn attention_and_its_gradients() {
    for lengths in [&[1][..], &[2, 1, 7], &[33, 5], &[65], &[20, 50, 3]] {
        for (heads, head_size) in [(1, 5), (3, 8), (3, 32), (1, 33)] {
            for dropout in [Dropout::OFF, DROPOUT] {
                check(&Case::new(lengths, heads, head_size, dropout, 2.0), 2e-3);
            }
        }
    }
}

/// Exponentials of the scores themselves would overflow, and those of most differences underflow.
#[test]
fn scores_far_apart() {
    let mut case = Case::new(&[33, 7], 3, 8, DROPOUT, 150.0);
    check(&case, 3e-2);
    // All scores far below zero, so that a sum that began at a score of zero would be lost.
    case.q.iter_mut().for_each(|q| *q = -0.2 * q.abs());
    case.k.iter_mut().for_each(|k| *k = k.abs() + 1.0);
    check(&case, 3e-2);
}

/// The place of a word is counted modulo 2³², so that models with long texts and many tokens have masks too.
#[test]
fn masks_beyond_32_bits() {
    let mut case = Case::new(&[9, 14], 3, 8, DROPOUT, 2.0);
    case.max_length = 3_000_000_001;
    check(&case, 2e-3);
}

/// The gradients of the truth itself, by finite differences.
#[test]
fn gradients_by_finite_differences() {
    for dropout in [Dropout::OFF, DROPOUT] {
        let case = Case::new(&[3, 5], 2, 3, dropout, 2.0);
        let truth = Truth::of(&case);
        let value = |case: &Case| -> f64 {
            let out = &Truth::of(case).values[0];
            out.iter().zip(&case.dout).map(|(out, dout)| out * f64::from(*dout)).sum()
        };
        for (gradient, tensor) in (2..5).zip(0..3) {
            for i in 0..case.q.len() {
                let moved = |by: f32| {
                    let mut case = case.clone();
                    let x = &mut [&mut case.q, &mut case.k, &mut case.v][tensor][i];
                    *x += by;
                    (f64::from(*x), value(&case))
                };
                let ((x0, y0), (x1, y1)) = (moved(-1e-3), moved(1e-3));
                let (difference, truth) = ((y1 - y0) / (x1 - x0), truth.values[gradient][i]);
                assert!(
                    (difference - truth).abs() < 1e-5,
                    "{}, {} {i}: {truth}, by differences {difference}",
                    case.name(),
                    NAMES[gradient]
                );
            }
        }
    }
}

/// What a document holds changes no bit of another document's results.
#[test]
fn documents_do_not_see_their_neighbours() {
    for dropout in [Dropout::OFF, DROPOUT] {
        let case = Case::new(&[6, 11, 5], 3, 5, dropout, 2.0);
        let width = case.heads * case.head_size;
        let mut broken = case.clone();
        for tensor in [&mut broken.q, &mut broken.k, &mut broken.v, &mut broken.dout] {
            tensor[6 * width..17 * width].fill(f32::NAN);
        }
        for (engine, device) in engines() {
            let [got, want] = [&broken, &case].map(|case| case.run(device, |_| 0.0).bits());
            for ((name, got), (_, want)) in got.iter().zip(&want) {
                let width = got.len() / case.tokens();
                let others = |bits: &[u32]| [&bits[..6 * width], &bits[17 * width..]].concat();
                assert_eq!(others(got), others(want), "{name} on {engine}");
                let theirs: &[f32] = bytemuck::cast_slice(&got[6 * width..17 * width]);
                assert!(theirs.iter().all(|x| x.is_nan()), "{name} of the broken document on {engine}");
            }
        }
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let case = Case::new(&[70, 3, 65, 1, 12], 3, 10, DROPOUT, 2.0);
    let bits = [1, 2, 5, 2].map(|threads| {
        let device = Device::cpu(DeviceOptions { threads, ..DeviceOptions::default() }).unwrap();
        case.run(&device, |_| 0.0).bits()
    });
    assert!(bits.iter().all(|other| *other == bits[0]));
    let (_, gpu) = engines()[3];
    assert!(case.run(gpu, |_| 0.0).bits() == case.run(gpu, |_| 0.0).bits(), "a GPU's runs differ");
}
