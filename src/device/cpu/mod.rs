//! The CPU engine: runs the twins of a recording on threads.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::amx::Unit;
use super::recording::{Access, Command, Launch, ReadSlot, TwinCall, TwinSlot};
use super::{Buffer, DeviceOptions, Recording, Slice, Storage, foreign};
use crate::error::{Error, Result};

/// The memory of a buffer. The lock is never contended: it turns a kernel that is given one buffer both to read and
/// to write, which no GPU would accept, into an error here too.
pub(super) type Words = RwLock<Aligned>;

/// Zeroed words that begin at a cache line: vectors of 64 bytes that straddle two lines cost a third of the
/// sweep's speed.
///
/// The line is found inside a plain vector, whose zeros the operating system provides on first touch; an aligned
/// allocation would write them.
pub(super) struct Aligned {
    memory: Vec<u32>,
    first: usize,
    words: usize,
}

impl Aligned {
    const LINE_WORDS: usize = 16;

    fn new(words: usize) -> Self {
        let memory = vec![0_u32; words + Self::LINE_WORDS];
        let first = memory.as_ptr().align_offset(64).min(Self::LINE_WORDS);
        Self { memory, first, words }
    }
}

impl std::ops::Deref for Aligned {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.memory[self.first..self.first + self.words]
    }
}

impl std::ops::DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u32] {
        &mut self.memory[self.first..self.first + self.words]
    }
}

pub(super) struct CpuEngine {
    pool: rayon::ThreadPool,
    fused: bool,
    bf16_products: bool,
}

pub(super) fn allocate(label: &str, bytes: u64) -> Result<Words> {
    let words = usize::try_from(bytes / 4).map_err(|_| out_of_memory(label, bytes))?;
    let mut memory: Vec<u32> = Vec::new();
    memory.try_reserve_exact(words).map_err(|_| out_of_memory(label, bytes))?;
    drop(memory);
    Ok(RwLock::new(Aligned::new(words)))
}

fn out_of_memory(label: &str, bytes: u64) -> Error {
    Error::Device(format!("not enough memory for `{label}` ({} MiB)", bytes >> 20))
}

pub(super) fn write(words: &Words, offset: u64, data: &[u8]) -> Result<()> {
    let mut words = words.write().unwrap_or_else(PoisonError::into_inner);
    let offset = offset as usize;
    bytemuck::cast_slice_mut::<u32, u8>(&mut words)[offset..offset + data.len()].copy_from_slice(data);
    Ok(())
}

/// The vector instructions that the twins' inner loops use on this processor.
pub(super) fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if pulp::x86::V4::is_available() {
            return "AVX-512";
        }
        if pulp::x86::V3::is_available() {
            return "AVX2";
        }
        "SSE2"
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::env::consts::ARCH
    }
}

enum Guard<'a> {
    Read(RwLockReadGuard<'a, Aligned>),
    Write(RwLockWriteGuard<'a, Aligned>),
}

/// More threads than any machine has cores: beyond, starting them takes longer than any step.
const MAX_THREADS: usize = 1024;

impl CpuEngine {
    pub(super) fn new(options: DeviceOptions) -> Result<Self> {
        if options.threads > MAX_THREADS {
            let threads = options.threads;
            return Err(Error::Usage(format!("--threads: must be at most {MAX_THREADS}, is {threads}")));
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|i| format!("twin-{i}"))
            .build()
            .map_err(|error| Error::Device(format!("threads could not be started: {error}")))?;
        let bf16_products = options.bf16_products && Unit::of_this_cpu().is_some();
        Ok(Self { pool, fused: options.fused, bf16_products })
    }

    pub(super) fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    pub(super) fn fused(&self) -> bool {
        self.fused
    }

    /// Whether matrix units compute products in bf16.
    pub(super) fn bf16_products(&self) -> bool {
        self.bf16_products
    }

    pub(super) fn run(&self, recording: Recording) -> Result<()> {
        self.pool.install(|| recording.commands.into_iter().try_for_each(|command| self.run_command(command)))
    }

    fn run_command(&self, command: Command) -> Result<()> {
        match command {
            Command::Launch(launch) => self.run_launch(&launch),
            Command::Fused { fused, bindings, params, members } => {
                if self.fused {
                    self.call(fused.name, fused.twin, fused.bindings, &bindings, &params, &[])
                } else {
                    members.iter().try_for_each(|launch| self.run_launch(launch))
                }
            }
            Command::Upload { target, data } => write(words(&target.buffer)?, target.offset, &data),
            Command::Clear(slice) => {
                let mut words = words(&slice.buffer)?.write().unwrap_or_else(PoisonError::into_inner);
                words[word_range(&slice)].fill(0);
                Ok(())
            }
            Command::ReadBack { source, slot } => {
                let words = words(&source.buffer)?.read().unwrap_or_else(PoisonError::into_inner);
                let bytes = bytemuck::cast_slice(&words[word_range(&source)]).to_vec();
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = ReadSlot::Ready(bytes);
                Ok(())
            }
        }
    }

    fn run_launch(&self, launch: &Launch) -> Result<()> {
        let kernel = launch.kernel;
        self.call(
            kernel.name,
            kernel.twin,
            kernel.bindings,
            &launch.bindings,
            &launch.params,
            &launch.constants,
        )
    }

    fn call(
        &self,
        name: &str,
        twin: fn(&mut TwinCall<'_>),
        access: &[Access],
        bindings: &[Slice],
        params: &[u32],
        constants: &[(&'static str, u32)],
    ) -> Result<()> {
        let conflict = |slice: &Slice| {
            Error::Device(format!("kernel {name} is given `{}` to write and once more", slice.buffer.label()))
        };
        let mut guards = Vec::with_capacity(bindings.len());
        for (slice, access) in bindings.iter().zip(access) {
            let words = words(&slice.buffer)?;
            guards.push(match access {
                Access::Read | Access::ReadTexture => {
                    Guard::Read(words.try_read().map_err(|_| conflict(slice))?)
                }
                Access::Write | Access::WriteTexture => {
                    Guard::Write(words.try_write().map_err(|_| conflict(slice))?)
                }
            });
        }
        let slots = guards
            .iter_mut()
            .zip(bindings)
            .map(|(guard, slice)| match guard {
                Guard::Read(words) => TwinSlot::Read(&words[word_range(slice)]),
                Guard::Write(words) => TwinSlot::Write(&mut words[word_range(slice)]),
            })
            .collect();
        twin(&mut TwinCall { slots, params, constants, bf16_products: self.bf16_products });
        Ok(())
    }
}

fn words(buffer: &Buffer) -> Result<&Words> {
    match &buffer.0.storage {
        Storage::Cpu(words) => Ok(words),
        _ => Err(foreign(buffer)),
    }
}

fn word_range(slice: &Slice) -> std::ops::Range<usize> {
    let start = (slice.offset / 4) as usize;
    start..start + (slice.bytes / 4) as usize
}
