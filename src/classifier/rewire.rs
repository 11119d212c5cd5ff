//! Dynamic rewiring (SPARTEX §2.2, SET with a fixed fan-in): the connections of least magnitude are pruned and grow
//! again elsewhere, in the same slots: at random, or where a batch's gradient is largest among some random features.

use super::fan_in::FanIn;
use super::grow::GrowthBatch;
use crate::device::{Device, DeviceKind, Recording, Slice};
use crate::error::Result;
use crate::kernels::fan_in_dlogits::Block;
use crate::kernels::rewire_mask::{self, Rule};
use crate::kernels::rewire_regrow::{self, Growth};

/// Which connections are pruned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Prune {
    /// Those whose magnitude is below the threshold, strictly.
    Threshold(f64),
    /// The ⌊connections · fraction⌋ of least magnitude in the whole layer.
    Fraction(f64),
    /// The ⌊F · fraction⌋ of least magnitude of each label.
    FractionPerRow(f64),
}

/// How connections grow again.
#[derive(Clone, Copy, Debug)]
pub struct Regrow {
    /// New weights are uniform within ± this; 0: they are zero.
    pub bound: f32,
    /// Optimizer step, which with the run's seed decides what is drawn.
    pub step: u32,
    /// Leave Adam's second moment, the scale of the gradients in the row, to the connection that grows in the place of
    /// the pruned one. From zero its first steps are far longer than those of its neighbours. (SPARTEX is silent; its code
    /// leaves both moments as they are.)
    pub keep_second_moment: bool,
}

/// What a rewiring did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RewireCounts {
    /// Slots pruned.
    pub pruned: u64,
    /// Those among them that the last rewiring had regrown.
    pub pruned_again: u64,
    /// Slots regrown.
    pub regrown: u64,
    /// Slots of the layer.
    pub connections: u64,
}

impl RewireCounts {
    /// Share of the connections that were pruned.
    #[must_use]
    pub fn turnover(&self) -> f64 {
        self.pruned as f64 / self.connections.max(1) as f64
    }
}

impl FanIn {
    /// Prunes and regrows. Biases and other slots stay as they are, bit for bit; the optimizer's states of regrown
    /// slots become zero, but for what `regrow` keeps.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when memory runs out or the device is lost.
    pub fn rewire(&self, device: &Device, prune: Prune, regrow: Regrow) -> Result<RewireCounts> {
        self.rewire_guided(device, prune, regrow, None)
    }

    /// [`FanIn::rewire`] with growth by gradient: each pruned slot takes, of some random features that the row does not
    /// have, the one with the largest |Σ_b dlogits · x| over a batch. Costs a forward pass of the layer on that batch and,
    /// for each pruned slot, `candidates` products of B numbers; no gradient is stored but that of a chunk of logits.
    ///
    /// # Errors
    /// As [`FanIn::rewire`].
    pub fn rewire_by_gradient(
        &self,
        device: &Device,
        prune: Prune,
        regrow: Regrow,
        guide: &GrowthBatch<'_>,
    ) -> Result<RewireCounts> {
        self.rewire_guided(device, prune, regrow, Some(guide))
    }

    fn rewire_guided(
        &self,
        device: &Device,
        prune: Prune,
        regrow: Regrow,
        guide: Option<&GrowthBatch<'_>>,
    ) -> Result<RewireCounts> {
        let rules = self.rules(device, prune)?;
        let growth = Growth {
            features: self.options.features,
            bound: regrow.bound,
            seed: self.options.seed,
            step: regrow.step,
            first_wiring: false,
            states: self.options.rule.states().min(if regrow.keep_second_moment { 1 } else { 2 }),
        };
        let mut total = RewireCounts { connections: self.connections(), ..RewireCounts::default() };
        for (block, rule) in self.blocks.iter().zip(rules) {
            let mask = device.allocate("pruned slots", block.regrown.bytes())?;
            let counts = device.allocate("rewiring counts", 16)?;
            let mut recording = Recording::new();
            recording.launch(rewire_mask::launch(
                block.shape,
                rule,
                &(&block.weights).into(),
                &(&mask).into(),
            ));
            if let Some(guide) = guide {
                self.record_growth(&mut recording, block, &mask, growth, (guide, device));
            }
            let bindings =
                [&mask, &block.regrown, &block.weights, &block.indices, &block.first, &block.second, &counts]
                    .map(Slice::from);
            let bindings = bindings.each_ref();
            match guide {
                Some(_) => {
                    recording.launch(rewire_regrow::launch_in_place(block.shape, growth, bindings));
                }
                None => record_random_growth(&mut recording, device, block.shape, growth, bindings),
            }
            device.submit(recording)?;
            let [pruned, again, regrown] = device.read_vec::<u32>(&counts, 3)?[..] else { continue };
            total.pruned += u64::from(pruned);
            total.pruned_again += u64::from(again);
            total.regrown += u64::from(regrown);
        }
        self.rebuild_inverted(device)?;
        Ok(total)
    }

    /// Takes for a while what a rewiring takes beside the layer: on a device that only plans.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when it does not fit.
    pub(crate) fn plan_rewiring(&self, device: &Device) -> Result<()> {
        let mask = self.blocks.iter().map(|block| block.regrown.bytes()).max().unwrap_or(0);
        drop([device.allocate("pruned slots", mask)?, device.allocate("rewiring counts", 16)?]);
        self.rebuild_inverted(device)
    }

    /// The masks that [`FanIn::rewire`] would prune: a bit for each slot of each row of indices,
    /// [rows of indices, ⌈F / 32⌉] over all blocks.
    ///
    /// # Errors
    /// As [`FanIn::rewire`].
    pub fn pruned_slots(&self, device: &Device, prune: Prune) -> Result<Vec<u32>> {
        let mut out = Vec::new();
        for (block, rule) in self.blocks.iter().zip(self.rules(device, prune)?) {
            let mask = device.allocate("pruned slots", block.regrown.bytes())?;
            let mut recording = Recording::new();
            recording.launch(rewire_mask::launch(
                block.shape,
                rule,
                &(&block.weights).into(),
                &(&mask).into(),
            ));
            device.submit(recording)?;
            let words = block.shape.index_rows() * rewire_mask::mask_words(block.shape.fan_in);
            out.extend(device.read_vec::<u32>(&mask, words)?);
        }
        Ok(out)
    }

    /// Slots of all rows of indices.
    fn connections(&self) -> u64 {
        let rows: u64 = self.blocks.iter().map(|block| block.shape.index_rows() as u64).sum();
        rows * self.options.fan_in as u64
    }

    /// The rule of each block.
    fn rules(&self, device: &Device, prune: Prune) -> Result<Vec<Rule>> {
        let same = |rule| Ok(vec![rule; self.blocks.len()]);
        match prune {
            Prune::Threshold(threshold) => same(Rule::Threshold(threshold as f32)),
            Prune::FractionPerRow(fraction) => {
                same(Rule::PerRow(floor_share(self.options.fan_in as u64, fraction) as u32))
            }
            Prune::Fraction(fraction) => match floor_share(self.connections(), fraction) {
                0 => same(Rule::PerRow(0)),
                count => self.select_smallest(device, count),
            },
        }
    }
}

/// Records [`rewire_regrow`], in as many launches as the device needs.
pub(super) fn record_random_growth(
    recording: &mut Recording,
    device: &Device,
    block: Block,
    growth: Growth,
    bindings: [&Slice; 7],
) {
    let software = device.kind() == DeviceKind::SoftwareGpu;
    let slots = rewire_regrow::slots_at_once(block, growth.features, 1, 0, software);
    for launch in rewire_regrow::launches(block, growth, slots, bindings) {
        recording.launch(launch);
    }
}

/// ⌊count · fraction⌋, in f64 as the reference computes it.
fn floor_share(count: u64, fraction: f64) -> u64 {
    (count as f64 * fraction).floor() as u64
}

#[cfg(test)]
mod tests {
    use super::floor_share;

    #[test]
    fn shares_are_floors() {
        assert_eq!(floor_share(77, 0.15), 11);
        assert_eq!(floor_share(10, 0.3), 3);
        assert_eq!(floor_share(7, 0.0), 0);
        assert_eq!(floor_share(7, 1.0), 7);
    }
}
