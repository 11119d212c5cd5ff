//! The layers, the ways to take a step of one, and what a step leaves behind.

use regrow::device::{Buffer, Device};
use regrow::kernels::fan_in_dlogits::{Block, Loss};
use regrow::kernels::fan_in_group_step::Tiles;
use regrow::kernels::fan_in_step::{self, StepOptions};
use regrow::kernels::optimizer::Rule;
use regrow::kernels::storage::{Precision, Rounding, Storage};
use regrow::kernels::{
    Fetch, bias_update, fan_in_group_logits, fan_in_group_step, fan_in_group_update, fan_in_step_textures,
    half_features, positive_bits,
};

use super::support::device::{
    GUARD, Outputs, fetches, garbage, group_kernels, run, subgroups, texture_of, textures, upload, writable,
};
use super::support::layer::{Hyper, Layer};

/// What the gradients are multiplied with.
pub(super) const SCALE: f32 = 0.25;

/// Odd batches, fan-ins, numbers of labels and groups, and even ones. A fan-in of 33 is more than an invocation keeps, one of
/// 1,100 more than a warp on CUDA has opened at once.
pub(super) fn layers(precision: Precision) -> Vec<Layer> {
    let block = |rows, first_label, fan_in, group, batch| Block {
        rows,
        first_label,
        fan_in,
        group,
        batch,
        precision,
    };
    let shapes = [
        (block(1, 0, 1, 1, 1), 3),
        (block(33, 5, 7, 1, 7), 10),
        (block(129, 7, 32, 1, 17), 40),
        (block(33, 8, 40, 8, 64), 50),
        (block(21, 16, 9, 8, 65), 12),
        (block(3, 0, 32, 1, 130), 70),
        (block(65, 64, 33, 1, 16), 65),
        (block(2, 3, 1100, 1, 5), 1200),
        // As many samples as a lane keeps logits of.
        (block(40, 2, 3, 1, 128), 9),
        // Eight connections, which go together.
        (block(19, 3, 8, 1, 33), 11),
        // A last group of one label; groups that tiles of eight do not divide; more tiles than one in a group.
        (block(33, 64, 12, 16, 33), 24),
        (block(25, 3, 5, 12, 20), 9),
        // More labels in a group, more connections and more samples than the lanes of a pass hold at once.
        (block(70, 32, 72, 64, 72), 100),
    ];
    shapes.into_iter().enumerate().map(|(seed, shape)| Layer::new(shape, seed as u64)).collect()
}

/// Three of the layers: in rows that words do not divide, above the fan-in that is kept, and in groups.
pub(super) fn some_of(layers: Vec<Layer>) -> Vec<Layer> {
    let wanted = [1, 3, 4];
    layers.into_iter().enumerate().filter(|(i, _)| wanted.contains(i)).map(|(_, layer)| layer).collect()
}

/// The layer with features that are f16 already, by another conversion than the kernel's.
pub(super) fn with_rounded_features(mut layer: Layer) -> Layer {
    layer.x.iter_mut().for_each(|x| *x = half::f16::from_f32(*x).to_f32());
    layer
}

/// The ways to take a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    /// One launch for labels: it fetches twice, or keeps what it fetched for the logits where its fan-in allows.
    Labels(Fetch),
    /// A launch for the logits of groups and one for their weights.
    Groups,
    /// One launch for groups, by subgroups.
    Pass(Fetch),
}

/// Runs of groups of a pass.
pub(super) const PARTS: usize = 2;

/// Those that there are for a layer.
pub(super) fn forms(layer: &Layer) -> Vec<Form> {
    // What is unrolled over a fan-in of 32 takes drivers seconds to compile; one such layer does for the form of pairs.
    let Block { fan_in, batch, .. } = layer.block;
    let fetches =
        fetches().into_iter().filter(|fetch| *fetch != Fetch::DearPairs || fan_in != 32 || batch == 17);
    let mut all: Vec<Form> = fetches.map(Form::Labels).collect();
    let f32s = layer.block.precision.features == Storage::F32;
    let fits = fan_in_step::can_keep(fan_in) || batch <= fan_in_step_textures::MAX_BATCH;
    if textures() && f32s && fits && layer.block.group == 1 && (fan_in != 32 || batch == 17) {
        all.push(Form::Labels(Fetch::Textures));
    }
    all.extend((layer.block.group > 1 && group_kernels()).then_some(Form::Groups));
    if layer.block.group > 1 && subgroups() {
        // One of the two from buffers for each layer, for the same reason.
        all.push(Form::Pass(if batch % 2 == 0 { Fetch::DearPairs } else { Fetch::Dear }));
        all.extend((f32s && textures() && batch % 2 == 0).then_some(Form::Pass(Fetch::Textures)));
    }
    all
}

pub(super) fn options(layer: &Layer, loss: Loss, rule: Rule, form: Form) -> StepOptions {
    StepOptions {
        loss,
        scale: SCALE,
        positives: layer.positives.len(),
        rule,
        rates: Hyper::SAMPLE.rates(rule),
        rounding: Rounding::new(77, 5),
        train_bias: true,
        fetch: match form {
            Form::Labels(fetch) | Form::Pass(fetch) => fetch,
            Form::Groups => Fetch::Cheap,
        },
    }
}

/// What a step changes and gives, on a device.
pub(super) struct After {
    pub(super) weights: Buffer,
    pub(super) bias: Buffer,
    pub(super) states: [Buffer; 4],
    /// Of all labels, or of one group of each part of a pass: see [`logit_gradients`].
    pub(super) dlogits: Buffer,
    pub(super) before: Buffer,
    /// Of each label, or of tiles: see [`losses`].
    pub(super) label_loss: Buffer,
    /// Gradients of the features, of each part of a pass.
    pub(super) partial: Buffer,
}

/// Groups of each part of a pass, and the parts.
pub(super) fn parts(layer: &Layer) -> (usize, usize) {
    let groups = layer.block.index_rows();
    let parts = PARTS.min(groups);
    (groups.div_ceil(parts), parts)
}

/// Of `all` logit gradients [rows, columns] those that a step leaves behind; a pass leaves those of each part's last
/// group, over those of the groups before.
pub(super) fn logit_gradients<T: Copy + Default>(layer: &Layer, form: Form, all: &[T]) -> Vec<T> {
    if !matches!(form, Form::Pass(_)) {
        return all.to_vec();
    }
    let of_group = layer.block.group * layer.columns();
    let ((share, parts), groups) = (parts(layer), layer.block.index_rows());
    let mut left = vec![T::default(); parts * of_group];
    for (part, left) in left.chunks_mut(of_group).enumerate() {
        for group in part * share..((part + 1) * share).min(groups) {
            let of_group = &all[group * of_group..all.len().min((group + 1) * of_group)];
            left[..of_group.len()].copy_from_slice(of_group);
        }
    }
    left
}

/// Features' gradients [parts, D, columns] after a pass that starts from zeros.
pub(super) fn partial_gradients(layer: &Layer, gradients: &[f64]) -> Vec<f64> {
    let (share, parts) = parts(layer);
    let part_rows = share * layer.block.group;
    let of_part = |part: usize| {
        let mut mine = vec![0.0; gradients.len()];
        let rows = part * part_rows..((part + 1) * part_rows).min(layer.block.rows);
        let numbers = rows.start * layer.columns()..rows.end * layer.columns();
        mine[numbers.clone()].copy_from_slice(&gradients[numbers]);
        layer.feature_gradient(&mine)
    };
    (0..parts).flat_map(of_part).collect()
}

/// Losses that a step gives.
pub(super) fn losses(layer: &Layer, form: Form) -> usize {
    match form {
        Form::Groups => fan_in_group_logits::losses(layer.block),
        Form::Pass(_) => fan_in_group_step::losses(layer.block),
        Form::Labels(_) => layer.block.rows,
    }
}

/// The labels' losses [rows] as a step gives them: `of_pairs` [rows, columns], of each sample, added up.
pub(super) fn added_up(layer: &Layer, form: Form, of_pairs: &[f64]) -> Vec<f64> {
    let (columns, group) = (layer.columns(), layer.block.group);
    let tile = match form {
        Form::Groups => fan_in_group_logits::TILE,
        Form::Pass(_) => group,
        Form::Labels(_) => return of_pairs.chunks(columns).map(|row| row.iter().sum()).collect(),
    };
    let (tiles, eights) = (group.div_ceil(tile), columns / 8);
    let mut sums = vec![0.0; losses(layer, form)];
    for (row, of_pairs) in of_pairs.chunks(columns).enumerate() {
        let tile = row / group * tiles + row % group / tile;
        for (eight, of_pairs) in of_pairs.chunks(8).enumerate() {
            sums[tile * eights + eight] += of_pairs.iter().sum::<f64>();
        }
    }
    sums
}

pub(super) fn dlogits_len(layer: &Layer, form: Form) -> usize {
    let whole_groups = layer.block.group * layer.columns();
    if matches!(form, Form::Pass(_)) {
        parts(layer).1 * whole_groups
    } else {
        layer.block.rows * layer.columns()
    }
}

pub(super) fn step(device: &Device, layer: &Layer, options: &StepOptions, form: Form) -> After {
    let block = layer.block;
    let Block { rows, fan_in, precision, .. } = block;
    let (words, moment_words) = (block.weight_words(), block.moment_words());
    let state = |i: usize| {
        let packed = match i {
            _ if options.rule.states() <= i % 2 => vec![7; 4],
            0 | 1 => precision.moments.pack(&layer.states[i], fan_in, moment_words),
            _ => bytemuck::cast_slice(&layer.states[i]).to_vec(),
        };
        writable(device, &packed)
    };
    let after = After {
        weights: writable(device, &precision.weights.pack(&layer.weights, fan_in, words)),
        bias: writable(device, &layer.bias),
        states: std::array::from_fn(state),
        // A pass leaves rows alone that no group of a part has.
        dlogits: match form {
            Form::Pass(_) => writable(device, &vec![0.0_f32; dlogits_len(layer, form)]),
            _ => garbage(device, dlogits_len(layer, form)),
        },
        // Words that hold no connection are not written.
        before: writable(device, &vec![0_u32; rows * words]),
        label_loss: garbage(device, losses(layer, form)),
        partial: writable(device, &vec![0.0_f32; parts(layer).1 * layer.features * layer.columns()]),
    };
    let in_textures = options.fetch == Fetch::Textures;
    let mut x = upload(device, &layer.x);
    if in_textures {
        x = texture_of(device, &layer.x, layer.columns()).whole();
    }
    if precision.features == Storage::F16 {
        let halves = garbage(device, layer.x.len() / 2).whole();
        run(device, [half_features::launch(layer.x.len(), true, &x, &halves)]);
        x = halves;
    }
    let indices = upload(device, &layer.indices);
    let positives = upload(device, &layer.positives);
    let [m, v, bm, bv] = after.states.each_ref().map(Buffer::whole);
    let [w, b] = [&after.weights, &after.bias].map(Buffer::whole);
    let [dlogits, before, label_loss] = [&after.dlogits, &after.before, &after.label_loss].map(Buffer::whole);
    if matches!(form, Form::Groups | Form::Pass(_)) {
        let old = device.read_vec::<u32>(&after.weights, rows * words).unwrap();
        device.write(&after.before, 0, bytemuck::cast_slice(&old)).unwrap();
    }
    if matches!(form, Form::Pass(_)) {
        let columns = layer.columns();
        let bits = garbage(device, rows * positive_bits::words(columns)).whole();
        let count = layer.positives.len();
        run(device, [positive_bits::launch(rows, block.first_label, columns, count, [&positives, &bits])]);
        let tiles = Tiles::of(device, block, options.fetch).unwrap();
        let sizes = (layer.features, parts(layer).1, tiles);
        let (inputs, changed) = ([&x, &indices, &bits], [&w, &b, &m, &v, &bm, &bv]);
        // Logit gradients first, then what some tiles keep besides.
        let scratch = vec![0.0_f32; parts(layer).1 * tiles.scratch(block)];
        let kept = writable(device, &scratch);
        let out = [&kept.whole(), &after.partial.whole(), &label_loss];
        run(device, [fan_in_group_step::launch(block, options, sizes, inputs, changed, out)]);
        let words: Vec<u32> = device.read_vec(&kept, (kept.bytes() / 4) as usize).unwrap();
        assert!(words[scratch.len()..].iter().all(|word| *word == GUARD), "words beyond the end of scratch");
        device.write(&after.dlogits, 0, bytemuck::cast_slice(&words[..dlogits_len(layer, form)])).unwrap();
        return after;
    }
    if form == Form::Groups {
        let StepOptions { loss, scale, positives: count, rule, rates, .. } = *options;
        let bindings = [&x, &w, &indices, &b, &positives, &dlogits, &label_loss];
        run(device, [fan_in_group_logits::launch(block, loss, scale, count, bindings)]);
        if options.train_bias {
            run(device, [bias_update::launch(block, rule, rates, [&dlogits, &b, &bm, &bv])]);
        }
        run(device, [fan_in_group_update::launch(block, options, [&x, &indices, &dlogits], [&w, &m, &v])]);
        return after;
    }
    let texture =
        in_textures.then(|| device.allocate_texture("logit gradients", [rows, layer.columns()]).unwrap());
    let gradients = texture.as_ref().map_or(dlogits, Buffer::whole);
    run(
        device,
        [fan_in_step::launch(
            block,
            options,
            [&x, &indices, &positives],
            [&w, &b, &m, &v, &bm, &bv],
            [&gradients, &before, &label_loss],
        )],
    );
    if let Some(texture) = &texture {
        let gradients = device.read_vec::<f32>(texture, rows * layer.columns()).unwrap();
        device.write(&after.dlogits, 0, bytemuck::cast_slice(&gradients)).unwrap();
    }
    after
}

/// Outputs in f32 storage, to compare on every engine.
pub(super) fn outputs<'a>(
    device: &'a Device,
    layer: &Layer,
    options: &StepOptions,
    form: Form,
) -> Outputs<'a> {
    let after = step(device, layer, options, form);
    let Block { rows, fan_in, .. } = layer.block;
    let terms = fan_in + layer.columns() + 8;
    let lens = |state: usize, len: usize| if options.rule.states() >= state { len } else { 4 };
    let [first, second, bias_first, bias_second] = &after.states;
    Outputs::of(device)
        .close("weights", &after.weights, rows * fan_in, terms)
        .close("first", first, lens(1, rows * fan_in), terms)
        .close("second", second, lens(2, rows * fan_in), terms)
        .close("bias", &after.bias, rows, terms)
        .close("bias_first", bias_first, lens(1, rows), terms)
        .close("bias_second", bias_second, lens(2, rows), terms)
        .close("dlogits", &after.dlogits, dlogits_len(layer, form), terms)
        .close("partial", &after.partial, parts(layer).1 * layer.features * layer.columns(), rows)
        .close("label_loss", &after.label_loss, losses(layer, form), 8 * terms)
        .exact("before", &after.before, rows * fan_in)
}
