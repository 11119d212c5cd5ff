//! The K best labels of each sample of a segment of labels: what `fan_in_top_k` and `logits_top_k` have in common. The
//! shaders' side is `shaders/shared/top_k_list.wgsl`.

use super::WORKGROUP;
use crate::device::Constants;

/// No label: what is left of a list with fewer than K entries.
pub const NOTHING: u32 = u32::MAX;
/// Score of what is left.
pub const LOWEST: f32 = f32::MIN;

/// Most labels that a list holds.
pub const MAX_K: usize = 256;

/// Labels in a segment; for `fan_in_top_k`, times half the fan-in, the iterations of an invocation.
pub(super) const SEGMENT: usize = 512;

/// Segments of a block.
#[must_use]
pub fn segments(rows: usize) -> usize {
    rows.div_ceil(SEGMENT)
}

/// The constants of a list length, the same in all kernels of ranking.
pub(super) fn constants(k: usize) -> Constants {
    vec![("K", k as u32), ("WORKGROUP", WORKGROUP)]
}

/// Puts (score, label) into a list sorted by falling score; an equal score stays behind those before it.
#[inline]
pub(super) fn insert(scores: &mut [f32], labels: &mut [u32], score: f32, label: u32) {
    let mut place = scores.len() - 1;
    while place > 0 && scores[place - 1] < score {
        scores[place] = scores[place - 1];
        labels[place] = labels[place - 1];
        place -= 1;
    }
    scores[place] = score;
    labels[place] = label;
}

/// The lists of all samples while a segment's labels come by, in ascending order.
pub(super) struct BestLists<'a> {
    k: usize,
    batch: usize,
    /// What a score must exceed to enter, side by side for the comparison of a whole row.
    bars: Vec<f32>,
    filter_offsets: &'a [u32],
    filter_labels: &'a [u32],
    scores: &'a mut [f32],
    labels: &'a mut [u32],
}

impl<'a> BestLists<'a> {
    /// Empty lists in `scores` and `labels` [columns, K], best first. Labels in `filter_labels` between two of
    /// `filter_offsets` [B + 1] never enter that sample's list.
    pub(super) fn new(
        k: usize,
        batch: usize,
        columns: usize,
        [filter_offsets, filter_labels]: [&'a [u32]; 2],
        scores: &'a mut [f32],
        labels: &'a mut [u32],
    ) -> Self {
        scores.fill(LOWEST);
        labels.fill(NOTHING);
        let mut bars = vec![LOWEST; columns];
        bars[batch..].fill(f32::INFINITY);
        Self { k, batch, bars, filter_offsets, filter_labels, scores, labels }
    }

    /// Offers a label with its scores \[columns\].
    #[inline(always)]
    pub(super) fn offer(&mut self, label: u32, row: &[f32]) {
        let entering = row.iter().zip(&self.bars).fold(0_u32, |any, (z, bar)| any | u32::from(z > bar));
        if entering == 0 {
            return;
        }
        for (sample, z) in row[..self.batch].iter().copied().enumerate() {
            let filter = self.filter_offsets[sample] as usize..self.filter_offsets[sample + 1] as usize;
            if z > self.bars[sample] && !self.filter_labels[filter].contains(&label) {
                let list = sample * self.k..(sample + 1) * self.k;
                insert(&mut self.scores[list.clone()], &mut self.labels[list], z, label);
                self.bars[sample] = self.scores[(sample + 1) * self.k - 1];
            }
        }
    }
}
