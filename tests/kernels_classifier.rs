//! The kernels of the fixed fan-in layer against their twins, and both against f64.

mod support;

use regrow::device::{Buffer, Device, Slice};
use regrow::kernels::fan_in_dlogits::{Block, Loss};
use regrow::kernels::fan_in_top_k::{LOWEST, NOTHING, segments};
use regrow::kernels::inverted_index::Sort;
use regrow::kernels::lists::{Lists, Windows};
use regrow::kernels::storage::Precision;
use regrow::kernels::{
    Fetch, columns_of, fan_in_dlogits, fan_in_feature_gradient, fan_in_group_gradient, fan_in_logits,
    fan_in_top_k, inverted_index_pack, loss_sum, top_k_merge,
};
use support::device::{
    Numbers, Outputs, ULP, assert_close, compare, engines, fetches, garbage, group_kernels, inverted,
    narrow_lists, run, sum_tolerance, texture_of, textures, upload, writable,
};
use support::layer::{Layer, loss_of, shapes};

/// What the gradients are divided by.
const SCALE: f32 = 0.25;

/// `dlogits` and `label_loss` of a layer on a device.
fn dlogits(device: &Device, layer: &Layer, loss: Option<Loss>) -> [Buffer; 2] {
    let Block { rows, .. } = layer.block;
    let outputs = [rows * layer.columns(), rows].map(|len| garbage(device, len));
    let [x, weights, bias] = [&layer.x, &layer.weights, &layer.bias].map(|values| upload(device, values));
    let (indices, positives) = (upload(device, &layer.indices), upload(device, &layer.positives));
    let [out, label_loss] = [&outputs[0], &outputs[1]].map(|buffer| buffer.whole());
    let bindings = [&x, &weights, &indices, &bias, &positives, &out, &label_loss];
    run(device, [fan_in_dlogits::launch(layer.block, loss, SCALE, layer.positives.len(), bindings)]);
    outputs
}

#[test]
fn logits_losses_and_their_gradients() {
    for (seed, shape) in shapes().into_iter().enumerate() {
        let layer = Layer::new(shape, seed as u64);
        let Block { rows, fan_in, batch, .. } = layer.block;
        let terms = fan_in + 8;
        for loss in [Loss::Bce, Loss::SquaredHinge] {
            let case = format!("{loss:?} of {:?}", layer.block);
            let got = compare(&case, |device| {
                let [dlogits, label_loss] = dlogits(device, &layer, Some(loss));
                Outputs::of(device).close("dlogits", &dlogits, rows * layer.columns(), terms).close(
                    "label_loss",
                    &label_loss,
                    rows,
                    terms + batch,
                )
            });
            let (losses, gradients) = layer.loss(loss);
            let gradients: Vec<f64> = gradients.iter().map(|g| f64::from(SCALE) * g).collect();
            assert_close(&case, got.floats("dlogits"), &gradients, sum_tolerance(terms, &gradients));
            assert_close(&case, got.floats("label_loss"), &losses, sum_tolerance(terms + batch, &losses));
        }
        // The logits themselves; beyond the batch lies what the bias gives, which nobody reads.
        let case = format!("logits of {:?}", layer.block);
        let got = compare(&case, |device| {
            let [logits, _] = dlogits(device, &layer, None);
            Outputs::of(device).close("logits", &logits, rows * layer.columns(), fan_in + 1)
        });
        let truth = layer.logits();
        for (row, got) in got.floats("logits").chunks(layer.columns()).enumerate() {
            let truth = &truth[row * layer.columns()..][..batch];
            assert_close(&case, &got[..batch], truth, sum_tolerance(fan_in + 1, &layer.logits()));
        }
    }
}

#[test]
fn losses_keep_both_tails() {
    // Weights of zero: the logit is the bias, exactly. Odd labels are positive everywhere.
    let biases = [0.0, 1e-3, 1.0, 30.0, 80.0, 120.0, 1e4].map(|z: f32| [z, z, -z, -z]).concat();
    let block = Block {
        rows: biases.len(),
        first_label: 0,
        fan_in: 2,
        group: 1,
        batch: 1,
        precision: Precision::default(),
    };
    let mut layer = Layer::new((block, 3), 1);
    layer.weights.fill(0.0);
    layer.bias.clone_from(&biases);
    layer.positives = (1..biases.len() as u32).step_by(2).map(|label| [label, 0]).collect();
    for loss in [Loss::Bce, Loss::SquaredHinge] {
        for (engine, device) in engines() {
            let [gradients, losses] = dlogits(device, &layer, Some(loss));
            let gradients: Vec<f32> = device.read_vec(&gradients, biases.len() * 16).unwrap();
            let losses: Vec<f32> = device.read_vec(&losses, biases.len()).unwrap();
            for (label, z) in biases.iter().enumerate() {
                let (value, gradient) = loss_of(loss, f64::from(*z), label % 2 == 1);
                // An exponential may be wrong by 3 + 2 |z| ulps in WGSL; denormals may become zero.
                let relative = ULP * (16.0 + if z.abs() < 100.0 { 2.0 * f64::from(z.abs()) } else { 0.0 });
                let place = format!("{loss:?} at {z}, label {label} on {engine}");
                let tolerance = |truth: f64| relative * truth.abs() + 1e-36;
                assert_close(&place, &[losses[label]], &[value], tolerance(value));
                let gradient = gradient * f64::from(SCALE);
                assert_close(&place, &[gradients[label * 16]], &[gradient], tolerance(gradient));
            }
        }
    }
}

#[test]
fn a_nan_reaches_the_loss() {
    let block =
        Block { rows: 5, first_label: 0, fan_in: 3, group: 1, batch: 3, precision: Precision::default() };
    let mut layer = Layer::new((block, 6), 2);
    // Label 0 has no positive, label 2 has all samples: a NaN must come through either way.
    layer.weights[0] = f32::NAN;
    layer.weights[2 * 3 + 1] = f32::NAN;
    for loss in [Loss::Bce, Loss::SquaredHinge] {
        for (engine, device) in engines() {
            let [_, label_loss] = dlogits(device, &layer, Some(loss));
            let losses = writable(device, &[0.0_f32; 4]);
            run(device, [loss_sum::launch(5, 2, 1.0, &label_loss.whole(), &losses.whole())]);
            let per_label: Vec<f32> = device.read_vec(&label_loss, 5).unwrap();
            let nan = per_label.iter().map(|loss| loss.is_nan()).collect::<Vec<_>>();
            assert_eq!(nan, [true, false, true, false, false], "{loss:?} on {engine}: {per_label:?}");
            let ring: Vec<f32> = device.read_vec(&losses, 4).unwrap();
            assert!(ring[2].is_nan() && ring[3] == 0.0, "{loss:?} on {engine}: {ring:?}");
        }
    }
}

/// The gradients of the features that the windows of a layer send back, [windows, D, columns], from the indices of `windows`;
/// the first window's are added to `before`.
fn feature_gradient(
    device: &Device,
    layer: &Layer,
    windows: Windows,
    (fetch, by_group): (Fetch, bool),
    (dlogits, before): (&[f32], &[f32]),
) -> Buffer {
    let (block, features) = (layer.block, layer.features);
    let (count, lists) = (windows.of(block.rows), windows.lists);
    let index = inverted(device, Sort { block, features, lists, fetch }, &upload(device, &layer.indices));
    let [offsets, wide] = index.each_ref().map(Buffer::whole);
    let connections = if lists.narrow { packed(device, layer, lists, &wide).whole() } else { wide };
    let in_texture = (fetch == Fetch::Textures).then(|| texture_of(device, dlogits, layer.columns()).whole());
    let [dlogits, weights] = [dlogits, &layer.weights].map(|values| upload(device, values));
    let dlogits = in_texture.unwrap_or(dlogits);
    let area = features * layer.columns();
    let sums = if count == 1 { writable(device, before) } else { garbage(device, count * area) };
    if by_group {
        let by_slot = garbage(device, block.index_rows() * block.fan_in * layer.columns()).whole();
        let products = fan_in_group_gradient::launch(block, [&weights, &dlogits, &by_slot]);
        let bindings = [&by_slot, &offsets, &connections, &sums.whole()];
        let gather = fan_in_feature_gradient::launch_summed(block, features, windows, fetch, bindings);
        run(device, [products, gather]);
        return sums;
    }
    let bindings = [&dlogits, &weights, &offsets, &connections, &sums.whole()];
    run(device, [fan_in_feature_gradient::launch(block, features, windows, fetch, bindings)]);
    sums
}

/// Windows of about `rows` labels of up to three indices each, in lists of 16 bits.
fn narrow_windows(rows: usize, layer: &Layer) -> Windows {
    let group = layer.block.group;
    let (index_rows, parts) = (rows / group, (rows / group).min(3));
    let listed = index_rows.div_ceil(parts) * group;
    Windows {
        rows: parts * listed,
        lists: Lists { rows: listed, offset_words: layer.features + 2, narrow: true },
    }
}

/// Lists in 16 bits.
fn packed(device: &Device, layer: &Layer, lists: Lists, wide: &Slice) -> Buffer {
    let Block { fan_in, .. } = layer.block;
    let count = layer.block.index_rows() * fan_in;
    let narrow = garbage(device, lists.words(count));
    run(device, [inverted_index_pack::launch(lists, fan_in, count, wide, &narrow.whole())]);
    narrow
}

#[test]
fn feature_gradient_gathers_every_connection() {
    // As many samples as a lane takes, and more.
    let wide = |batch| {
        let precision = Precision::default();
        (Block { rows: 20, first_label: 0, fan_in: 3, group: 1, batch, precision }, 9)
    };
    for (seed, shape) in shapes().into_iter().chain([wide(128), wide(139)]).enumerate() {
        let layer = Layer::new(shape, seed as u64);
        let Block { rows, group, .. } = layer.block;
        let area = layer.features * layer.columns();
        let mut numbers = Numbers::new(seed as u64 + 100);
        let (dlogits, before) = (numbers.floats(rows * layer.columns(), 1.0), numbers.floats(area, 1.0));
        let f64s = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<_>>();
        // A feature may be in every row.
        let terms = rows.div_ceil(group) * group + 2;
        let mut whole = layer.feature_gradient(&f64s(&dlogits));
        whole.iter_mut().zip(&before).for_each(|(truth, before)| *truth += f64::from(*before));
        let a_third = (rows.div_ceil(3)).next_multiple_of(group);
        let mut cuts: Vec<_> = fetches().into_iter().map(|fetch| (rows, fetch)).collect();
        cuts.extend([(a_third, Fetch::Dear), (group, Fetch::Cheap)]);
        if textures() && group == 1 {
            cuts.extend([rows, a_third].map(|rows| (rows, Fetch::Textures)));
        }
        let cuts = cuts.into_iter().flat_map(|(rows, fetch)| {
            let wide = Windows::with_an_index_each(rows, layer.features + 2);
            let all = [Some(wide), narrow_lists().then(|| narrow_windows(rows, &layer))];
            all.into_iter().flatten().map(move |windows| (windows, fetch))
        });
        let by_group = if group > 1 && group_kernels() { vec![false, true] } else { vec![false] };
        let forms = cuts.into_iter().flat_map(|cut| by_group.iter().map(move |by_group| (cut, *by_group)));
        for ((windows, fetch), by_group) in forms {
            let count = windows.of(rows);
            let case =
                format!("feature gradient of {:?}, {windows:?}, {fetch:?}, by group {by_group}", layer.block);
            let got = compare(&case, |device| {
                let form = (fetch, by_group);
                let sums = feature_gradient(device, &layer, windows, form, (&dlogits, &before));
                Outputs::of(device).close("sums", &sums, count * area, terms)
            });
            // The windows together, and where there is one, what was there before.
            let mut sums = vec![0.0; area];
            for window in got.floats("sums").chunks(area) {
                sums.iter_mut().zip(window).for_each(|(sum, window)| *sum += f64::from(*window));
            }
            if count > 1 {
                sums.iter_mut().zip(&before).for_each(|(sum, before)| *sum += f64::from(*before));
            }
            let sums: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
            assert_close(&case, &sums, &whole, sum_tolerance(terms + count, &whole));
        }
    }
}

#[test]
fn losses_add_up_in_their_place() {
    for rows in [1, 7, 64, 65, 1000] {
        let losses = Numbers::new(rows as u64).floats(rows, 1.0);
        let got = compare(&format!("loss of {rows} labels"), |device| {
            let ring = writable(device, &[1.0_f32, 2.0, 3.0, 4.0]);
            run(device, [loss_sum::launch(rows, 2, 0.5, &upload(device, &losses), &ring.whole())]);
            Outputs::of(device).within("ring", &ring, 4, 4.0 * ULP * 32.0)
        });
        let sum: f64 = losses.iter().copied().map(f64::from).sum();
        assert_close("ring", got.floats("ring"), &[1.0, 2.0, 3.0 + 0.5 * sum, 4.0], 4.0 * ULP * 32.0);
    }
}

/// Best labels of blocks one after the other against a full sort. All numbers are integers, so that scores are exact
/// and many are equal.
fn check_top_k(shapes: &[(Block, usize)], k: usize) {
    let layers: Vec<Layer> =
        shapes.iter().enumerate().map(|(i, shape)| Layer::integers(*shape, 40 + i as u64)).collect();
    // The same samples in all blocks.
    let (x, batch, columns) = (&layers[0].x, shapes[0].0.batch, columns_of(shapes[0].0.batch));
    let layers: Vec<Layer> = layers.iter().map(|layer| Layer { x: x.clone(), ..layer.clone() }).collect();
    let scored = |sample: usize| -> Vec<(f64, u32)> {
        let of_layer = |layer: &Layer| {
            let z = layer.logits();
            let label = layer.block.first_label as u32;
            (0..layer.block.rows)
                .map(|row| (z[row * columns + sample], label + row as u32))
                .collect::<Vec<_>>()
        };
        let mut all: Vec<(f64, u32)> = layers.iter().flat_map(of_layer).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        all
    };
    // Every other sample is filtered: its best label, its third, one twice, and one that does not exist.
    let (mut filter_offsets, mut filter_labels) = (vec![0_u32], Vec::new());
    let (mut want_scores, mut want_labels) = (vec![LOWEST; columns * k], vec![NOTHING; columns * k]);
    for sample in 0..batch {
        let all = scored(sample);
        let mut filter: Vec<u32> = Vec::new();
        if sample % 2 == 1 {
            filter.extend(all.iter().step_by(2).take(2).map(|(_, label)| *label));
            filter.extend([filter[0], 1_000_000]);
        }
        let kept = all.iter().filter(|(_, label)| !filter.contains(label)).take(k);
        for (i, (score, label)) in kept.enumerate() {
            want_scores[sample * k + i] = *score as f32;
            want_labels[sample * k + i] = *label;
        }
        filter_labels.extend(filter);
        filter_offsets.push(filter_labels.len() as u32);
    }
    filter_labels.push(0);
    let case = format!("top {k} of {:?}", shapes[0].0);
    let got = compare(&case, |device| {
        let best_scores = garbage(device, columns * k);
        let best_labels = garbage(device, columns * k);
        let [x, filter_offsets, filter_labels] =
            [upload(device, x), upload(device, &filter_offsets), upload(device, &filter_labels)];
        for (i, layer) in layers.iter().enumerate() {
            let [weights, bias] = [&layer.weights, &layer.bias].map(|values| upload(device, values));
            let indices = upload(device, &layer.indices);
            let segments = segments(layer.block.rows);
            let [scores, labels] = [(); 2].map(|()| garbage(device, segments * columns * k).whole());
            let bindings = [&x, &weights, &indices, &bias, &filter_offsets, &filter_labels, &scores, &labels];
            let merge = [&scores, &labels, &best_scores.whole(), &best_labels.whole()];
            run(
                device,
                [
                    fan_in_top_k::launch(layer.block, k, bindings),
                    top_k_merge::launch(columns, segments, k, i == 0, merge),
                ],
            );
        }
        Outputs::of(device).within("scores", &best_scores, columns * k, 0.0).exact(
            "labels",
            &best_labels,
            columns * k,
        )
    });
    assert_eq!(got.words("labels"), want_labels, "{case}");
    assert_eq!(got.floats("scores"), want_scores, "{case}");
}

/// Of every shape, with features in a texture.
#[test]
fn logits_of_features_in_a_texture() {
    let wide = |batch| {
        let precision = Precision::default();
        (Block { rows: 20, first_label: 0, fan_in: 3, group: 1, batch, precision }, 9)
    };
    // CUDA has no textures.
    let shapes = shapes().into_iter().chain([wide(64), wide(139)]).filter(|_| textures());
    for (seed, shape) in shapes.enumerate() {
        let layer = Layer::new(shape, seed as u64);
        let Block { rows, fan_in, batch, .. } = layer.block;
        let case = format!("logits of {:?}", layer.block);
        let got = compare(&case, |device| {
            let logits = garbage(device, rows * layer.columns());
            let x = texture_of(device, &layer.x, layer.columns()).whole();
            let [weights, bias] = [&layer.weights, &layer.bias].map(|values| upload(device, values));
            let indices = upload(device, &layer.indices);
            run(
                device,
                [fan_in_logits::launch(layer.block, [&x, &weights, &indices, &bias, &logits.whole()])],
            );
            Outputs::of(device).close("logits", &logits, rows * layer.columns(), fan_in + 1)
        });
        let (truth, tolerance) = (layer.logits(), sum_tolerance(fan_in + 1, &layer.logits()));
        let rows = got.floats("logits").chunks(layer.columns()).zip(truth.chunks(layer.columns()));
        for (got, truth) in rows {
            // Beyond the batch nobody reads.
            assert_close(&case, &got[..batch], &truth[..batch], tolerance);
        }
    }
}

#[test]
fn best_labels_are_those_of_a_sort() {
    let block = |rows, first_label, group, batch| Block {
        rows,
        first_label,
        fan_in: 5,
        group,
        batch,
        precision: Precision::default(),
    };
    for k in [1, 3, 5] {
        check_top_k(&[(block(1100, 0, 1, 7), 20), (block(33, 1100, 1, 7), 20)], k);
    }
    check_top_k(&[(block(601, 12, 4, 33), 70), (block(7, 616, 4, 33), 70)], 100);
    check_top_k(&[(block(300, 0, 4, 1), 6)], 256);
    check_top_k(&[(block(640, 0, 32, 33), 40), (block(45, 640, 32, 33), 40)], 5);
    check_top_k(&[(block(21, 0, 8, 300), 20)], 5);
    // Groups that end within a segment of 512 labels.
    check_top_k(&[(block(1100, 0, 48, 7), 20)], 3);
    // Fewer labels than asked for.
    check_top_k(&[(block(3, 0, 1, 16), 6)], 5);
    check_top_k(&[(block(1, 0, 1, 7), 6), (block(2, 1, 1, 7), 6)], 256);
}

#[test]
fn a_nan_score_is_never_among_the_best() {
    let block =
        Block { rows: 9, first_label: 0, fan_in: 2, group: 1, batch: 2, precision: Precision::default() };
    let mut layer = Layer::integers((block, 4), 3);
    layer.bias[4] = f32::NAN;
    let got = compare("NaN among the scores", |device| {
        let buffers = [&layer.x, &layer.weights, &layer.bias].map(|values| upload(device, values));
        let [x, weights, bias] = buffers.each_ref();
        let (indices, nothing) = (upload(device, &layer.indices), upload(device, &[0_u32; 4]));
        let (scores, labels) = (garbage(device, 16 * 9), garbage(device, 16 * 9));
        let bindings = [x, weights, &indices, bias, &nothing, &nothing, &scores.whole(), &labels.whole()];
        run(device, [fan_in_top_k::launch(block, 9, bindings)]);
        Outputs::of(device).within("scores", &scores, 16 * 9, 0.0).exact("labels", &labels, 16 * 9)
    });
    for list in got.words("labels").chunks(9).take(2) {
        assert!(!list.contains(&4) && list[7] != NOTHING && list[8] == NOTHING, "{list:?}");
    }
}
