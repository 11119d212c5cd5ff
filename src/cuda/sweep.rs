//! The classifier's step in two walks: logits, loss, update and bias of a block in one kernel, which keeps a copy of the
//! weights as they were; then the gradient of the features, from that copy.
//!
//! What is recorded are the launches of a step one after the other. Where they come in that order and on the same
//! buffers, they are run so.

use super::driver::Shape;
use super::kernels::constant;
use crate::device::{Launch, Slice};

/// Of the kernel.
pub(super) const NAME: &str = "fan_in_sweep";

/// Warps of a block; each takes a label.
const WARPS: u32 = 4;

/// Most connections of a label: its weights and indices lie in shared memory, 8 bytes a connection, 48 KiB a block.
const MOST_FAN_IN: u32 = 1024;

/// Places in the parameters of `fan_in_dlogits`, which begin with the rows.
const FAN_IN: usize = 2;
const WEIGHT_WORDS: usize = 4;
const BATCH: usize = 6;
const POSITIVES: usize = 8;
const SCALE: usize = 9;

/// Places in the parameters of `fan_in_update` and `bias_update`, which begin with the rates.
const DECAY: usize = 1;
const KEEP: usize = 2;
const RATES: usize = 12;

/// The launches of a step that [`NAME`] stands for, and those that stay.
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

    /// How [`NAME`] is spread out.
    pub(super) fn shape(&self) -> Shape {
        Shape {
            blocks: self.dlogits.params[0].div_ceil(WARPS),
            threads: 32 * WARPS,
            shared_bytes: 8 * WARPS * self.dlogits.params[FAN_IN],
        }
    }

    /// The parameters of `fan_in_update`, then batch, positives, scale, and whether the bias is trained.
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

fn is_same(a: &Slice, b: &Slice) -> bool {
    a.buffer.is(&b.buffer) && a.offset == b.offset && a.bytes == b.bytes
}
