//! How a device is opened, and what kinds there are.

/// How a device is opened.
#[derive(Clone, Copy, Debug)]
pub struct DeviceOptions {
    /// GPU: let naga guard every access and loop. Slower; wrong accesses then show as wrong numbers, not as crashes.
    pub checked: bool,
    /// GPU: pass launch parameters as immediates where the adapter has them; otherwise in a uniform buffer.
    pub immediates: bool,
    /// Software Vulkan: let kernels be made of subgroups where the adapter has them, all of one size.
    pub subgroups: bool,
    /// Software Vulkan: let kernels fetch 64 bits at once where the adapter has integers of 64 bits.
    pub integers_of_64_bits: bool,
    /// Software Vulkan: let kernels fetch from textures.
    pub textures: bool,
    /// GPU: ask for cooperative matrices where the adapter lists them. Drivers are young; without, none is touched.
    pub cooperative: bool,
    /// CPU: run the one-pass twin of fused groups. Without, each member's own twin runs. CUDA: let matrix
    /// units take the groups of labels that they can.
    pub fused: bool,
    /// CPU: let matrix units, where the processor has them (AMX, on Linux), compute products of matrices whose numbers are
    /// rounded to bf16 first, and add them up in f32.
    pub bf16_products: bool,
    /// CPU: number of threads; 0 takes what the machine offers. Results do not depend on it.
    pub threads: usize,
}

impl DeviceOptions {
    /// The default.
    pub const DEFAULT: Self = Self {
        checked: false,
        immediates: true,
        subgroups: true,
        integers_of_64_bits: true,
        textures: true,
        cooperative: true,
        fused: true,
        bf16_products: false,
        threads: 0,
    };
}

impl Default for DeviceOptions {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What kind of device runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A GPU with its own memory.
    DiscreteGpu,
    /// A GPU that shares the processor's memory.
    IntegratedGpu,
    /// A GPU passed through to a virtual machine, or one whose kind the driver does not tell.
    OtherGpu,
    /// The CPU engine.
    Cpu,
    /// A GPU driver that computes on the processor, such as lavapipe.
    SoftwareGpu,
}

impl DeviceKind {
    /// Whether buffers lie in the memory of the processor.
    #[must_use]
    pub fn shares_memory(self) -> bool {
        matches!(self, Self::Cpu | Self::SoftwareGpu | Self::IntegratedGpu)
    }
}
