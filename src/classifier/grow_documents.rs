//! Connections that follow a label's own documents. A batch has hardly any positives of a rare label, so neither chance nor
//! the gradient of a batch finds the features that tell it apart; its training documents together do.

use super::block::LabelBlock;
use super::fan_in::FanIn;
use super::rewire::RewireCounts;
use crate::device::{Buffer, Device};
use crate::error::Result;
use crate::kernels::storage::Storage;

/// Weights of a piece of labels that the host looks at together take at most so many bytes in f32.
const PIECE_BYTES: usize = 2 << 20;

impl FanIn {
    /// Host memory of [`FanIn::follow_documents`] at most, bytes: of a piece, weights and first moments in f32 and as they
    /// are stored, and indices twice.
    pub const FOLLOW_BYTES: usize = 5 * PIECE_BYTES;

    /// Moves the weaker half of each label's connections, ⌈F / 2⌉ of least magnitude, to the features of the largest
    /// `scores` that its stronger half does not have. What lies there already stays; a connection that moves has weight
    /// and first moment zero, and keeps its second moment, the scale of the gradients in its row: from zero, Adam's first
    /// steps would be three times as long, (1 − β₁) / √(1 − β₂). `scores` are [rows, D], of the labels from `first_label` on; a label whose scores are all zero
    /// stays as it is. With the same scores again nothing moves. [`FanIn::rebuild_inverted`] is due when all is moved.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when memory runs out or the device is lost.
    ///
    /// # Panics
    /// When labels share rows of indices, or slots have strata of their own.
    pub fn follow_documents(
        &self,
        device: &Device,
        first_label: usize,
        scores: &[f32],
    ) -> Result<RewireCounts> {
        let (features, fan_in) = (self.options.features, self.options.fan_in);
        assert_eq!(self.options.group, 1, "labels share rows of indices");
        let end = first_label + scores.len() / features;
        let mut counts = RewireCounts::default();
        for block in &self.blocks {
            let own = block.shape.first_label..block.shape.first_label + block.shape.rows;
            let piece = (PIECE_BYTES / (4 * fan_in)).max(1);
            for first in (own.start.max(first_label)..own.end.min(end)).step_by(piece) {
                let rows = piece.min(own.end.min(end) - first);
                let scores = &scores[(first - first_label) * features..][..rows * features];
                let moved = self.follow_piece(device, block, (first - own.start, rows), scores)?;
                counts.pruned += moved;
                counts.regrown += moved;
                counts.connections += (rows * fan_in) as u64;
            }
        }
        Ok(counts)
    }

    /// The rows from `first` on of a block; gives how many connections moved.
    fn follow_piece(
        &self,
        device: &Device,
        block: &LabelBlock,
        (first, rows): (usize, usize),
        scores: &[f32],
    ) -> Result<u64> {
        let (shape, precision, fan_in) = (block.shape, self.options.precision, self.options.fan_in);
        let numbers = |buffer, storage: Storage, words| -> Result<(Piece<'_>, Vec<f32>)> {
            let piece = Piece { buffer, first, words };
            Ok((piece, storage.unpack(&piece.read(device, rows)?, fan_in, words)))
        };
        let (at, mut weights) = numbers(&block.weights, precision.weights, shape.weight_words())?;
        let indices_at = Piece { buffer: &block.indices, first, words: shape.index_words() };
        let mut indices = shape.indices().unpack(&indices_at.read(device, rows)?);
        let has_moment = self.options.rule.states() > 0;
        let mut moment =
            has_moment.then(|| numbers(&block.first, precision.moments, shape.moment_words())).transpose()?;
        let mut moved = 0;
        for (row, scores) in scores.chunks_exact(self.options.features).enumerate() {
            let slots = row * fan_in..(row + 1) * fan_in;
            if scores.iter().all(|score| *score == 0.0) {
                continue;
            }
            for (slot, feature) in moves(&weights[slots.clone()], &indices[slots.clone()], scores) {
                indices[slots.start + slot] = feature;
                weights[slots.start + slot] = 0.0;
                if let Some((_, moment)) = &mut moment {
                    moment[slots.start + slot] = 0.0;
                }
                moved += 1;
            }
        }
        if moved > 0 {
            at.write(device, &precision.weights.pack(&weights, fan_in, shape.weight_words()))?;
            indices_at.write(device, &shape.indices().pack(&indices))?;
            if let Some((at, moment)) = moment {
                at.write(device, &precision.moments.pack(&moment, fan_in, shape.moment_words()))?;
            }
        }
        Ok(moved)
    }
}

/// Rows of a buffer from `first` on, each of so many words.
#[derive(Clone, Copy)]
struct Piece<'a> {
    buffer: &'a Buffer,
    first: usize,
    words: usize,
}

impl Piece<'_> {
    fn read(&self, device: &Device, rows: usize) -> Result<Vec<u32>> {
        let bytes = device.read(self.buffer, self.offset(), (rows * self.words * 4) as u64)?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }

    fn write(&self, device: &Device, words: &[u32]) -> Result<()> {
        device.write(self.buffer, self.offset(), bytemuck::cast_slice(words))
    }

    fn offset(&self) -> u64 {
        (self.first * self.words * 4) as u64
    }
}

/// The slots of a row that move, and to which features. Equal magnitudes: the first slot is the stronger; equal scores:
/// the first feature.
fn moves(weights: &[f32], indices: &[u16], scores: &[f32]) -> Vec<(usize, u16)> {
    let mut slots: Vec<usize> = (0..weights.len()).collect();
    slots.sort_by(|a, b| weights[*b].abs().total_cmp(&weights[*a].abs()));
    let weak = slots.split_off(weights.len() / 2);
    let mut taken = vec![false; scores.len()];
    slots.iter().for_each(|slot| taken[usize::from(indices[*slot])] = true);
    let mut best: Vec<usize> = (0..scores.len()).filter(|feature| !taken[*feature]).collect();
    best.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    best.truncate(weak.len());
    let mut missing = vec![false; scores.len()];
    best.iter().for_each(|feature| missing[*feature] = true);
    let mut free: Vec<usize> = Vec::new();
    let mut weak = weak;
    weak.sort_unstable();
    for slot in weak {
        let there = &mut missing[usize::from(indices[slot])];
        if *there { *there = false } else { free.push(slot) }
    }
    let missing = best.into_iter().filter(|feature| missing[*feature]).map(|feature| feature as u16);
    free.into_iter().zip(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::moves;

    /// By hand: slots 1 and 3 are the stronger half. The best features that they do not have are 4 and 0: slot 2 is at 4
    /// and stays, slot 0 goes to 0.
    #[test]
    fn the_weaker_half_moves() {
        let (weights, indices) = ([0.1, -0.9, 0.2, 0.5], [5, 1, 4, 3]);
        assert_eq!(moves(&weights, &indices, &[0.6, 0.9, 0.1, 0.8, 0.7, 0.2]), [(0, 0)]);
        // Features 5 and 4: both are there.
        assert_eq!(moves(&weights, &indices, &[0.1, 0.9, 0.1, 0.8, 0.7, 0.2]), []);
        // Equal scores: the first features that the stronger half does not have.
        assert_eq!(moves(&weights, &indices, &[0.5; 6]), [(0, 0), (2, 2)]);
        // Of three connections two are the weaker half; equal weights, so the last ones.
        assert_eq!(moves(&[0.0; 3], &[0, 1, 2], &[0.0, 0.0, 0.0, 1.0, 2.0]), [(1, 4), (2, 3)]);
        // Nowhere to go.
        assert_eq!(moves(&[0.3, 0.2], &[1, 0], &[0.0, 1.0]), []);
    }
}
