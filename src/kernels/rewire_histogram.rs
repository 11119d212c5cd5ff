//! A digit of the radix selection of the smallest scores: see `shaders/rewire_histogram.wgsl`.

use rayon::prelude::*;

use super::fan_in_dlogits::Block;
use super::rewire_mask::Weights;
use super::storage::Storage;
use super::vector::vectorised;
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    index_rows: u32,
    fan_in: u32,
    weight_words: u32,
    group: u32,
    shift: u32,
    prefix: u32,
    score: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "rewire_histogram",
    source: include_str!("../../shaders/rewire_histogram.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || Storage::ALL.map(|weights| [0, 1].map(|by| constants(by, weights))).concat(),
};

fn constants(by_position: u32, weights: Storage) -> Constants {
    vec![("BY_POSITION", by_position), ("WEIGHTS", weights as u32), ("WORKGROUP", WORKGROUP)]
}

/// Which connections are counted, and by what.
#[derive(Clone, Copy, Debug)]
pub struct Digit {
    /// Place of the eight bits in the key.
    pub shift: u32,
    /// The higher bits that are decided.
    pub prefix: u32,
    /// `None`: the key is the score; else the position, among connections with exactly these bits as score.
    pub equal_score: Option<u32>,
}

/// Adds to `counts` \[256\] the connections of a block with each value of a digit.
pub fn launch(block: Block, digit: Digit, weights: &Slice, counts: &Slice) -> Launch {
    let params = Params {
        rows: block.rows as u32,
        index_rows: block.index_rows() as u32,
        fan_in: block.fan_in as u32,
        weight_words: block.weight_words() as u32,
        group: block.group as u32,
        shift: digit.shift,
        prefix: digit.prefix,
        score: digit.equal_score.unwrap_or(0),
    };
    Launch {
        kernel: &KERNEL,
        constants: constants(u32::from(digit.equal_score.is_some()), block.precision.weights),
        bindings: vec![weights.clone(), counts.clone()],
        params: words_of(&params),
        workgroups: workgroups(block.index_rows()),
        work: (block.rows * block.fan_in) as u64,
    }
}

/// Rows of indices that one task of the twin takes.
const CHUNK: usize = 128;

impl Params {
    /// Counts the connections of a row of indices.
    #[inline(always)]
    fn count(&self, index_row: usize, scores: &[f32], by_position: bool, counts: &mut [u32; 256]) {
        for (slot, score) in scores.iter().enumerate() {
            let score = score.to_bits();
            let key = if by_position { index_row as u32 * self.fan_in + slot as u32 } else { score };
            let decided = self.shift >= 24 || key >> (self.shift + 8) == self.prefix;
            if decided && (!by_position || score == self.score) {
                counts[(key >> self.shift & 255) as usize] += 1;
            }
        }
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let by_position = call.constant("BY_POSITION") == 1;
    let weights = Weights {
        storage: Storage::from_constant(call.constant("WEIGHTS")),
        numbers: call.read(0),
        words: p.weight_words as usize,
        rows: p.rows as usize,
        group: p.group as usize,
    };
    let counts = call.write::<u32>(1);
    let (fan_in, index_rows) = (p.fan_in as usize, p.index_rows as usize);
    // Integers add up exactly in whatever order the threads finish.
    let sums = (0..index_rows.div_ceil(CHUNK))
        .into_par_iter()
        .map(|chunk| {
            let (mut counts, mut opened, mut scores) = ([0_u32; 256], vec![0.0; fan_in], vec![0.0; fan_in]);
            vectorised(
                #[inline(always)]
                || {
                    for index_row in chunk * CHUNK..index_rows.min((chunk + 1) * CHUNK) {
                        weights.scores(index_row, &mut opened, &mut scores);
                        p.count(index_row, &scores, by_position, &mut counts);
                    }
                },
            );
            counts
        })
        .reduce(|| [0; 256], |a, b| std::array::from_fn(|bin| a[bin] + b[bin]));
    counts.iter_mut().zip(sums).for_each(|(count, sum)| *count += sum);
}
