//! The CUDA engine: runs recordings on one stream, in order.

use std::sync::{Arc, Mutex, PoisonError};

use super::compiled::Compiled;
use super::driver::{Context, Memory, Pinned, fault, version_text};
use super::kernels::form_of;
use super::staging::{PIECE_BYTES, Staging};
use crate::device::{Buffer, Command, DeviceOptions, Launch, ReadSlot, Recording, Slice, Ticket, foreign};
use crate::error::{Error, Result};

/// A buffer of the device.
pub(crate) struct CudaMemory(Memory);

/// A readback that was submitted.
pub struct InFlight {
    pinned: Pinned,
    bytes: usize,
}

pub(crate) struct CudaEngine {
    name: String,
    context: Arc<Context>,
    compiled: Compiled,
    staging: Mutex<Staging>,
    /// Whether matrix units take the groups that they can.
    matrix_units: bool,
}

impl CudaEngine {
    /// Opens `cuda` or `cuda:NUMBER`.
    pub(crate) fn new(wanted: &str, options: DeviceOptions) -> Result<Self> {
        let (card, driver) = super::find(wanted)?;
        let context = Context::open(&card)?;
        let compiled = Compiled::new(&context, card.capability, driver)?;
        let [major, minor] = card.capability;
        let name = format!(
            "{} (CUDA {}, compute capability {major}.{minor}, {})",
            card.name,
            version_text(driver),
            compiled.by
        );
        Ok(Self { name, context, compiled, staging: Mutex::default(), matrix_units: options.fused })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn staging(&self) -> std::sync::MutexGuard<'_, Staging> {
        self.staging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn allocate(&self, label: &str, bytes: u64) -> Result<CudaMemory> {
        self.context.allocate(bytes).map(CudaMemory).map_err(|error| {
            use cudarc::driver::sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY;
            if error.0 != CUDA_ERROR_OUT_OF_MEMORY {
                return fault(&format!("allocating `{label}`"), error);
            }
            let room = self.context.memory().map_or_else(
                |_| String::new(),
                |[free, total]| format!(", of whose {} MiB {} are free", total >> 20, free >> 20),
            );
            Error::Device(format!(
                "no room for `{label}` ({} MiB) on {}{room}; try a smaller fan-in or batch, or narrower weights",
                bytes >> 20,
                self.name
            ))
        })
    }

    pub(crate) fn write(&self, target: &CudaMemory, offset: u64, data: &[u8]) -> Result<()> {
        let mut staging = self.staging();
        for (i, piece) in data.chunks(PIECE_BYTES).enumerate() {
            let mut pinned = staging.take(&self.context, piece.len())?;
            let copy = || {
                pinned.bytes()?[..piece.len()].copy_from_slice(piece);
                pinned.copy_in(0, &target.0, offset + (i * PIECE_BYTES) as u64, piece.len())
            };
            run(copy, "writing to the device")?;
            staging.give(pinned);
        }
        Ok(())
    }

    pub(crate) fn run(&self, recording: Recording) -> Result<()> {
        // Before anything is queued: a recording runs as a whole or not at all.
        for launch in recording.commands.iter().flat_map(launches_of) {
            form_of(launch, self.matrix_units)?;
        }
        let mut staging = self.staging();
        let mut uploads = Uploads::of(&recording, &mut staging, &self.context)?;
        for command in &recording.commands {
            match command {
                Command::Launch(_) | Command::Fused { .. } => {
                    launches_of(command).iter().try_for_each(|launch| self.launch(launch))?;
                }
                Command::Upload { target, data } => {
                    let memory = memory_of(&target.buffer)?;
                    uploads.copy(data.len(), memory, target.offset)?;
                }
                Command::Clear(slice) => {
                    let memory = memory_of(&slice.buffer)?;
                    run(|| self.context.clear(memory, slice.offset, slice.bytes), "clearing")?;
                }
                Command::ReadBack { source, slot } => {
                    let (memory, bytes) = (memory_of(&source.buffer)?, source.bytes as usize);
                    let mut pinned = staging.take(&self.context, bytes)?;
                    run(|| pinned.copy_out(memory, source.offset, bytes), "reading back")?;
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) =
                        ReadSlot::Cuda(InFlight { pinned, bytes });
                }
            }
        }
        if let Some(pinned) = uploads.pinned {
            staging.give(pinned);
        }
        Ok(())
    }

    pub(crate) fn collect(&self, ticket: Ticket) -> Result<Vec<u8>> {
        let slot = std::mem::take(&mut *ticket.0.lock().unwrap_or_else(PoisonError::into_inner));
        let ReadSlot::Cuda(mut read) = slot else { return Ticket(ticket.0).take_ready() };
        let bytes = run(|| read.pinned.bytes().map(|all| all[..read.bytes].to_vec()), "reading back")?;
        self.staging().give(read.pinned);
        Ok(bytes)
    }

    pub(crate) fn wait(&self) -> Result<()> {
        run(|| self.context.wait(), "computing")
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        let form = form_of(launch, self.matrix_units)?;
        let function = self.compiled.function(form.name)?;
        let (shape, constants) = (form.shape(launch), form.constants_of(launch));
        let addresses = launch.bindings.iter().map(address).collect::<Result<Vec<u64>>>()?;
        let queued = self.context.launch(function, shape, &launch.params, &constants, &addresses);
        queued.map_err(|error| fault(&format!("running {}", form.name), error))
    }
}

/// The data of all uploads of a recording, one after the other in pinned memory, where there are any.
struct Uploads {
    pinned: Option<Pinned>,
    used: usize,
}

impl Uploads {
    fn of(recording: &Recording, staging: &mut Staging, context: &Arc<Context>) -> Result<Self> {
        let upload = |command: &'_ Command| match command {
            Command::Upload { data, .. } => data.len(),
            _ => 0,
        };
        let bytes = recording.commands.iter().map(upload).sum::<usize>();
        if bytes == 0 {
            return Ok(Self { pinned: None, used: 0 });
        }
        let mut pinned = staging.take(context, bytes)?;
        let mut rest = run(|| pinned.bytes(), "uploading")?;
        for command in &recording.commands {
            if let Command::Upload { data, .. } = command {
                let (place, behind) = rest.split_at_mut(data.len());
                place.copy_from_slice(data);
                rest = behind;
            }
        }
        Ok(Self { pinned: Some(pinned), used: 0 })
    }

    /// Begins to copy the next upload.
    fn copy(&mut self, bytes: usize, memory: &Memory, offset: u64) -> Result<()> {
        if let Some(pinned) = &mut self.pinned {
            run(|| pinned.copy_in(self.used, memory, offset, bytes), "uploading")?;
            self.used += bytes;
        }
        Ok(())
    }
}

fn run<T>(
    action: impl FnOnce() -> std::result::Result<T, cudarc::driver::DriverError>,
    what: &str,
) -> Result<T> {
    action().map_err(|error| fault(what, error))
}

fn launches_of(command: &Command) -> &[Launch] {
    match command {
        Command::Launch(launch) => std::slice::from_ref(launch),
        Command::Fused { members, .. } => members,
        _ => &[],
    }
}

fn memory_of(buffer: &Buffer) -> Result<&Memory> {
    buffer.cuda().map(|memory| &memory.0).ok_or_else(|| foreign(buffer))
}

fn address(slice: &Slice) -> Result<u64> {
    Ok(memory_of(&slice.buffer)?.range(slice.offset, slice.bytes))
}
