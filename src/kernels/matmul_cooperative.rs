//! Product of two matrices by cooperative matrices, f16 · f16 + f32: see `shaders/matmul_cooperative_8.wgsl`,
//! `shaders/matmul_cooperative_16.wgsl` and `shaders/shared/product_cooperative.wgsl`.

use super::matmul::{
    ACTIVATING, PLAIN, activated_twin, activations, launch_of, plain_epilogues, twin, variants,
};
use super::products::{Epilogue, Operand, Product};
use crate::device::{Constants, Cooperative, Kernel, Launch, Slice};

macro_rules! kernel {
    ($name:literal, $bindings:expr, $twin:expr, $variants:expr) => {
        Kernel {
            name: $name,
            source: include_str!(concat!("../../shaders/", $name, ".wgsl")),
            bindings: $bindings,
            twin: $twin,
            variants: $variants,
        }
    };
}

/// Matrices of 8 × 8; with or without bias, or added to what is there.
pub static EIGHT: Kernel = kernel!("matmul_cooperative_8", PLAIN, twin, plain_variants);
/// Matrices of 8 × 8; with bias, and its activation.
pub static EIGHT_ACTIVATED: Kernel =
    kernel!("matmul_cooperative_8_activated", ACTIVATING, activated_twin, activated_variants);
/// Matrices of 16 × 16; with or without bias, or added to what is there.
pub static SIXTEEN: Kernel = kernel!("matmul_cooperative_16", PLAIN, twin, plain_variants);
/// Matrices of 16 × 16; with bias, and its activation.
pub static SIXTEEN_ACTIVATED: Kernel =
    kernel!("matmul_cooperative_16_activated", ACTIVATING, activated_twin, activated_variants);

/// For validation; an adapter's own subgroup size is what is launched.
const SUBGROUP: u32 = 32;

fn plain_variants() -> Vec<Constants> {
    let scaled = |scaled| variants(plain_epilogues(), &[("SCALED", scaled), ("SUBGROUP", SUBGROUP)]);
    [0, 1, 2].into_iter().flat_map(scaled).collect()
}

fn activated_variants() -> Vec<Constants> {
    variants(activations(), &[("SCALED", 0), ("SUBGROUP", SUBGROUP)])
}

/// The operand whose maxima [`launch`] takes: a gradient's magnitudes are brought to those of 16 bits.
#[must_use]
pub fn scaled(product: &Product<'_>) -> Option<Operand> {
    product.gradient.filter(|_| matches!(product.epilogue, Epilogue::None | Epilogue::Accumulate))
}

/// The product by these matrices. `maxima` are those of what is [`scaled`], from `matmul_maximum`.
#[must_use]
pub fn launch(matrices: Cooperative, product: &Product<'_>, maxima: &Slice) -> Launch {
    let [m, n, _] = product.sizes;
    let tile = 4 * matrices.size as usize;
    let tiles = m.div_ceil(tile) * n.div_ceil(tile);
    let tiles = u32::try_from(tiles).expect("a product has fewer than 2^32 tiles");
    let kernels =
        if matrices.size == 8 { [&EIGHT, &EIGHT_ACTIVATED] } else { [&SIXTEEN, &SIXTEEN_ACTIVATED] };
    let scaled = scaled(product);
    let number = match scaled {
        None => 0,
        Some(Operand::A) => 1,
        Some(Operand::B) => 2,
    };
    let own = [("SCALED", number), ("SUBGROUP", matrices.subgroup)];
    launch_of(kernels, product, &own, scaled.map(|_| maxima), tiles)
}
