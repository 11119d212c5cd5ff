//! Commands of a recording, encoded into the command buffers of wgpu.

use super::pipelines::Pipelines;
use super::{GpuEngine, staging};
use crate::device::recording::Launch;
use crate::error::Result;

/// A submission is ended at the next launch once it holds this many multiply-adds: about 50 ms of a small
/// integrated GPU, far below the two seconds after which drivers reset a device.
const WORK_PER_SUBMISSION: u64 = 20_000_000_000;

/// Commands on their way into command buffers: launches share one pass until a copy ends it.
pub(super) struct Encoder<'a> {
    engine: &'a GpuEngine,
    pipelines: &'a mut Pipelines,
    commands: wgpu::CommandEncoder,
    pass: Option<wgpu::ComputePass<'static>>,
    work: u64,
    launched: usize,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(engine: &'a GpuEngine, pipelines: &'a mut Pipelines) -> Self {
        let commands = engine.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        Self { engine, pipelines, commands, pass: None, work: 0, launched: 0 }
    }

    pub(super) fn load_uniforms(&mut self, uploads: &staging::Upload, from: u64, bytes: u64) {
        let target = self.pipelines.uniforms(&self.engine.device, bytes);
        self.commands.copy_buffer_to_buffer(uploads.buffer(), from, &target, 0, bytes);
    }

    pub(super) fn launch(&mut self, launch: &Launch) -> Result<()> {
        if self.work > WORK_PER_SUBMISSION {
            self.submit();
        }
        self.work += launch.work;
        let pass = self.pass.get_or_insert_with(|| {
            self.commands.begin_compute_pass(&wgpu::ComputePassDescriptor::default()).forget_lifetime()
        });
        self.pipelines.encode(&self.engine.device, pass, launch, self.launched)?;
        self.launched += 1;
        Ok(())
    }

    /// Where commands go that are no launches.
    pub(super) fn commands(&mut self) -> &mut wgpu::CommandEncoder {
        self.pass = None;
        &mut self.commands
    }

    pub(super) fn copy(
        &mut self,
        from: &wgpu::Buffer,
        from_offset: u64,
        to: &wgpu::Buffer,
        to_offset: u64,
        bytes: u64,
    ) {
        self.commands().copy_buffer_to_buffer(from, from_offset, to, to_offset, bytes);
    }

    pub(super) fn clear(&mut self, buffer: &wgpu::Buffer, offset: u64, bytes: u64) {
        self.commands().clear_buffer(buffer, offset, Some(bytes));
    }

    fn submit(&mut self) -> wgpu::SubmissionIndex {
        self.pass = None;
        self.work = 0;
        let next = self.engine.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let commands = std::mem::replace(&mut self.commands, next);
        self.engine.queue.submit([commands.finish()])
    }

    pub(super) fn finish(mut self) -> wgpu::SubmissionIndex {
        self.submit()
    }
}
