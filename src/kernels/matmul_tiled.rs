//! Product of two matrices by tiles in workgroup memory: see `shaders/matmul_tiled.wgsl`,
//! `shaders/matmul_tiled_activated.wgsl` and `shaders/shared/product_tiled.wgsl`.

use super::matmul::{
    ACTIVATING, PLAIN, activated_twin, activations, launch_of, plain_epilogues, twin, variants,
};
use super::products::Product;
use crate::device::{Constants, Kernel, Launch};

/// Invocations along a side of the workgroup; its tile is four times as long.
pub(super) const SIDES: [u32; 2] = [8, 16];

/// The product with or without bias, or added to what is there.
pub static KERNEL: Kernel = Kernel {
    name: "matmul_tiled",
    source: include_str!("../../shaders/matmul_tiled.wgsl"),
    bindings: PLAIN,
    twin,
    variants: || of_every_side(plain_epilogues()),
};

/// The product with bias, and its activation.
pub static ACTIVATED: Kernel = Kernel {
    name: "matmul_tiled_activated",
    source: include_str!("../../shaders/matmul_tiled_activated.wgsl"),
    bindings: ACTIVATING,
    twin: activated_twin,
    variants: || of_every_side(activations()),
};

fn of_every_side(epilogues: Vec<(&'static str, u32)>) -> Vec<Constants> {
    SIDES.iter().flat_map(|side| variants(epilogues.clone(), &[("SIDE", *side)])).collect()
}

/// The product by tiles of 4 `side` × 4 `side`.
#[must_use]
pub fn launch(side: u32, product: &Product<'_>) -> Launch {
    let [m, n, _] = product.sizes;
    let tile = 4 * side as usize;
    let tiles = m.div_ceil(tile) * n.div_ceil(tile);
    let tiles = u32::try_from(tiles).expect("a product has fewer than 2^32 tiles");
    launch_of([&KERNEL, &ACTIVATED], product, &[("SIDE", side)], None, tiles)
}
