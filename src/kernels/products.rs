//! Dense products: which of the kernels computes one.
//!
//! | tier | kernel | where |
//! |---|---|---|
//! | `floor` | `matmul`: 4 × 4 in registers, no workgroup memory | everywhere; the only one of software GPUs, the CPU and CUDA, whose form of it has tiles |
//! | `tiled32`, `tiled64` | `matmul_tiled`: tiles of 32 × 32 or 64 × 64 in workgroup memory | every GPU through wgpu |
//! | `cooperative` | `matmul_cooperative_8`, `_16`: f16 · f16 + f32 | where the adapter has such matrices |
//!
//! With cooperative matrices the operands are rounded to 11 significant bits. A gradient is multiplied by a power of two
//! first, which `matmul_maximum` finds and the epilogue divides out, so that its size does not matter; what is smaller
//! than 2⁻³⁵ of its largest value counts as nothing.

use super::activation::Activation;
use super::matmul::Layout;
use super::{matmul, matmul_choice, matmul_cooperative, matmul_maximum, matmul_tiled};
use crate::device::{Cooperative, Device, Recording, Slice};
use crate::error::{Error, Result};

pub use matmul_choice::ProductOptions;

/// How much of their operands' precision products of matrices may give up for speed, as in PyTorch's
/// `set_float32_matmul_precision`. Sums are in f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatmulPrecision {
    /// Nothing: all 24 bits of an f32.
    Highest,
    /// Down to 11 bits, where a GPU has matrix units for f16; none on the CPU.
    #[default]
    High,
    /// Down to 8 bits: also bf16, where the CPU has matrix units for it.
    Medium,
}

/// What becomes of a product.
#[derive(Clone, Copy, Debug)]
pub enum Epilogue<'a> {
    /// c = a · b.
    None,
    /// c = a · b + bias \[N\].
    Bias(&'a Slice),
    /// c = a · b + bias, kept for the backward pass, and activated = act(c).
    BiasActivation {
        /// f32 \[N\].
        bias: &'a Slice,
        /// What is applied.
        activation: Activation,
        /// f32 [M, N].
        activated: &'a Slice,
    },
    /// c += a · b.
    Accumulate,
}

/// A product of two matrices of f32.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    /// M, N, K: the result is [M, N], the sums have K terms.
    pub sizes: [usize; 3],
    /// How a and b are stored.
    pub layout: Layout,
    /// [M, K], or [K, M].
    pub a: &'a Slice,
    /// [K, N], or [N, K].
    pub b: &'a Slice,
    /// [M, N].
    pub c: &'a Slice,
    /// What becomes of the product.
    pub epilogue: Epilogue<'a>,
    /// The operand that is a gradient, whose values may be too small for 16 bits.
    pub gradient: Option<Operand>,
}

/// One of the two matrices of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The left one.
    A,
    /// The right one.
    B,
}

/// A way to compute products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    Floor,
    Tiled { side: u32 },
    Cooperative(Cooperative),
}

impl Tier {
    /// Every name, the surest first.
    pub(super) const NAMES: [&str; 4] = ["floor", "tiled32", "tiled64", "cooperative"];

    /// The tier of this name, if `device` has it.
    pub(super) fn named(device: &Device, name: &str) -> Option<Self> {
        match name {
            "floor" => Some(Self::Floor),
            "tiled32" | "tiled64" if !device.has_tiled_products() => None,
            "tiled32" => Some(Self::Tiled { side: 8 }),
            "tiled64" => Some(Self::Tiled { side: 16 }),
            "cooperative" => device.cooperative().map(Self::Cooperative),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Tiled { side: 8 } => "tiled32",
            Self::Tiled { .. } => "tiled64",
            Self::Cooperative(_) => "cooperative",
        }
    }
}

/// The tier for each layout, and what they need beside the operands.
#[derive(Clone, Debug)]
pub struct Products {
    /// In the order of [`Layout::ALL`].
    tiers: [Tier; 3],
    /// u32 [[`matmul_maximum::MAXIMA`]]; where a tier needs it.
    maxima: Option<Slice>,
}

impl Products {
    /// What runs everywhere.
    #[must_use]
    pub fn floor() -> Self {
        Self { tiers: [Tier::Floor; 3], maxima: None }
    }

    /// One tier, by name, for every product.
    ///
    /// # Errors
    /// [`Error::Device`] when no tier has the name, or the device has not what it needs.
    pub fn named(device: &Device, name: &str) -> Result<Self> {
        let Some(tier) = Tier::named(device, name) else {
            let known: Vec<&str> = Self::names(device);
            return Err(Error::Device(format!(
                "there is no product tier `{name}` here, only {}",
                known.join(", ")
            )));
        };
        Self::with(device, [tier; 3])
    }

    /// The names of the tiers that `device` has, the surest first.
    #[must_use]
    pub fn names(device: &Device) -> Vec<&'static str> {
        Tier::NAMES.into_iter().filter(|name| Tier::named(device, name).is_some()).collect()
    }

    /// The fastest tiers of those that compute rightly on `device`: measured once for each adapter and driver, then
    /// taken from the cache. The CPU, software GPUs and plans take the floor.
    ///
    /// # Errors
    /// [`Error::Config`] when `off` names what does not exist, or the floor; [`Error::Device`] when the device fails.
    pub fn choose(device: &Device, options: &ProductOptions) -> Result<Self> {
        Self::with(device, matmul_choice::tiers(device, options)?)
    }

    pub(super) fn with(device: &Device, tiers: [Tier; 3]) -> Result<Self> {
        let cooperative = tiers.iter().any(|tier| matches!(tier, Tier::Cooperative(_)));
        let maxima = || device.allocate("maxima of gradients", 4 * matmul_maximum::MAXIMA as u64);
        Ok(Self { tiers, maxima: if cooperative { Some(maxima()?.whole()) } else { None } })
    }

    /// The tiers by name, for the record of a run: one name, or one for each layout.
    #[must_use]
    pub fn describe(&self) -> String {
        let [nn, nt, tn] = self.tiers.map(Tier::name);
        if nn == nt && nt == tn { nn.to_owned() } else { format!("nn {nn}, nt {nt}, tn {tn}") }
    }

    /// Records a product.
    pub fn record(&self, recording: &mut Recording, product: Product<'_>) {
        let launch = match (self.tiers[product.layout as usize], &self.maxima) {
            (Tier::Tiled { side }, _) => matmul_tiled::launch(side, &product),
            (Tier::Cooperative(matrices), Some(maxima)) => {
                let [m, n, k] = product.sizes;
                match matmul_cooperative::scaled(&product) {
                    Some(Operand::A) => {
                        recording.launch(matmul_maximum::launch(m * k, product.a, maxima));
                    }
                    Some(Operand::B) => {
                        recording.launch(matmul_maximum::launch(k * n, product.b, maxima));
                    }
                    None => {}
                }
                matmul_cooperative::launch(matrices, &product, maxima)
            }
            _ => matmul::launch(&product),
        };
        recording.launch(launch);
    }
}
