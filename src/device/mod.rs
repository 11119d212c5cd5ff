//! Floor 0: buffers, recordings and the engines that run them.
//!
//! A step is recorded once, as data ([`Recording`]): kernels with their typed arguments. The GPU engine encodes it
//! for wgpu, the CPU engine runs each kernel's twin on threads; with the feature `cuda` there is a third, `crate::cuda`.
//! This room knows no mathematics.

mod abilities;
pub(crate) mod amx;
mod buffer;
mod cpu;
pub mod dense;
mod gpu;
mod ledger;
mod mapped;
mod options;
mod recording;
pub mod shader;
mod traffic;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "cuda")]
pub use crate::cuda::{CudaSummary, list_cuda_devices};
use crate::error::{Error, Result};
pub(crate) use abilities::Abilities;
pub use buffer::{Buffer, SLICE_ALIGNMENT, Slice};
use buffer::{BufferInner, Storage};
pub use gpu::adapters::{AdapterSummary, Cooperative, list_adapters};
pub(crate) use ledger::Ledger;
pub use ledger::{BufferUse, MemoryUse};
pub use mapped::map_file;
pub use options::{DeviceKind, DeviceOptions};
#[cfg(feature = "cuda")]
pub(crate) use recording::ReadSlot;
pub use recording::{
    Access, Command, Constants, Fused, Kernel, Launch, Recording, Ticket, TwinCall, words_of,
};

/// A place where recordings run: the CPU engine or one wgpu adapter.
pub struct Device {
    engine: Engine,
    abilities: Abilities,
    name: String,
    kind: DeviceKind,
    ledger: Arc<Ledger>,
    queued: AtomicU64,
}

enum Engine {
    Cpu(cpu::CpuEngine),
    Gpu(Box<gpu::GpuEngine>),
    #[cfg(feature = "cuda")]
    Cuda(Box<crate::cuda::CudaEngine>),
    /// Counts buffers and runs nothing.
    Plan,
}

impl Device {
    /// Opens the device that `wanted` names: `cpu`, `cuda:NUMBER`, an adapter's number in `regrow devices`, or a part of
    /// its name. Without a name: a discrete GPU, an integrated one, another one, else the CPU; never software Vulkan.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when nothing matches (the message lists what there is) or the driver refuses.
    pub fn open(wanted: Option<&str>, options: DeviceOptions) -> Result<Self> {
        match wanted {
            Some(name) if name.eq_ignore_ascii_case("cpu") => Self::cpu(options),
            Some(name) if is_cuda(name) => Self::cuda(name, options),
            Some(name) if !name.eq_ignore_ascii_case("auto") => Self::gpu(Some(name), options),
            _ => match gpu::adapters::best_hardware() {
                Some(adapter) => {
                    let engine = gpu::GpuEngine::new(&adapter, options)?;
                    Ok(Self::from_gpu(engine))
                }
                None => Self::cpu(options),
            },
        }
    }

    /// Opens the CPU engine.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when its threads cannot be started.
    pub fn cpu(options: DeviceOptions) -> Result<Self> {
        let engine = cpu::CpuEngine::new(options)?;
        let products = if engine.bf16_products() { ", bf16 products on AMX" } else { "" };
        let name = format!("CPU ({} threads, {}{products})", engine.threads(), cpu::instruction_set());
        let abilities = Abilities::of_cpu(engine.fused());
        Ok(Self::of(Engine::Cpu(engine), abilities, name, DeviceKind::Cpu))
    }

    /// Opens a wgpu adapter by number or part of its name; `None` takes the first of any kind, software included.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when nothing matches or the driver refuses.
    pub fn gpu(wanted: Option<&str>, options: DeviceOptions) -> Result<Self> {
        let adapter = gpu::adapters::find(wanted)?;
        Ok(Self::from_gpu(gpu::GpuEngine::new(&adapter, options)?))
    }

    /// Opens an NVIDIA GPU through CUDA, `cuda` or `cuda:NUMBER`. It runs the classifier; the encoder's kernels have no
    /// CUDA form.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when this build has no CUDA, there is no driver, it is too old, or there is no such GPU.
    #[cfg(feature = "cuda")]
    pub fn cuda(wanted: &str, options: DeviceOptions) -> Result<Self> {
        let engine = crate::cuda::CudaEngine::new(wanted, options)?;
        let name = engine.name().to_owned();
        Ok(Self::of(Engine::Cuda(Box::new(engine)), Abilities::of_cuda(), name, DeviceKind::DiscreteGpu))
    }

    /// Without the feature `cuda` there is no such device.
    ///
    /// # Errors
    /// [`crate::Error::Device`], always.
    #[cfg(not(feature = "cuda"))]
    pub fn cuda(_wanted: &str, _options: DeviceOptions) -> Result<Self> {
        Err(Error::Device("this build has no CUDA: build with --features cuda".into()))
    }

    fn from_gpu(engine: gpu::GpuEngine) -> Self {
        let summary = engine.summary();
        let (name, kind) =
            (format!("{} ({}, {})", summary.name, summary.backend, summary.driver), summary.kind);
        let abilities = engine.abilities();
        Self::of(Engine::Gpu(Box::new(engine)), abilities, name, kind)
    }

    fn of(engine: Engine, abilities: Abilities, name: String, kind: DeviceKind) -> Self {
        Self { engine, abilities, name, kind, ledger: Arc::default(), queued: AtomicU64::new(0) }
    }

    /// A device with the same limits that takes no memory and runs nothing: what is allocated on it is a plan of what
    /// the other will take. Reads give zeros.
    #[must_use]
    pub fn planning(&self) -> Self {
        Self::of(Engine::Plan, self.abilities, self.name.clone(), self.kind)
    }

    /// Whether this device only counts, so that values need not be computed for it.
    #[must_use]
    pub fn only_plans(&self) -> bool {
        matches!(self.engine, Engine::Plan)
    }

    /// What the buffers of this device take.
    #[must_use]
    pub fn memory(&self) -> MemoryUse {
        self.ledger.report()
    }

    /// Recordings and writes that the device was given so far. Read between two calls, it tells in which order several
    /// devices were given theirs.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    /// A line that names the device and its driver.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What kind of device this is.
    #[must_use]
    pub fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// Whether fused groups run as one pass, so that what only their members need can be left out.
    #[must_use]
    pub fn runs_fused(&self) -> bool {
        self.abilities.fused
    }

    /// Whether labels that share the features of their connections have kernels of their own: on CUDA `fan_in_step` has a
    /// form for them.
    #[must_use]
    pub fn has_group_kernels(&self) -> bool {
        self.abilities.group_kernels
    }

    /// Lanes of a subgroup, where kernels can be made of single subgroups: on software Vulkan, and for the CPU's twins,
    /// which do not care, eight.
    #[must_use]
    pub fn subgroup(&self) -> Option<u32> {
        self.abilities.subgroup
    }

    /// Whether kernels can fetch 64 bits at once: on software Vulkan, and the CPU's twins, which do not care.
    #[must_use]
    pub fn has_64_bits(&self) -> bool {
        self.abilities.integers_of_64_bits
    }

    /// Whether there are kernels for lists of connections in 16 bits: everywhere but on CUDA, where warps share a list and want it long.
    #[must_use]
    pub fn has_narrow_lists(&self) -> bool {
        self.abilities.narrow_lists
    }

    /// Texels to a side that textures may have ([`Device::allocate_texture`]), where kernels fetch from those: on software
    /// Vulkan, whose driver gathers from them without going from lane to lane, and the CPU's twins, which do not care.
    #[must_use]
    pub fn texture_side(&self) -> Option<u32> {
        self.abilities.texture_side
    }

    /// Whether every access of a shader is guarded: [`DeviceOptions::checked`].
    #[must_use]
    pub fn is_checked(&self) -> bool {
        self.abilities.checked
    }

    /// Whether there are several kernels for dense products: CUDA has one.
    pub(crate) fn has_tiled_products(&self) -> bool {
        self.abilities.tiled_products
    }

    /// The cooperative matrices that kernels can use here, if any.
    #[must_use]
    pub fn cooperative(&self) -> Option<Cooperative> {
        self.abilities.cooperative
    }

    /// The most bytes that one buffer may have here: the binding limit of the adapter.
    #[must_use]
    pub fn max_buffer_bytes(&self) -> u64 {
        self.abilities.max_buffer_bytes
    }

    /// Makes a zeroed buffer of at least `bytes` bytes (rounded up to 16).
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device has not that much memory; the message names the buffer.
    pub fn allocate(&self, label: &str, bytes: u64) -> Result<Buffer> {
        let bytes = bytes.max(1).next_multiple_of(16);
        let storage = match &self.engine {
            Engine::Cpu(_) => Storage::Cpu(cpu::allocate(label, bytes)?),
            Engine::Gpu(engine) => Storage::Gpu(engine.allocate(label, bytes)?),
            #[cfg(feature = "cuda")]
            Engine::Cuda(engine) => Storage::Cuda(engine.allocate(label, bytes)?),
            Engine::Plan => Storage::Planned,
        };
        Ok(self.enter(label, bytes, storage))
    }

    /// Makes a texture of f32 [rows, columns], all zero, four columns a texel. Kernels alone write it; it is bound whole and read
    /// back whole. On the CPU it is a buffer.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device has not that much memory, or no such textures ([`Device::texture_side`]).
    ///
    /// # Panics
    /// When `columns` is no multiple of 4.
    pub fn allocate_texture(&self, label: &str, [rows, columns]: [usize; 2]) -> Result<Buffer> {
        assert!(columns.is_multiple_of(4), "a texel has four columns");
        let bytes = (rows * columns * 4) as u64;
        let side = self.texture_side().unwrap_or(0) as usize;
        if rows.max(columns / 4) > side {
            return Err(Error::Device(format!(
                "no texture `{label}` of {rows} times {} texels on {}: it takes {side} to a side",
                columns / 4,
                self.name
            )));
        }
        let storage = match &self.engine {
            Engine::Cpu(_) => Storage::Cpu(cpu::allocate(label, bytes)?),
            Engine::Gpu(engine) => Storage::Gpu(engine.allocate_texture(label, [rows, columns])?),
            #[cfg(feature = "cuda")]
            Engine::Cuda(_) => unreachable!("its textures have no side"),
            Engine::Plan => Storage::Planned,
        };
        Ok(self.enter(label, bytes, storage))
    }

    /// The buffer, counted.
    fn enter(&self, label: &str, bytes: u64, storage: Storage) -> Buffer {
        self.ledger.add(label, bytes);
        let ledger = self.ledger.clone();
        Buffer(Arc::new(BufferInner { bytes, label: label.to_owned(), storage, ledger }))
    }

    /// A buffer that holds `data`, padded with zeros.
    ///
    /// # Errors
    /// As [`Device::allocate`].
    pub fn upload<T: bytemuck::Pod>(&self, label: &str, data: &[T]) -> Result<Buffer> {
        let buffer = self.allocate(label, size_of_val(data) as u64)?;
        let bytes: &[u8] = bytemuck::cast_slice(data);
        if bytes.len().is_multiple_of(4) {
            self.write(&buffer, 0, bytes)?;
        } else {
            let mut padded = bytes.to_vec();
            padded.resize(bytes.len().next_multiple_of(4), 0);
            self.write(&buffer, 0, &padded)?;
        }
        Ok(buffer)
    }

    /// Overwrites `data.len()` bytes (a multiple of 4) from byte `offset` on, before whatever is submitted next.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device is lost.
    pub fn write(&self, buffer: &Buffer, offset: u64, data: &[u8]) -> Result<()> {
        buffer.check_range(offset, data.len() as u64);
        self.queued.fetch_add(1, Ordering::Relaxed);
        match (&self.engine, &buffer.0.storage) {
            (Engine::Cpu(_), Storage::Cpu(words)) => cpu::write(words, offset, data),
            (Engine::Gpu(engine), Storage::Gpu(_)) => engine.write(buffer, offset, data),
            #[cfg(feature = "cuda")]
            (Engine::Cuda(engine), Storage::Cuda(target)) => engine.write(target, offset, data),
            (Engine::Plan, Storage::Planned) => Ok(()),
            _ => Err(foreign(buffer)),
        }
    }

    /// Runs a recording. On a GPU this returns as soon as the work is queued.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when a shader does not compile, memory runs out, or the device is lost.
    pub fn submit(&self, recording: Recording) -> Result<()> {
        self.queued.fetch_add(1, Ordering::Relaxed);
        match &self.engine {
            Engine::Cpu(engine) => engine.run(recording),
            Engine::Gpu(engine) => engine.run(recording),
            #[cfg(feature = "cuda")]
            Engine::Cuda(engine) => engine.run(recording),
            Engine::Plan => {
                recording.answer_with_zeros();
                Ok(())
            }
        }
    }

    /// Waits for all that was submitted and reads `bytes` bytes from byte `offset` on.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device is lost.
    pub fn read(&self, buffer: &Buffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        let mut recording = Recording::new();
        let ticket = recording.read_back(&buffer.range(offset, bytes));
        self.submit(recording)?;
        self.collect(ticket)
    }

    /// [`Device::read`] as `count` values of type `T` from the buffer's beginning.
    ///
    /// # Errors
    /// As [`Device::read`].
    pub fn read_vec<T: bytemuck::Pod>(&self, buffer: &Buffer, count: usize) -> Result<Vec<T>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let wanted = size_of::<T>() * count;
        let bytes = self.read(buffer, 0, (wanted as u64).next_multiple_of(4))?;
        Ok(bytemuck::pod_collect_to_vec(&bytes[..wanted]))
    }

    /// Waits for the readback behind `ticket`.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device is lost.
    pub fn collect(&self, ticket: Ticket) -> Result<Vec<u8>> {
        match &self.engine {
            Engine::Cpu(_) | Engine::Plan => ticket.take_ready(),
            Engine::Gpu(engine) => engine.collect(ticket),
            #[cfg(feature = "cuda")]
            Engine::Cuda(engine) => engine.collect(ticket),
        }
    }

    /// Waits until everything submitted has run.
    ///
    /// # Errors
    /// [`crate::Error::Device`] when the device is lost.
    pub fn wait(&self) -> Result<()> {
        match &self.engine {
            Engine::Cpu(_) | Engine::Plan => Ok(()),
            Engine::Gpu(engine) => engine.wait(),
            #[cfg(feature = "cuda")]
            Engine::Cuda(engine) => engine.wait(),
        }
    }
}

/// Keeps graphics drivers from writing to the terminal. To be called first thing in `main`, before any thread.
///
/// Mesa asks the desktop for its display even where nothing is drawn, and complains on standard error when there is
/// no desktop.
pub fn quiet_drivers() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        #[expect(unsafe_code, reason = "changing the environment is sound while there is one thread")]
        // SAFETY: the program calls this before it starts any thread.
        unsafe {
            std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir());
        }
    }
}

/// Whether this names a CUDA device: `cuda`, or `cuda:` and a number.
fn is_cuda(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "cuda" || name.starts_with("cuda:")
}

pub(crate) fn foreign(buffer: &Buffer) -> Error {
    Error::Device(format!("buffer `{}` belongs to another device", buffer.label()))
}
