//! Host memory through which a recording's inputs reach the GPU: a ring of mapped buffers, reused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Error, Result};

/// As many recordings can be on their way at once before the host waits for the GPU.
const RING: usize = 3;

const IN_FLIGHT: u8 = 0;
const MAPPED: u8 = 1;

struct Place {
    buffer: wgpu::Buffer,
    state: Arc<AtomicU8>,
}

/// Staging buffers of finished and running recordings.
#[derive(Default)]
pub(super) struct StagingRing {
    places: std::collections::VecDeque<Place>,
}

/// The staging buffer of one recording.
pub(super) struct Upload {
    place: Option<Place>,
    bytes: Vec<u8>,
}

impl StagingRing {
    /// A place for `bytes` bytes; calls `wait` when all places are still in use by the GPU.
    pub(super) fn begin(
        &mut self,
        device: &wgpu::Device,
        bytes: u64,
        wait: impl Fn() -> Result<()>,
    ) -> Result<Upload> {
        if bytes == 0 {
            return Ok(Upload { place: None, bytes: Vec::new() });
        }
        if self.places.len() >= RING {
            if self.places[0].state.load(Ordering::Acquire) == IN_FLIGHT {
                wait()?;
            }
            let place = self.places.pop_front();
            // After the wait it is mapped; should the driver have failed, a new buffer takes its place.
            if let Some(place) =
                place.filter(|p| p.buffer.size() >= bytes && p.state.load(Ordering::Acquire) == MAPPED)
            {
                return Ok(Upload { place: Some(place), bytes: Vec::with_capacity(bytes as usize) });
            }
        }
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("staging"),
            size: bytes.next_power_of_two().max(4096),
            usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        });
        let place = Place { buffer, state: Arc::new(AtomicU8::new(MAPPED)) };
        Ok(Upload { place: Some(place), bytes: Vec::with_capacity(bytes as usize) })
    }

    /// Takes the place back and asks for it to be mapped again once the GPU has read it.
    pub(super) fn end(&mut self, upload: Upload) {
        if let Some(place) = upload.place {
            place.state.store(IN_FLIGHT, Ordering::Release);
            let state = place.state.clone();
            place.buffer.map_async(wgpu::MapMode::Write, .., move |result| {
                if result.is_ok() {
                    state.store(MAPPED, Ordering::Release);
                }
            });
            self.places.push_back(place);
        }
    }
}

impl Upload {
    /// Adds data; returns its offset in the staging buffer.
    pub(super) fn put(&mut self, data: &[u8]) -> u64 {
        let offset = self.bytes.len() as u64;
        self.bytes.extend_from_slice(data);
        offset
    }

    /// The staging buffer.
    ///
    /// # Panics
    /// When the recording announced no bytes.
    pub(super) fn buffer(&self) -> &wgpu::Buffer {
        &self.place.as_ref().expect("a recording with uploads has a staging buffer").buffer
    }

    /// Writes what was put and hands the buffer to the GPU.
    ///
    /// # Errors
    /// [`Error::Device`] when the driver does not give the memory that it promised.
    pub(super) fn seal(&mut self) -> Result<()> {
        if let Some(place) = &self.place {
            let mapped = place.buffer.slice(0..self.bytes.len() as u64).get_mapped_range_mut();
            let mut view =
                mapped.map_err(|error| Error::Device(format!("staging memory is not there: {error}")))?;
            view.copy_from_slice(&self.bytes);
            drop(view);
            place.buffer.unmap();
        }
        Ok(())
    }
}
