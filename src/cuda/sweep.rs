//! The classifier's step in two walks: logits, loss, update and bias of a block in one kernel, which keeps a copy of the
//! weights as they were; then the gradient of the features, from that copy.
//!
//! What is recorded are the launches of a step one after the other. Where they come in that order and on the same
//! buffers, they are run so.

use super::driver::Shape;
use super::kernels::constant;
use crate::device::{Launch, Slice};

/// The kernels: for labels each by itself, and for groups of labels on matrix units.
pub(super) const NAMES: [&str; 2] = ["fan_in_sweep", "fan_in_group_sweep"];

/// Warps of a block of the first; each takes a label.
const WARPS: u32 = 4;

/// Warps of a block of the second, which takes a group.
const GROUP_WARPS: u32 = 8;

/// Groups that matrix units are used for.
const GROUPS: [u32; 3] = [16, 32, 64];

/// Connections of all labels of a group at most: their gradients lie in the registers of a block.
const MOST_GROUP_CONNECTIONS: u32 = 8192;

/// Shared memory that every device gives without being asked.
const MOST_SHARED_BYTES: u32 = 48 << 10;

/// Most connections of a label: its weights and indices lie in shared memory, 8 bytes a connection, 48 KiB a block.
const MOST_FAN_IN: u32 = 1024;

/// Places in the parameters of `fan_in_dlogits`, which begin with the rows.
const FAN_IN: usize = 2;
const WEIGHT_WORDS: usize = 4;
const GROUP: usize = 5;
const BATCH: usize = 6;
const POSITIVES: usize = 8;
const SCALE: usize = 9;

/// Places in the parameters of `fan_in_update` and `bias_update`, which begin with the rates.
const DECAY: usize = 1;
const KEEP: usize = 2;
const RATES: usize = 12;

/// The launches of a step that one of [`NAMES`] stands for, and those that stay.
pub(super) struct Step<'a> {
    dlogits: &'a Launch,
    update: &'a Launch,
    bias: Option<&'a Launch>,
    /// The sum of the losses, unchanged.
    pub(super) loss_sum: &'a Launch,
    /// The gradient of the features, which is given the copy of the weights.
    pub(super) feature_gradient: &'a Launch,
    /// Launches that all of this stands for.
    pub(super) launches: usize,
}

/// Binding of the weights of `fan_in_feature_gradient`.
pub(super) const FEATURE_GRADIENT_WEIGHTS: usize = 1;

impl<'a> Step<'a> {
    /// The step that begins with the first of `launches`, if one does.
    pub(super) fn at(launches: &[&'a Launch]) -> Option<Self> {
        let [dlogits, loss_sum, feature_gradient, update, rest @ ..] = launches else { return None };
        let names = [dlogits, loss_sum, feature_gradient, update].map(|launch| launch.kernel.name);
        if names != ["fan_in_dlogits", "loss_sum", "fan_in_feature_gradient", "fan_in_update"] {
            return None;
        }
        let same = |a: &Launch, i: usize, b: &Launch, j: usize| is_same(&a.bindings[i], &b.bindings[j]);
        let fits = same(dlogits, 6, loss_sum, 0)
            && same(dlogits, 5, feature_gradient, 0)
            && same(dlogits, 1, feature_gradient, FEATURE_GRADIENT_WEIGHTS)
            && same(dlogits, 5, update, 1)
            && same(dlogits, 0, update, 0)
            && same(dlogits, 2, update, 2)
            && same(dlogits, 1, update, 3)
            && dlogits.params[0] == update.params[RATES]
            && dlogits.params[FAN_IN] <= MOST_FAN_IN
            && constant(dlogits, "LOSS") < Some(2);
        if !fits {
            return None;
        }
        let belongs = |bias: &&Launch| {
            let mut rates = update.params[..RATES].to_vec();
            (rates[DECAY], rates[KEEP]) = (0.0_f32.to_bits(), 1.0_f32.to_bits());
            bias.kernel.name == "bias_update"
                && same(dlogits, 5, bias, 0)
                && same(dlogits, 3, bias, 1)
                && bias.params[..RATES] == rates
                && constant(bias, "OPTIMIZER") == constant(update, "OPTIMIZER")
        };
        let bias = rest.first().copied().filter(belongs);
        let launches = 4 + usize::from(bias.is_some());
        Some(Self { dlogits, update, bias, loss_sum, feature_gradient, launches })
    }

    /// Bytes of the weights of the block.
    pub(super) fn weight_bytes(&self) -> u64 {
        4 * u64::from(self.dlogits.params[0]) * u64::from(self.dlogits.params[WEIGHT_WORDS])
    }

    /// The kernel for the step's sizes and how it is spread out.
    pub(super) fn kernel(&self) -> (&'static str, Shape) {
        let [rows, fan_in, group] = [0, FAN_IN, GROUP].map(|place| self.dlogits.params[place]);
        if let Some(shared_bytes) = group_shared_bytes(group, fan_in) {
            let shape = Shape { blocks: rows.div_ceil(group), threads: 32 * GROUP_WARPS, shared_bytes };
            return (NAMES[1], shape);
        }
        let shape =
            Shape { blocks: rows.div_ceil(WARPS), threads: 32 * WARPS, shared_bytes: 8 * WARPS * fan_in };
        (NAMES[0], shape)
    }

    /// The parameters of the kernel: those of `fan_in_update`, then batch, positives, scale, and whether the bias is trained.
    pub(super) fn params(&self) -> Vec<u32> {
        let more = [BATCH, POSITIVES, SCALE].map(|place| self.dlogits.params[place]);
        [self.update.params.as_slice(), &more, &[u32::from(self.bias.is_some())]].concat()
    }

    /// Loss, optimizer, storage of the weights, storage of their states.
    pub(super) fn constants(&self) -> Vec<u32> {
        let of = |launch, name| constant(launch, name).unwrap_or(0);
        vec![
            of(self.dlogits, "LOSS"),
            of(self.update, "OPTIMIZER"),
            of(self.update, "WEIGHTS"),
            of(self.update, "MOMENTS"),
        ]
    }

    /// x, weights, indices, bias, positives, dlogits, label_loss, states of the weights and of the bias. The copy of the
    /// weights comes behind them.
    pub(super) fn bindings(&self) -> Vec<&'a Slice> {
        let of_bias = self.bias.map_or([&self.dlogits.bindings[3]; 2], |b| [&b.bindings[2], &b.bindings[3]]);
        let of_weights = self.update.bindings[4..6].iter();
        self.dlogits.bindings.iter().chain(of_weights).chain(of_bias).collect()
    }
}

/// Shared memory of a block of `fan_in_group_sweep`, where it can take groups of this size: see `GroupMemory` there.
fn group_shared_bytes(group: u32, fan_in: u32) -> Option<u32> {
    const PAD: u32 = 4;
    const TILE: u32 = 32 + PAD;
    let fits = GROUPS.contains(&group)
        && fan_in.is_multiple_of(16)
        && group.saturating_mul(fan_in) <= MOST_GROUP_CONNECTIONS;
    let numbers = group * (fan_in + PAD) + fan_in * TILE + group * TILE + 9 * group;
    (fits && 4 * numbers <= MOST_SHARED_BYTES).then_some(4 * numbers)
}

fn is_same(a: &Slice, b: &Slice) -> bool {
    a.buffer.is(&b.buffer) && a.offset == b.offset && a.bytes == b.bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrix_units_take_whole_groups_that_fit() {
        // 32 labels of 64 connections: weights 32 · 68, features 64 · 36, gradients 32 · 36, the rest 9 · 32 numbers.
        assert_eq!(group_shared_bytes(32, 64), Some(4 * (2176 + 2304 + 1152 + 288)));
        for (group, fan_in) in [(1, 16), (8, 16), (24, 16), (16, 17), (64, 256), (64, 112), (16, 1024)] {
            assert_eq!(group_shared_bytes(group, fan_in), None, "{group} labels, {fan_in} connections");
        }
        assert!(group_shared_bytes(64, 64).is_some() && group_shared_bytes(16, 128).is_some());
    }
}
