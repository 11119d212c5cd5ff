//! A step as data: launches of kernels with their arguments, uploads, clears and readbacks.

use std::sync::{Arc, Mutex};

use super::Slice;
use super::traffic::Cache;
use crate::error::{Error, Result};

/// How a kernel uses one of its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    Write,
    /// `texture_storage_2d<rgba32float, read>`, made by [`super::Device::allocate_texture`].
    ReadTexture,
    /// `texture_storage_2d<rgba32float, write>`, made likewise.
    WriteTexture,
}

/// Values for the `const NAME: u32 = …;` lines of a shader; they select a variant.
pub type Constants = Vec<(&'static str, u32)>;

/// A shader, how it is bound, and its CPU twin.
pub struct Kernel {
    /// Name of the shader file without extension, and of its twin's file.
    pub name: &'static str,
    /// WGSL text as in `shaders/`, before expansion.
    pub source: &'static str,
    /// Bindings 0, 1, … of group 0.
    pub bindings: &'static [Access],
    /// The same computation in plain Rust.
    pub twin: fn(&mut TwinCall<'_>),
    /// Every variant that is ever launched, for validation and dumps.
    pub variants: fn() -> Vec<Constants>,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// One kernel with its arguments.
#[derive(Debug)]
pub struct Launch {
    /// What runs.
    pub kernel: &'static Kernel,
    /// Which variant.
    pub constants: Constants,
    /// The buffers, in the order of [`Kernel::bindings`].
    pub bindings: Vec<Slice>,
    /// The fields of the shader's `Params`, as 32-bit words; at most 32 of them (128 bytes).
    pub params: Vec<u32>,
    /// Number of workgroups, however many; the engine folds them into two dimensions.
    pub workgroups: u32,
    /// Multiply-adds, roughly: where a submission may be cut is decided by it.
    pub work: u64,
}

/// The one-pass CPU form of consecutive launches.
pub struct Fused {
    /// For messages.
    pub name: &'static str,
    /// How the twin uses its bindings.
    pub bindings: &'static [Access],
    /// What runs in place of the members.
    pub twin: fn(&mut TwinCall<'_>),
}

/// One thing to do.
pub enum Command {
    /// Run a kernel.
    Launch(Launch),
    /// Run the members, or, on an engine that runs fused groups, their one-pass form.
    Fused {
        /// The one-pass form.
        fused: &'static Fused,
        /// Its buffers.
        bindings: Vec<Slice>,
        /// Its parameters, as 32-bit words.
        params: Vec<u32>,
        /// What it stands for.
        members: Vec<Launch>,
    },
    /// Copy bytes from the host.
    Upload {
        /// Where to.
        target: Slice,
        /// Exactly `target.bytes()` bytes.
        data: Vec<u8>,
    },
    /// Fill with zeros.
    Clear(Slice),
    /// Copy bytes to the host.
    ReadBack {
        /// Where from.
        source: Slice,
        /// Where the bytes will be found.
        slot: Arc<Mutex<ReadSlot>>,
    },
}

/// What a readback has come to.
#[derive(Default)]
pub enum ReadSlot {
    /// Not submitted yet.
    #[default]
    Waiting,
    /// On its way from a GPU.
    InFlight(super::gpu::InFlight),
    /// On its way from a GPU through CUDA.
    #[cfg(feature = "cuda")]
    Cuda(crate::cuda::InFlight),
    /// Here.
    Ready(Vec<u8>),
}

/// The claim on a readback; hand it to [`super::Device::collect`].
pub struct Ticket(pub(crate) Arc<Mutex<ReadSlot>>);

impl Ticket {
    pub(crate) fn take_ready(self) -> Result<Vec<u8>> {
        let slot = std::mem::take(&mut *self.0.lock().unwrap_or_else(|poison| poison.into_inner()));
        match slot {
            ReadSlot::Ready(bytes) => Ok(bytes),
            _ => Err(Error::Device("a readback was collected before its recording ran".into())),
        }
    }
}

/// A list of commands, run in order.
#[derive(Default)]
pub struct Recording {
    pub(crate) commands: Vec<Command>,
}

impl Recording {
    /// An empty recording.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a launch.
    pub fn launch(&mut self, launch: Launch) {
        check(launch.kernel.name, launch.kernel.bindings, &launch.bindings);
        if launch.workgroups > 0 {
            self.commands.push(Command::Launch(launch));
        }
    }

    /// Appends a group of launches that has a one-pass form on the CPU.
    pub fn fused(
        &mut self,
        fused: &'static Fused,
        bindings: Vec<Slice>,
        params: Vec<u32>,
        mut members: Vec<Launch>,
    ) {
        members.retain(|member| member.workgroups > 0);
        check(fused.name, fused.bindings, &bindings);
        for member in &members {
            check(member.kernel.name, member.kernel.bindings, &member.bindings);
        }
        self.commands.push(Command::Fused { fused, bindings, params, members });
    }

    /// Appends a copy from the host; `data` is padded with zeros to whole words.
    pub fn upload(&mut self, buffer: &super::Buffer, offset: u64, mut data: Vec<u8>) {
        data.resize(data.len().next_multiple_of(4), 0);
        if !data.is_empty() {
            self.commands.push(Command::Upload { target: buffer.range(offset, data.len() as u64), data });
        }
    }

    /// Appends a clearing.
    pub fn clear(&mut self, slice: impl Into<Slice>) {
        self.commands.push(Command::Clear(slice.into()));
    }

    /// Bytes that the kernels move at least when nothing stays in a cache from launch to launch: each slice once a
    /// launch where it is read, twice where it is written, since what is written is read before or held in its place.
    /// `fused`: as an engine runs it that runs fused groups.
    #[must_use]
    pub fn bytes_moved(&self, fused: bool) -> u64 {
        self.accesses(fused)
            .map(|(access, slice)| match access {
                Access::Read | Access::ReadTexture | Access::WriteTexture => slice.bytes,
                Access::Write => 2 * slice.bytes,
            })
            .sum()
    }

    /// [`Recording::bytes_moved`] through a cache of so many bytes that drops what was not used for longest; it is empty at
    /// first, and what it holds in the end is stored.
    #[must_use]
    pub fn bytes_moved_past(&self, cache: u64, fused: bool) -> u64 {
        let mut cache = Cache::new(cache);
        self.accesses(fused).for_each(|(access, slice)| cache.access(*access, slice));
        cache.moved_in_all()
    }

    /// All slices of all launches and how they are accessed, in order.
    fn accesses<'a>(&'a self, fused: bool) -> impl Iterator<Item = (&'a Access, &'a Slice)> {
        let of_launch = |launch: &'a Launch| launch.kernel.bindings.iter().zip(&launch.bindings);
        self.commands.iter().flat_map(move |command| -> Vec<_> {
            match command {
                Command::Launch(launch) => of_launch(launch).collect(),
                Command::Fused { fused: form, bindings, .. } if fused => {
                    form.bindings.iter().zip(bindings).collect()
                }
                Command::Fused { members, .. } => members.iter().flat_map(of_launch).collect(),
                Command::Upload { .. } | Command::Clear(_) | Command::ReadBack { .. } => Vec::new(),
            }
        })
    }

    /// Answers every readback as if all buffers held zeros.
    pub(super) fn answer_with_zeros(self) {
        for command in self.commands {
            if let Command::ReadBack { source, slot } = command {
                let zeros = ReadSlot::Ready(vec![0; source.bytes as usize]);
                *slot.lock().unwrap_or_else(|poison| poison.into_inner()) = zeros;
            }
        }
    }

    /// Appends a readback.
    pub fn read_back(&mut self, source: &Slice) -> Ticket {
        let slot = Arc::new(Mutex::new(ReadSlot::Waiting));
        self.commands.push(Command::ReadBack { source: source.clone(), slot: slot.clone() });
        Ticket(slot)
    }
}

fn check(name: &str, access: &[Access], bindings: &[Slice]) {
    assert_eq!(access.len(), bindings.len(), "kernel {name} takes {} bindings", access.len());
}

/// A `Params` struct as 32-bit words.
#[must_use]
pub fn words_of<T: bytemuck::Pod>(params: &T) -> Vec<u32> {
    bytemuck::pod_collect_to_vec(bytemuck::bytes_of(params))
}

/// What a twin is called with: its bindings as slices, its parameters, its variant.
pub struct TwinCall<'a> {
    pub(super) slots: Vec<TwinSlot<'a>>,
    pub(super) params: &'a [u32],
    pub(super) constants: &'a [(&'static str, u32)],
    pub(super) bf16_products: bool,
}

pub(super) enum TwinSlot<'a> {
    Read(&'a [u32]),
    Write(&'a mut [u32]),
    Taken,
}

impl<'a> TwinCall<'a> {
    /// The parameters as the kernel's own struct.
    ///
    /// # Panics
    /// When the launch was recorded with another struct.
    #[must_use]
    pub fn params<T: bytemuck::Pod>(&self) -> T {
        bytemuck::pod_read_unaligned(bytemuck::cast_slice(self.params))
    }

    /// The value of a variant's constant.
    ///
    /// # Panics
    /// When the launch did not give it.
    #[must_use]
    pub fn constant(&self, name: &str) -> u32 {
        let found = self.constants.iter().find(|(key, _)| *key == name);
        found.unwrap_or_else(|| panic!("the launch gives no constant {name}")).1
    }

    /// Whether products of matrices are to be computed in bf16, on the matrix unit that this processor then has.
    #[must_use]
    pub fn bf16_products(&self) -> bool {
        self.bf16_products
    }

    /// Read binding `i` as values of type `T`.
    ///
    /// # Panics
    /// When the kernel declares the binding as written.
    #[must_use]
    pub fn read<T: bytemuck::Pod>(&self, i: usize) -> &'a [T] {
        match &self.slots[i] {
            TwinSlot::Read(words) => bytemuck::cast_slice(words),
            _ => panic!("binding {i} is not declared as read"),
        }
    }

    /// Written binding `i` as values of type `T`; can be taken once.
    ///
    /// # Panics
    /// When the kernel declares the binding as read, or it was taken before.
    #[must_use]
    pub fn write<T: bytemuck::Pod>(&mut self, i: usize) -> &'a mut [T] {
        match std::mem::replace(&mut self.slots[i], TwinSlot::Taken) {
            TwinSlot::Write(words) => bytemuck::cast_slice_mut(words),
            _ => panic!("binding {i} is not declared as written, or was taken twice"),
        }
    }
}
