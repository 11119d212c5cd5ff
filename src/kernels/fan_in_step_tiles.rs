//! A step of labels whose features lie in tiles, for software Vulkan: see `shaders/fan_in_step_tiles.wgsl`. It is launched by
//! [`super::fan_in_step::launch`].

use super::fan_in_dlogits::Loss;
use super::fan_in_step::{self, BINDINGS, MAX_KEPT, Params, step_all};
use super::feature_tiles;
use super::optimizer::Rule;
use super::storage::Precision;
use crate::device::{Constants, Kernel, TwinCall};

/// The binding of the second tile; the first is binding 0, and between are the others of [`fan_in_step::KERNEL`].
const SECOND_TILE: usize = BINDINGS.len();

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "fan_in_step_tiles",
    source: include_str!("../../shaders/fan_in_step_tiles.wgsl"),
    bindings: &feature_tiles::bindings::<19>(BINDINGS),
    twin,
    variants,
};

/// Every rule and storage, with few and most tiles, and with features that are fetched twice; the rest is that of [`fan_in_step::KERNEL`].
fn variants() -> Vec<Constants> {
    let mut all = Vec::new();
    for precision in Precision::all() {
        for rule in Rule::ALL {
            let of = |loss, kept: usize, batch| {
                let rows = precision.indices.rows(kept.max(1));
                constants(fan_in_step::constants(loss, rule, precision, rows, kept), batch)
            };
            all.push(of(Loss::Bce, 7, 1));
            all.push(of(Loss::SquaredHinge, MAX_KEPT, feature_tiles::MOST * 16));
            all.push(of(Loss::Bce, 0, 33));
        }
    }
    all
}

/// From the constants of the other forms; features in tiles are f32 always.
pub(super) fn constants(mut of_step: Constants, batch: usize) -> Constants {
    of_step.retain(|(name, _)| *name != "FEATURES");
    of_step.push(("TILES", feature_tiles::count(batch) as u32));
    of_step
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (rows, columns) = (p.rows as usize, p.columns as usize);
    let x = feature_tiles::rows_of(call, SECOND_TILE, feature_tiles::ROWS, columns);
    let mut dlogits = vec![0.0; rows * columns];
    let tiles = call.write::<f32>(9);
    step_all(call, &p, &x, &mut dlogits);
    feature_tiles::scatter(&dlogits, columns, tiles);
}
