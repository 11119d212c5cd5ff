//! What the kernels can count on, device by device.

use super::Cooperative;

/// What a device can do, as far as forms of kernels and sizes of buffers are chosen by it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abilities {
    /// The most bytes that one buffer may have.
    pub(crate) max_buffer_bytes: u64,
    /// Fused groups run as one pass.
    pub(crate) fused: bool,
    /// There are kernels for labels that share the features of their connections.
    pub(crate) group_kernels: bool,
    /// There are several kernels for dense products.
    pub(crate) tiled_products: bool,
    /// Lanes of a subgroup, where kernels can be made of single subgroups.
    pub(crate) subgroup: Option<u32>,
    /// Kernels can fetch 64 bits at once.
    pub(crate) integers_of_64_bits: bool,
    /// There are kernels for lists of connections in 16 bits.
    pub(crate) narrow_lists: bool,
    /// Texels to a side that textures may have, where kernels fetch from those.
    pub(crate) texture_side: Option<u32>,
    /// Every access of a shader is guarded.
    pub(crate) checked: bool,
    /// The cooperative matrices that kernels can use.
    pub(crate) cooperative: Option<Cooperative>,
}

/// Blocks of label-sized tensors stay below this on the CPU too: a block is the unit of work there as well.
const CPU_BLOCK_BYTES: u64 = 128 << 20;

/// Blocks on CUDA stay below this, so that places in them fit 32 bits.
#[cfg(feature = "cuda")]
const CUDA_BLOCK_BYTES: u64 = (2 << 30) - 256;

impl Abilities {
    /// Those of the CPU engine: its twins stand for every form of a kernel.
    pub(super) fn of_cpu(fused: bool) -> Self {
        Self {
            max_buffer_bytes: CPU_BLOCK_BYTES,
            fused,
            group_kernels: true,
            tiled_products: true,
            subgroup: Some(8),
            integers_of_64_bits: true,
            narrow_lists: true,
            texture_side: Some(16 << 10),
            checked: false,
            cooperative: None,
        }
    }

    /// Those of the CUDA engine, which has one form of each kernel; `fan_in_step` is also that for groups of labels.
    #[cfg(feature = "cuda")]
    pub(super) fn of_cuda() -> Self {
        Self {
            max_buffer_bytes: CUDA_BLOCK_BYTES,
            fused: false,
            group_kernels: false,
            tiled_products: false,
            subgroup: None,
            integers_of_64_bits: false,
            narrow_lists: false,
            texture_side: None,
            checked: false,
            cooperative: None,
        }
    }
}
