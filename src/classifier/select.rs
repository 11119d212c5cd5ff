//! The k connections of least score in the whole layer, exactly, ties and all: a radix selection whose counting runs
//! on the device and whose few decisions are made here.

use super::fan_in::FanIn;
use crate::device::{Device, Recording, Slice};
use crate::error::Result;
use crate::kernels::rewire_histogram::{self, Digit};
use crate::kernels::rewire_mask::Rule;

/// Places of the four digits of a 32-bit key, highest first.
const SHIFTS: [u32; 4] = [24, 16, 8, 0];

impl FanIn {
    /// For each block, the rule that prunes exactly the `count` connections of least |w| (in a group, least mean
    /// |w|) of the layer. Among equal scores, earlier rows and slots go first.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device is lost.
    pub(super) fn select_smallest(&self, device: &Device, count: u64) -> Result<Vec<Rule>> {
        let mut wanted = count;
        let mut key = 0;
        let mut equal = Vec::new();
        for shift in SHIFTS {
            let digit = Digit { shift, prefix: key, equal_score: None };
            let counts = (0..self.blocks.len())
                .map(|block| self.histogram(device, block, digit))
                .collect::<Result<Vec<_>>>()?;
            let bin = decide(&mut wanted, |bin| counts.iter().map(|counts| u64::from(counts[bin])).sum());
            key = key << 8 | bin as u32;
            equal = counts.iter().map(|counts| u64::from(counts[bin])).collect();
        }
        // `wanted` of the connections with exactly this score are pruned: block by block from the first.
        let mut rules = Vec::with_capacity(equal.len());
        for (block, equal) in equal.into_iter().enumerate() {
            let position_end = match wanted {
                0 => 0,
                wanted if wanted >= equal => u32::MAX,
                wanted => self.position_end(device, block, key, wanted)?,
            };
            wanted -= wanted.min(equal);
            rules.push(Rule::Selected { key, position_end });
        }
        Ok(rules)
    }

    /// Behind which position the first `wanted` connections with this score end.
    fn position_end(&self, device: &Device, block: usize, score: u32, mut wanted: u64) -> Result<u32> {
        let mut position = 0;
        for shift in SHIFTS {
            let digit = Digit { shift, prefix: position, equal_score: Some(score) };
            let counts = self.histogram(device, block, digit)?;
            let bin = decide(&mut wanted, |bin| u64::from(counts[bin]));
            position = position << 8 | bin as u32;
        }
        Ok(position + 1)
    }

    fn histogram(&self, device: &Device, block: usize, digit: Digit) -> Result<Vec<u32>> {
        let block = &self.blocks[block];
        let counts = device.allocate("score histogram", 256 * 4)?;
        let mut recording = Recording::new();
        let (weights, bins) = (Slice::from(&block.weights), Slice::from(&counts));
        recording.launch(rewire_histogram::launch(block.shape, digit, &weights, &bins));
        device.submit(recording)?;
        device.read_vec(&counts, 256)
    }
}

/// The bin in which the `wanted`-th smallest lies; `wanted` becomes its rank within the bin.
fn decide(wanted: &mut u64, count: impl Fn(usize) -> u64) -> usize {
    for bin in 0..255 {
        let here = count(bin);
        if *wanted <= here {
            return bin;
        }
        *wanted -= here;
    }
    255
}
