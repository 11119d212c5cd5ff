//! Gradient of the features from a window of labels whose logit gradients lie in tiles, for software Vulkan: see
//! `shaders/fan_in_feature_gradient_tiles.wgsl`.

use rayon::prelude::*;

use super::fan_in_dlogits::Block;
use super::fan_in_feature_gradient::BINDINGS;
use super::storage::Storage;
use super::{COLUMNS, columns_of, feature_tiles};
use crate::device::{Constants, Kernel, Launch, Slice, TwinCall, words_of};

/// Invocations in a workgroup: few, since each has a whole list to walk and there are no more of them than features.
const LANES: u32 = 16;

/// The binding of the second tile; the first is binding 0.
const SECOND_TILE: usize = BINDINGS.len();

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "fan_in_feature_gradient_tiles",
    source: include_str!("../../shaders/fan_in_feature_gradient_tiles.wgsl"),
    bindings: &feature_tiles::bindings::<12>(BINDINGS),
    twin,
    variants: || {
        let of = |weights| [1, feature_tiles::MOST].map(|tiles| constants(weights, tiles));
        Storage::ALL.into_iter().flat_map(of).collect()
    },
};

fn constants(weights: Storage, tiles: usize) -> Constants {
    vec![("TILES", tiles as u32), ("WEIGHTS", weights as u32), ("WORKGROUP", LANES)]
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    features: u32,
    weight_words: u32,
}

/// Adds what one window of at most [`feature_tiles::ROWS`] labels, each with connections of its own, sends back to `sums`
/// [D, columns]: `dlogits` [columns / 16, 1024, 16] through `weights` [rows, weight words]. `offsets` [D + 1] and `connections`
/// [rows · F] are the window's inverted index.
pub fn launch(
    block: Block,
    features: usize,
    [dlogits, weights, offsets, connections, sums]: [&Slice; 5],
) -> Launch {
    let tiles = feature_tiles::count(block.batch);
    let [first, rest @ ..] = feature_tiles::slices(dlogits, block.batch);
    let own = [first, weights.clone(), offsets.clone(), connections.clone(), sums.clone()];
    Launch {
        kernel: &KERNEL,
        constants: constants(block.precision.weights, tiles),
        bindings: own.into_iter().chain(rest).collect(),
        params: words_of(&Params { features: features as u32, weight_words: block.weight_words() as u32 }),
        workgroups: (features as u32).div_ceil(LANES),
        work: (block.rows * block.fan_in * columns_of(block.batch)) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let storage = Storage::from_constant(call.constant("WEIGHTS"));
    let columns = call.constant("TILES") as usize * COLUMNS;
    let (weights, offsets, connections) = (call.read::<u32>(1), call.read::<u32>(2), call.read::<u32>(3));
    let dlogits = feature_tiles::rows_of(call, SECOND_TILE, feature_tiles::ROWS, columns);
    let sums = call.write::<f32>(4).par_chunks_mut(columns).take(p.features as usize).enumerate();
    sums.for_each(|(feature, sum)| {
        for connection in &connections[offsets[feature] as usize..offsets[feature + 1] as usize] {
            let (row, slot) = (*connection as usize >> 16, *connection as usize & 0xffff);
            let w = storage.get(&weights[row * p.weight_words as usize..], slot);
            let g = &dlogits[row * columns..][..columns];
            sum.iter_mut().zip(g).for_each(|(sum, g)| *sum += w * g);
        }
    });
}
