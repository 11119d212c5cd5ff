//! How the pass over groups of labels shares its work out among the lanes of subgroups: see
//! `shaders/shared/fan_in_group_step.wgsl`.

use super::fan_in_dlogits::Block;
use super::{Fetch, columns_of};
use crate::device::Device;

/// How the work is shared out: lanes, and what each holds.
#[derive(Clone, Copy, Debug)]
pub struct Tiles {
    /// Lanes of a subgroup, which takes one group after the other.
    subgroup: u32,
    /// Connections whose features a lane holds, eight samples of each, while it goes over the labels.
    seen: usize,
    /// Labels whose logit gradients a lane holds, while they send back.
    back: usize,
    /// Samples, in eights, of which a lane holds the features of eight connections, while it goes over the labels.
    stepped: usize,
    /// Whether drivers unroll the loops over these numbers, so that they are no rounds: not where naga guards them.
    unrolled: bool,
}

impl Tiles {
    pub(super) const LARGE: Self = Self { subgroup: 8, seen: 128, back: 32, stepped: 8, unrolled: true };
    pub(super) const SMALL: Self = Self { subgroup: 8, seen: 8, back: 8, stepped: 1, unrolled: false };

    /// Connections seen at once where features are fetched from a buffer: each such fetch is a loop, and takes long to compile.
    const SEEN_IN_BUFFER: usize = 32;

    /// Those for labels as in `block`, and batches of up to its own, on a device, if it has subgroups. Where every access is
    /// guarded they are small: drivers take long over large ones there.
    #[must_use]
    pub fn of(device: &Device, block: Block, fetch: Fetch) -> Option<Self> {
        let subgroup = device.subgroup()?;
        let tiles = if device.is_checked() { Self::SMALL } else { Self::LARGE };
        let seen = if fetch == Fetch::Textures { tiles.seen } else { tiles.seen.min(Self::SEEN_IN_BUFFER) };
        let eights = (columns_of(block.batch) / 8).next_power_of_two();
        Some(Self {
            subgroup,
            seen: seen.min(block.fan_in.next_power_of_two().max(8)),
            back: tiles.back.min(block.group.next_power_of_two().max(8)),
            stepped: tiles.stepped.min(eights).min(subgroup as usize),
            ..tiles
        })
    }

    pub(super) fn constants(self) -> [(&'static str, u32); 4] {
        [
            ("BACK", self.back as u32),
            ("SEEN", self.seen as u32),
            ("STEPPED", self.stepped as u32),
            ("SUBGROUP", self.subgroup),
        ]
    }

    /// The most rounds that the loops of a lane make for one group, of labels as in `block`.
    #[must_use]
    pub fn rounds_of_a_group(self, block: Block) -> usize {
        let Block { fan_in, group, batch, .. } = block;
        let Self { seen, back, stepped, .. } = self;
        let eights = columns_of(batch) / 8;
        let lanes = self.subgroup as usize;
        let runs_of = |count: usize| count.div_ceil(lanes);
        // A round with a loop over so many of the tile's numbers in it.
        let over = |numbers: usize| if self.unrolled { 1 } else { 1 + numbers };
        // Eight connections: their features, their weights of some labels, and those of one connection chosen.
        let held = 8_usize.div_ceil(lanes);
        let opened = |labels: usize| over(held + runs_of(labels) * 17);
        let chosen = |labels: usize| over(held + runs_of(labels) * 9 + labels);
        let run = |labels: usize| opened(labels) + 8 * chosen(labels);
        let slots = fan_in.div_ceil(8);
        // Features are fetched, then each label's weights.
        let forward = over(seen / 8 * (9 + held + 8 * held)) + group * over(seen / 8 * 26 + 8);
        let back = over(back) + slots * run(back);
        let step = over(9 + 8 * stepped) + group * (over(stepped + 25) + eights.div_ceil(stepped));
        let steps = runs_of(slots) * (1 + eights.div_ceil(stepped) * step);
        let of_run = 1 + fan_in.div_ceil(seen) * forward + group.div_ceil(self.back) * back;
        1 + runs_of(eights) * of_run + steps
    }

    /// How often a lane fetches, for each connection and sample of groups of so many labels with so many connections, a
    /// feature or what its gradient is made of.
    #[must_use]
    pub fn fetches(self, group: usize, fan_in: usize) -> f64 {
        let (group, fan_in) = (group as f64, fan_in as f64);
        // Features for logits and for gradients of weights; what a group sends back; a label's logits, for each run of connections
        // after the first, and their gradients to be sent back; these once more for the connections of all lanes.
        let runs = (fan_in / self.seen as f64).ceil();
        let of_lanes = f64::from(8 * self.subgroup);
        2.0 / group + 1.0 / group.min(self.back as f64) + runs / fan_in + 1.0 / fan_in.min(of_lanes)
    }

    /// Numbers of a part's scratch, for labels as in `block`: logit gradients of a group, and sums over some of the samples
    /// where a lane does not hold all.
    #[must_use]
    pub fn scratch(self, block: Block) -> usize {
        let columns = columns_of(block.batch);
        let kept = if columns / 8 > self.stepped {
            block.fan_in.next_multiple_of(8 * self.subgroup as usize)
        } else {
            0
        };
        block.group * (columns + kept)
    }
}
