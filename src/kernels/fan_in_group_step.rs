//! A training step of groups of labels in one pass, each run of groups by one subgroup: see
//! `shaders/fan_in_group_step.wgsl`. For software Vulkan.

use rayon::prelude::*;

use super::fan_in_dlogits::{Block, Loss};
use super::fan_in_group_logits::losses_by_eights;
use super::fan_in_step::{BINDINGS, RowScratch, StepOptions, bindings_with_texture, dot, open_features};
pub use super::group_step_tiles::Tiles;
use super::optimizer::{PaddedRates, Rule, state_chunks, step_slices};
use super::storage::{IndexReader, IndexRows, Precision, Rounding, Storage};
use super::vector::vectorised;
use super::{Fetch, columns_of, positive_bits};
use crate::device::{Constants, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rates: PaddedRates,
    rows: u32,
    first_label: u32,
    fan_in: u32,
    index_words: u32,
    weight_words: u32,
    moment_words: u32,
    group: u32,
    batch: u32,
    columns: u32,
    bit_words: u32,
    scale: f32,
    train_bias: u32,
    rounding: Rounding,
    features: u32,
    parts: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "fan_in_group_step",
    source: include_str!("../../shaders/fan_in_group_step.wgsl"),
    bindings: BINDINGS,
    twin,
    variants,
};

/// The kernel with fetches of 64 bits but for weights and their states.
pub static PAIRS: Kernel = Kernel {
    name: "fan_in_group_step_pairs",
    source: include_str!("../../shaders/fan_in_group_step_pairs.wgsl"),
    bindings: BINDINGS,
    twin,
    variants,
};

/// The kernel with fetches of 64 bits for these, too.
pub static EIGHTS: Kernel = Kernel {
    name: "fan_in_group_step_eights",
    source: include_str!("../../shaders/fan_in_group_step_eights.wgsl"),
    bindings: BINDINGS,
    twin,
    variants: variants_of_eights,
};

/// [`PAIRS`] with features in a texture.
pub static TEXTURES: Kernel = Kernel {
    name: "fan_in_group_step_textures_pairs",
    source: include_str!("../../shaders/fan_in_group_step_textures_pairs.wgsl"),
    bindings: &bindings_with_texture(),
    twin,
    variants: variants_of_textures,
};

/// [`EIGHTS`] with features in a texture.
pub static TEXTURES_EIGHTS: Kernel = Kernel {
    name: "fan_in_group_step_textures_eights",
    source: include_str!("../../shaders/fan_in_group_step_textures_eights.wgsl"),
    bindings: &bindings_with_texture(),
    twin,
    variants: variants_of_textures_eights,
};

/// Every loss, rule, storage, layout of features and of indices, not all of them together.
fn variants() -> Vec<Constants> {
    let mut all = Vec::new();
    for rows in IndexRows::variants() {
        for precision in Precision::all() {
            for rule in Rule::ALL {
                let halves = Precision { features: Storage::F16, ..precision };
                all.push(constants(Loss::Bce, rule, precision, rows, Tiles::LARGE));
                all.push(constants(Loss::SquaredHinge, rule, halves, rows, Tiles::SMALL));
            }
        }
    }
    all
}

/// Every rule and layout of indices, with features of both kinds.
fn variants_of_eights() -> Vec<Constants> {
    let halves = Precision { features: Storage::F16, ..Precision::default() };
    let mut all = Vec::new();
    for rows in IndexRows::variants() {
        for rule in Rule::ALL {
            all.push(constants(Loss::Bce, rule, Precision::default(), rows, Tiles::LARGE));
            all.push(constants(Loss::SquaredHinge, rule, halves, rows, Tiles::SMALL));
        }
    }
    all
}

fn variants_of_textures() -> Vec<Constants> {
    variants().into_iter().map(with_f32_features).collect()
}

fn variants_of_textures_eights() -> Vec<Constants> {
    variants_of_eights().into_iter().map(with_f32_features).collect()
}

/// What lies in a texture is f32.
fn with_f32_features(mut constants: Constants) -> Constants {
    for (_, value) in constants.iter_mut().filter(|(name, _)| *name == "FEATURES") {
        *value = Storage::F32 as u32;
    }
    constants
}

/// Whether the weights of a block can be fetched and stored eight at a time.
pub(super) fn in_eights(block: Block) -> bool {
    let Precision { weights, moments, .. } = block.precision;
    [weights, moments] == [Storage::F32; 2] && block.fan_in.is_multiple_of(8)
}

fn constants(loss: Loss, rule: Rule, precision: Precision, rows: IndexRows, tiles: Tiles) -> Constants {
    let own = [("FEATURES", precision.features as u32), ("LOSS", loss as u32), ("OPTIMIZER", rule as u32)];
    [own.as_slice(), &tiles.constants(), &precision.constants(), &rows.constants()].concat()
}

/// Losses that a launch gives: one for each group and eight samples.
#[must_use]
pub fn losses(block: Block) -> usize {
    block.index_rows() * columns_of(block.batch) / 8
}

/// One step of a run of labels in `parts` runs of groups. In: `x` [D, columns], f16 in
/// pairs where the precision has them so, in a texture with [`Fetch::Textures`], `indices` [rows / group, index words], `positive_bits` [rows, words]. Changed:
/// `weights` [rows, weight words], `bias` \[rows\], their first and second states [rows, moment words] and \[rows\];
/// `partial` [parts, D, columns], to which each part adds what its labels send back. Scratch: `dlogits`,
/// [`Tiles::scratch`] for each part. Out: `losses` \[[`losses`]\], summed over a group's labels and eight samples.
pub fn launch(
    block: Block,
    step: &StepOptions,
    (features, parts, tiles): (usize, usize, Tiles),
    [x, indices, positive_bits]: [&Slice; 3],
    [weights, bias, first, second, bias_first, bias_second]: [&Slice; 6],
    [dlogits, partial, losses]: [&Slice; 3],
) -> Launch {
    let columns = columns_of(block.batch);
    let params = Params {
        rates: step.rates.into(),
        rows: block.rows as u32,
        first_label: block.first_label as u32,
        fan_in: block.fan_in as u32,
        index_words: block.index_words() as u32,
        weight_words: block.weight_words() as u32,
        moment_words: block.moment_words() as u32,
        group: block.group as u32,
        batch: block.batch as u32,
        columns: columns as u32,
        bit_words: positive_bits::words(columns) as u32,
        scale: step.scale,
        train_bias: u32::from(step.train_bias),
        rounding: step.rounding,
        features: features as u32,
        parts: parts as u32,
    };
    let bindings = [
        x,
        indices,
        positive_bits,
        weights,
        bias,
        first,
        second,
        bias_first,
        bias_second,
        dlogits,
        partial,
        losses,
    ];
    let kernel = match step.fetch {
        Fetch::Textures if in_eights(block) => &TEXTURES_EIGHTS,
        Fetch::Textures => &TEXTURES,
        Fetch::DearPairs if in_eights(block) => &EIGHTS,
        Fetch::DearPairs => &PAIRS,
        _ => &KERNEL,
    };
    Launch {
        kernel,
        constants: constants(step.loss, step.rule, block.precision, block.indices(), tiles),
        bindings: bindings.map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: parts as u32,
        work: (3 * block.rows * block.fan_in * columns) as u64,
    }
}

/// A part of the twin: some groups and what belongs to them.
struct Part<'a> {
    first_group: usize,
    weights: &'a mut [u32],
    bias: &'a mut [f32],
    states: [&'a mut [u32]; 2],
    bias_states: [&'a mut [f32]; 2],
    dlogits: &'a mut [f32],
    partial: &'a mut [f32],
    losses: &'a mut [f32],
}

/// What all parts of the twin read.
struct Inputs<'a> {
    x: &'a [f32],
    indices: &'a [u32],
    bits: &'a [u32],
    rule: Rule,
    loss: Loss,
    storage: [Storage; 2],
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let rule = Rule::from_constant(call.constant("OPTIMIZER"));
    let mut room = Vec::new();
    let inputs = Inputs {
        x: open_features(call.constant("FEATURES"), call.read::<u32>(0), &mut room),
        indices: call.read::<u32>(1),
        bits: call.read::<u32>(2),
        rule,
        loss: Loss::from_constant(call.constant("LOSS")).expect("a loss"),
        storage: ["WEIGHTS", "MOMENTS"].map(|name| Storage::from_constant(call.constant(name))),
    };
    let index_rows = IndexRows::from_constant(call.constant("STRATIFIED_FEATURES"), p.fan_in as usize);
    let (rows, group, columns) = (p.rows as usize, p.group as usize, p.columns as usize);
    let groups = rows.div_ceil(group);
    let share = groups.div_ceil(p.parts as usize);
    let (parts, part_rows) = (groups.div_ceil(share), share * group);
    let (words, moments) = (part_rows * p.weight_words as usize, part_rows * p.moment_words as usize);
    let has = |state: usize| rule.states() >= state;
    let weights = call.write::<u32>(3)[..rows * p.weight_words as usize].par_chunks_mut(words);
    let bias = call.write::<f32>(4)[..rows].par_chunks_mut(part_rows);
    let first = state_chunks(call.write::<u32>(5), has(1), moments, parts);
    let second = state_chunks(call.write::<u32>(6), has(2), moments, parts);
    let bias_first = state_chunks(call.write::<f32>(7), has(1), part_rows, parts);
    let bias_second = state_chunks(call.write::<f32>(8), has(2), part_rows, parts);
    let dlogits = call.write::<f32>(9)[..parts * group * columns].par_chunks_mut(group * columns);
    let area = p.features as usize * columns;
    let partial = call.write::<f32>(10)[..parts * area].par_chunks_mut(area);
    let losses = call.write::<f32>(11)[..groups * columns / 8].par_chunks_mut(share * columns / 8);
    let changed = weights.zip(bias).zip(first).zip(second).zip(bias_first).zip(bias_second);
    let tasks = changed.zip(dlogits.zip(partial).zip(losses)).enumerate();
    tasks.for_each(|(part, (changed, ((dlogits, partial), losses)))| {
        let (((((weights, bias), first), second), bias_first), bias_second) = changed;
        let (states, bias_states) = ([first, second], [bias_first, bias_second]);
        let first_group = part * share;
        let part = Part { first_group, weights, bias, states, bias_states, dlogits, partial, losses };
        part.step(&p, &inputs, IndexReader::new(index_rows));
    });
}

impl Part<'_> {
    fn step(mut self, p: &Params, inputs: &Inputs<'_>, mut reader: IndexReader) {
        let (group, columns) = (p.group as usize, p.columns as usize);
        self.losses.fill(0.0);
        let mut bias_gradients = vec![0.0; self.bias.len()];
        for first in (0..self.bias.len()).step_by(group) {
            let labels = group.min(self.bias.len() - first);
            let index_row = self.first_group + first / group;
            let indices = reader.row(inputs.indices, index_row);
            for member in 0..labels {
                self.forward(p, inputs, indices, (first + member, member, index_row));
            }
            let dlogits = &self.dlogits[..labels * columns];
            for (gradient, g) in bias_gradients[first..].iter_mut().zip(dlogits.chunks_exact(columns)) {
                *gradient = g.iter().sum();
            }
            self.send_back(p, inputs, indices, (first, labels));
            self.step_weights(p, inputs, indices, (first, labels));
        }
        if p.train_bias == 1 {
            let [first, second] = self.bias_states;
            let rates = p.rates.rates.without_decay();
            step_slices(inputs.rule, &rates, self.bias, &bias_gradients, first, second);
        }
    }

    /// A label's logits, their losses and gradients.
    fn forward(
        &mut self,
        p: &Params,
        inputs: &Inputs<'_>,
        indices: &[u16],
        (row, member, index_row): (usize, usize, usize),
    ) {
        let (columns, words, bit_words) = (p.columns as usize, p.weight_words as usize, p.bit_words as usize);
        let z = &mut self.dlogits[member * columns..][..columns];
        let weights = &self.weights[row * words..][..words];
        let bias = self.bias[row];
        vectorised(
            #[inline(always)]
            || {
                z.fill(bias);
                for (slot, feature) in indices.iter().enumerate() {
                    let w = inputs.storage[0].get(weights, slot);
                    let x = &inputs.x[usize::from(*feature) * columns..][..columns];
                    z.iter_mut().zip(x).for_each(|(z, x)| *z += w * x);
                }
            },
        );
        let launch_row = self.first_group * p.group as usize + row;
        let bits = &inputs.bits[launch_row * bit_words..][..bit_words];
        let positives = positive_bits::pairs(p.first_label + launch_row as u32, bits);
        let losses = &mut self.losses[(index_row - self.first_group) * columns / 8..][..columns / 8];
        losses_by_eights(z, &positives, p.batch, (inputs.loss, p.scale), losses);
    }

    /// What a group's labels send back to the features.
    fn send_back(
        &mut self,
        p: &Params,
        inputs: &Inputs<'_>,
        indices: &[u16],
        (first, labels): (usize, usize),
    ) {
        let (columns, words) = (p.columns as usize, p.weight_words as usize);
        let mut sums = vec![0.0_f32; columns];
        for (slot, feature) in indices.iter().enumerate() {
            sums.fill(0.0);
            for member in 0..labels {
                let w = inputs.storage[0].get(&self.weights[(first + member) * words..][..words], slot);
                let g = &self.dlogits[member * columns..][..columns];
                sums.iter_mut().zip(g).for_each(|(sum, g)| *sum += w * g);
            }
            let partial = &mut self.partial[usize::from(*feature) * columns..][..columns];
            partial.iter_mut().zip(&sums).for_each(|(partial, sum)| *partial += sum);
        }
    }

    /// Gradients and steps of a group's weights.
    fn step_weights(
        &mut self,
        p: &Params,
        inputs: &Inputs<'_>,
        indices: &[u16],
        (first, labels): (usize, usize),
    ) {
        let (columns, words, moments) =
            (p.columns as usize, p.weight_words as usize, p.moment_words as usize);
        let mut scratch = RowScratch::new(p.fan_in as usize);
        let mut gradients = vec![0.0; p.fan_in as usize];
        for member in 0..labels {
            let row = first + member;
            let g = &self.dlogits[member * columns..][..columns];
            let [m, v] = &mut self.states;
            let state = |number: usize| {
                if inputs.rule.states() >= number { row * moments..(row + 1) * moments } else { 0..0 }
            };
            let stored = [&mut self.weights[row * words..][..words], &mut m[state(1)], &mut v[state(2)]];
            let label = p.first_label + (self.first_group * p.group as usize + row) as u32;
            vectorised(
                #[inline(always)]
                || {
                    for (gradient, feature) in gradients.iter_mut().zip(indices) {
                        *gradient = dot(&inputs.x[usize::from(*feature) * columns..][..columns], g);
                    }
                    let random = (p.rounding, label);
                    scratch.step(inputs.rule, &p.rates.rates, inputs.storage, random, stored, &gradients);
                },
            );
        }
    }
}
