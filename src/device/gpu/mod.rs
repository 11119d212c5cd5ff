//! The GPU engine: encodes recordings for wgpu. The only room that names wgpu.

pub(in crate::device) mod adapters;
mod encoder;
mod pipelines;
mod staging;
mod textures;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::recording::{Command, Launch, ReadSlot};
use super::{Abilities, Buffer, DeviceKind, DeviceOptions, Recording, Slice, Storage, Ticket, foreign};
use crate::error::{Error, Result};
use adapters::AdapterSummary;
use encoder::Encoder;
use pipelines::Pipelines;
use staging::StagingRing;

/// Nothing that is submitted takes this long; if a wait does, the driver has lost the work.
const PATIENCE: Duration = Duration::from_secs(600);

/// Bulk writes go in pieces of this size, each submitted before the next, so that staging stays small.
const WRITE_PIECE: usize = 16 << 20;

/// A buffer or texture of wgpu. When it is dropped, the bind groups that hold it are too, before the next recording.
pub(in crate::device) struct GpuBuffer {
    memory: Memory,
    id: u64,
    graveyard: Arc<Mutex<Vec<u64>>>,
}

enum Memory {
    Buffer(wgpu::Buffer),
    Texture(textures::Texture),
}

impl Drop for GpuBuffer {
    fn drop(&mut self) {
        self.graveyard.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
    }
}

/// A readback that was submitted.
pub struct InFlight {
    buffer: wgpu::Buffer,
    bytes: u64,
    /// Bytes of a row, and from one row to the next: in what is read back of a texture there is room between its rows.
    rows: Option<[u64; 2]>,
    mapped: Receiver<std::result::Result<(), wgpu::BufferAsyncError>>,
    submission: wgpu::SubmissionIndex,
}

pub(super) struct GpuEngine {
    device: wgpu::Device,
    queue: wgpu::Queue,
    summary: AdapterSummary,
    state: Mutex<State>,
    faults: Arc<Faults>,
    /// Buffers that were dropped since the last recording.
    graveyard: Arc<Mutex<Vec<u64>>>,
    next_id: AtomicU64,
    max_binding_bytes: u64,
    /// Lanes of a subgroup, where kernels may count on them.
    subgroup: Option<u32>,
    integers_of_64_bits: bool,
    /// Texels to a side of textures, where kernels fetch from those.
    texture_side: Option<u32>,
    checked: bool,
}

struct State {
    pipelines: Pipelines,
    staging: StagingRing,
}

/// What the driver reported outside of any call.
#[derive(Default)]
struct Faults {
    any: AtomicBool,
    first: Mutex<Option<String>>,
}

impl Faults {
    fn report(&self, message: String) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(message);
        self.any.store(true, Ordering::Release);
    }

    fn check(&self) -> Result<()> {
        if !self.any.load(Ordering::Acquire) {
            return Ok(());
        }
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Err(Error::DeviceLost(first.unwrap_or_default().replace('\n', " ")))
    }
}

impl GpuEngine {
    pub(super) fn new(adapter: &wgpu::Adapter, options: DeviceOptions) -> Result<Self> {
        let (device, queue, features) = adapters::open(adapter, options)?;
        let limits = adapter.limits();
        let faults = Arc::new(Faults::default());
        let uncaptured = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| uncaptured.report(error.to_string())));
        let lost = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            // Dropping the device at the end of the program is no fault.
            if reason != wgpu::DeviceLostReason::Destroyed {
                lost.report(format!("the GPU was lost: {message}"));
            }
        });
        let immediates = features.contains(wgpu::Features::IMMEDIATES);
        let mut summary = adapters::summarize(0, adapter);
        if !immediates {
            summary.immediate_bytes = 0;
        }
        if !features.contains(adapters::COOPERATIVE_FEATURES) {
            summary.cooperative = None;
        }
        let [smallest, largest] = summary.subgroup_size;
        let subgroup =
            (features.contains(wgpu::Features::SUBGROUP) && smallest == largest).then_some(smallest);
        // Software Vulkan alone has a use for them.
        let texture_side = (options.textures && summary.kind == DeviceKind::SoftwareGpu)
            .then_some(limits.max_texture_dimension_2d);
        Ok(Self {
            texture_side,
            subgroup,
            checked: options.checked,
            integers_of_64_bits: features.contains(wgpu::Features::SHADER_INT64),
            state: Mutex::new(State {
                pipelines: Pipelines::new(options.checked, immediates),
                staging: StagingRing::default(),
            }),
            max_binding_bytes: limits
                .max_storage_buffer_binding_size
                .min(limits.max_buffer_size)
                .min((2 << 30) - 256),
            device,
            queue,
            summary,
            faults,
            graveyard: Arc::default(),
            next_id: AtomicU64::new(1),
        })
    }

    pub(super) fn summary(&self) -> &AdapterSummary {
        &self.summary
    }

    pub(super) fn abilities(&self) -> Abilities {
        Abilities {
            max_buffer_bytes: self.max_binding_bytes,
            fused: false,
            group_kernels: true,
            tiled_products: true,
            subgroup: self.subgroup,
            integers_of_64_bits: self.integers_of_64_bits,
            narrow_lists: true,
            texture_side: self.texture_side,
            checked: self.checked,
            cooperative: self.summary.cooperative,
        }
    }

    pub(super) fn allocate(&self, label: &str, bytes: u64) -> Result<GpuBuffer> {
        let refused = |why: String| {
            Error::Device(format!(
                "no room for `{label}` ({} MiB) on {}: {why}; try a smaller fan-in or batch",
                bytes >> 20,
                self.summary.name
            ))
        };
        if bytes > self.max_binding_bytes {
            return Err(refused(format!("its buffers end at {} MiB", self.max_binding_bytes >> 20)));
        }
        let make = || {
            Memory::Buffer(self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: bytes,
                usage: wgpu::BufferUsages::STORAGE
                    | wgpu::BufferUsages::COPY_SRC
                    | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }))
        };
        self.make(make).map_err(refused)
    }

    /// A texture of f32 [rows, columns], four columns a texel.
    pub(super) fn allocate_texture(&self, label: &str, [rows, columns]: [usize; 2]) -> Result<GpuBuffer> {
        let make = || Memory::Texture(textures::Texture::new(&self.device, label, [rows, columns]));
        self.make(make).map_err(|why| {
            Error::Device(format!("no room for the texture `{label}` on {}: {why}", self.summary.name))
        })
    }

    /// What `make` makes, unless the driver refuses.
    fn make(&self, make: impl FnOnce() -> Memory) -> std::result::Result<GpuBuffer, String> {
        let validation = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let room = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let memory = make();
        let room = pollster::block_on(room.pop());
        let validation = pollster::block_on(validation.pop());
        match room.or(validation) {
            Some(error) => Err(error.to_string().replace('\n', " ")),
            None => Ok(GpuBuffer {
                memory,
                id: self.next_id.fetch_add(1, Ordering::Relaxed),
                graveyard: self.graveyard.clone(),
            }),
        }
    }

    pub(super) fn write(&self, target: &Buffer, offset: u64, data: &[u8]) -> Result<()> {
        let target = gpu_buffer(target)?;
        for (i, piece) in data.chunks(WRITE_PIECE).enumerate() {
            self.queue.write_buffer(target, offset + (i * WRITE_PIECE) as u64, piece);
            let submission = self.queue.submit([]);
            if data.len() > WRITE_PIECE {
                self.poll(Some(submission))?;
            }
        }
        self.faults.check()
    }

    pub(super) fn run(&self, recording: Recording) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { pipelines, staging } = &mut *state;
        pipelines
            .forget(&std::mem::take(&mut *self.graveyard.lock().unwrap_or_else(PoisonError::into_inner)));
        let launches = recording.commands.iter().flat_map(launches_of).collect::<Vec<_>>();
        for launch in &launches {
            pipelines.prepare(&self.device, launch)?;
        }
        let upload_bytes = recording.commands.iter().map(upload_bytes).sum::<u64>();
        let uniforms = pipelines.uniform_words(&launches);
        let mut uploads =
            staging.begin(&self.device, upload_bytes + 4 * uniforms.len() as u64, || self.poll(None))?;
        let uniforms_at = uploads.put(bytemuck::cast_slice(&uniforms));
        let mut uploads_at = Vec::new();
        for command in &recording.commands {
            if let Command::Upload { data, .. } = command {
                uploads_at.push(uploads.put(data));
            }
        }
        // Unmapped before anything is submitted: a long recording is submitted in parts.
        uploads.seal()?;
        let mut uploads_at = uploads_at.into_iter();
        let mut encoder = Encoder::new(self, pipelines);
        if !uniforms.is_empty() {
            encoder.load_uniforms(&uploads, uniforms_at, 4 * uniforms.len() as u64);
        }
        let mut reads = Vec::new();
        for command in &recording.commands {
            match command {
                Command::Launch(launch) => encoder.launch(launch)?,
                Command::Fused { members, .. } => members.iter().try_for_each(|m| encoder.launch(m))?,
                Command::Upload { target, .. } => {
                    let from = uploads_at.next().unwrap_or_default();
                    encoder.copy(
                        uploads.buffer(),
                        from,
                        gpu_buffer(&target.buffer)?,
                        target.offset,
                        target.bytes,
                    );
                }
                Command::Clear(slice) => encoder.clear(gpu_buffer(&slice.buffer)?, slice.offset, slice.bytes),
                Command::ReadBack { source, slot } => {
                    let texture = match &handle(&source.buffer)?.memory {
                        Memory::Texture(texture) => Some(texture),
                        Memory::Buffer(_) => None,
                    };
                    let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
                        label: Some("readback"),
                        size: texture.map_or(source.bytes, textures::Texture::readback_bytes),
                        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                        mapped_at_creation: false,
                    });
                    match texture {
                        Some(texture) => {
                            check_whole(source)?;
                            texture.copy_to(encoder.commands(), &buffer);
                        }
                        None => {
                            encoder.copy(gpu_buffer(&source.buffer)?, source.offset, &buffer, 0, source.bytes)
                        }
                    }
                    reads.push((buffer, source.bytes, texture.map(textures::Texture::rows), slot.clone()));
                }
            }
        }
        let submission = encoder.finish();
        staging.end(uploads);
        for (buffer, bytes, rows, slot) in reads {
            let (sender, mapped) = channel();
            buffer.map_async(wgpu::MapMode::Read, .., move |result| {
                // The receiver is gone when the ticket was dropped: nobody waits for the bytes.
                let _ = sender.send(result);
            });
            let in_flight = InFlight { buffer, bytes, rows, mapped, submission: submission.clone() };
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = ReadSlot::InFlight(in_flight);
        }
        self.faults.check()
    }

    pub(super) fn collect(&self, ticket: Ticket) -> Result<Vec<u8>> {
        let slot = std::mem::take(&mut *ticket.0.lock().unwrap_or_else(PoisonError::into_inner));
        let ReadSlot::InFlight(read) = slot else { return Ticket(ticket.0).take_ready() };
        self.poll(Some(read.submission))?;
        self.faults.check()?;
        let unread = |why: String| Error::Device(format!("reading back from the GPU failed: {why}"));
        match read.mapped.recv_timeout(PATIENCE) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(unread(error.to_string())),
            Err(error) => return Err(unread(error.to_string())),
        }
        let view = read.buffer.slice(..).get_mapped_range().map_err(|e| unread(e.to_string()))?;
        Ok(match read.rows {
            Some([row, pitch]) => {
                view.chunks(pitch as usize).flat_map(|padded| &padded[..row as usize]).copied().collect()
            }
            None => view[..read.bytes as usize].to_vec(),
        })
    }

    pub(super) fn wait(&self) -> Result<()> {
        self.poll(None)?;
        self.faults.check()
    }

    fn poll(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let wait = wgpu::PollType::Wait { submission_index: submission, timeout: Some(PATIENCE) };
        match self.device.poll(wait) {
            Ok(_) => Ok(()),
            Err(error) => {
                self.faults.check()?;
                Err(Error::Device(format!("the GPU does not answer: {error}")))
            }
        }
    }
}

fn launches_of(command: &Command) -> &[Launch] {
    match command {
        Command::Launch(launch) => std::slice::from_ref(launch),
        Command::Fused { members, .. } => members,
        _ => &[],
    }
}

fn upload_bytes(command: &Command) -> u64 {
    match command {
        Command::Upload { data, .. } => data.len() as u64,
        _ => 0,
    }
}

fn gpu_buffer(buffer: &Buffer) -> Result<&wgpu::Buffer> {
    match &handle(buffer)?.memory {
        Memory::Buffer(inner) => Ok(inner),
        Memory::Texture(_) => {
            Err(Error::Device(format!("`{}` is a texture, which kernels alone write", buffer.label())))
        }
    }
}

/// Textures are bound and read whole.
fn check_whole(slice: &Slice) -> Result<()> {
    if slice.bytes == slice.buffer.bytes() {
        return Ok(());
    }
    Err(Error::Device(format!("the texture `{}` is used in part", slice.buffer.label())))
}

fn handle(buffer: &Buffer) -> Result<&GpuBuffer> {
    match &buffer.0.storage {
        Storage::Gpu(inner) => Ok(inner),
        _ => Err(foreign(buffer)),
    }
}

fn binding_of(slice: &Slice) -> Result<wgpu::BindingResource<'_>> {
    match &handle(&slice.buffer)?.memory {
        Memory::Texture(texture) => {
            check_whole(slice)?;
            Ok(wgpu::BindingResource::TextureView(texture.view()))
        }
        Memory::Buffer(buffer) => Ok(wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer,
            offset: slice.offset,
            size: std::num::NonZeroU64::new(slice.bytes),
        })),
    }
}
