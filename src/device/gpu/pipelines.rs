//! Compiled kernels and bind groups, each made once.

use std::collections::HashMap;

use super::{binding_of, handle, textures};
use crate::device::recording::{Access, Launch};
use crate::device::shader;
use crate::error::{Error, Result};

/// Stride of launch parameters in the uniform buffer: the largest alignment that any adapter wants.
const UNIFORM_STRIDE: u64 = 256;
/// Room for the parameters of one launch, bytes.
const PARAMS_BYTES: u32 = 128;
/// Largest number of workgroups in one dimension, on every backend.
const MAX_GRID: u32 = 65_535;
/// Bind groups are cheap to make again; the cache is emptied before it holds dead buffers by the thousand.
const MAX_BIND_GROUPS: usize = 4096;

type PipelineKey = (&'static str, Vec<(&'static str, u32)>);
type BindGroupKey = (usize, Vec<(u64, u64, u64)>);

struct Compiled {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

pub(super) struct Pipelines {
    checked: bool,
    immediates: bool,
    by_key: HashMap<PipelineKey, usize>,
    compiled: Vec<Compiled>,
    bind_groups: HashMap<BindGroupKey, wgpu::BindGroup>,
    uniform: Option<Uniform>,
}

/// Launch parameters on adapters without immediates.
struct Uniform {
    layout: wgpu::BindGroupLayout,
    buffer: wgpu::Buffer,
    group: wgpu::BindGroup,
}

impl Pipelines {
    pub(super) fn new(checked: bool, immediates: bool) -> Self {
        Self {
            checked,
            immediates,
            by_key: HashMap::new(),
            compiled: Vec::new(),
            bind_groups: HashMap::new(),
            uniform: None,
        }
    }

    /// Compiles the launch's variant unless that was done before.
    pub(super) fn prepare(&mut self, device: &wgpu::Device, launch: &Launch) -> Result<usize> {
        let key = (launch.kernel.name, launch.constants.clone());
        if let Some(&index) = self.by_key.get(&key) {
            return Ok(index);
        }
        let compiled = self.compile(device, launch)?;
        self.compiled.push(compiled);
        self.by_key.insert(key, self.compiled.len() - 1);
        Ok(self.compiled.len() - 1)
    }

    fn compile(&mut self, device: &wgpu::Device, launch: &Launch) -> Result<Compiled> {
        let kernel = launch.kernel;
        let text = shader::expand(kernel, &launch.constants, self.immediates)?;
        let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(kernel.name),
            source: wgpu::ShaderSource::Wgsl(text.into()),
        };
        let module = if self.checked {
            device.create_shader_module(descriptor)
        } else {
            #[expect(
                unsafe_code,
                reason = "the shaders are our own; each is tested in bounds in the checked form"
            )]
            // SAFETY: every access of every shader is guarded by its own sizes, and every loop ends: the same
            // tests run against the checked form, where a wrong access changes the result.
            unsafe {
                device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
            }
        };
        let entries: Vec<_> = kernel.bindings.iter().enumerate().map(layout_entry).collect();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some(kernel.name),
            entries: &entries,
        });
        let uniform_layout = (!self.immediates).then(|| self.uniform(device, UNIFORM_STRIDE).layout.clone());
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(kernel.name),
            bind_group_layouts: &[Some(&layout), uniform_layout.as_ref()]
                [..1 + usize::from(!self.immediates)],
            immediate_size: if self.immediates { launch.params.len() as u32 * 4 } else { 0 },
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(kernel.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[],
                zero_initialize_workgroup_memory: self.checked,
            },
            cache: None,
        });
        match pollster::block_on(scope.pop()) {
            Some(error) => Err(Error::Device(format!(
                "shader {} does not compile here: {}",
                kernel.name,
                error.to_string().replace('\n', " ")
            ))),
            None => Ok(Compiled { pipeline, layout }),
        }
    }

    /// The parameters of all launches, each at its place in the uniform buffer; nothing with immediates.
    pub(super) fn uniform_words(&self, launches: &[&Launch]) -> Vec<u32> {
        if self.immediates {
            return Vec::new();
        }
        let stride = (UNIFORM_STRIDE / 4) as usize;
        let mut words = vec![0; launches.len() * stride];
        for (place, launch) in words.chunks_mut(stride).zip(launches) {
            place[..launch.params.len()].copy_from_slice(&launch.params);
        }
        words
    }

    /// The uniform buffer, grown to `bytes`.
    pub(super) fn uniforms(&mut self, device: &wgpu::Device, bytes: u64) -> wgpu::Buffer {
        self.uniform(device, bytes).buffer.clone()
    }

    fn uniform(&mut self, device: &wgpu::Device, bytes: u64) -> &Uniform {
        if self.uniform.as_ref().is_none_or(|uniform| uniform.buffer.size() < bytes) {
            let layout = self.uniform.take().map_or_else(|| uniform_layout(device), |old| old.layout);
            let buffer = device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("launch parameters"),
                size: bytes.next_power_of_two().max(64 * UNIFORM_STRIDE),
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            });
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("launch parameters"),
                layout: &layout,
                entries: &[wgpu::BindGroupEntry {
                    binding: 0,
                    resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer: &buffer,
                        offset: 0,
                        size: std::num::NonZeroU64::new(u64::from(PARAMS_BYTES)),
                    }),
                }],
            });
            self.uniform = Some(Uniform { layout, buffer, group });
        }
        self.uniform.as_ref().expect("it was just made")
    }

    /// Drops the bind groups of buffers that nobody holds any more.
    pub(super) fn forget(&mut self, dead: &[u64]) {
        if !dead.is_empty() {
            self.bind_groups.retain(|(_, bindings), _| !bindings.iter().any(|(id, ..)| dead.contains(id)));
        }
    }

    /// Encodes a prepared launch, the `position`-th of its recording.
    pub(super) fn encode(
        &mut self,
        device: &wgpu::Device,
        pass: &mut wgpu::ComputePass<'_>,
        launch: &Launch,
        position: usize,
    ) -> Result<()> {
        let index = self.prepare(device, launch)?;
        let ids = launch
            .bindings
            .iter()
            .map(|slice| Ok((handle(&slice.buffer)?.id, slice.offset, slice.bytes)))
            .collect::<Result<_>>()?;
        let key = (index, ids);
        if !self.bind_groups.contains_key(&key) {
            if self.bind_groups.len() >= MAX_BIND_GROUPS {
                self.bind_groups.clear();
            }
            let mut entries = Vec::with_capacity(launch.bindings.len());
            for (binding, slice) in launch.bindings.iter().enumerate() {
                entries.push(wgpu::BindGroupEntry { binding: binding as u32, resource: binding_of(slice)? });
            }
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(launch.kernel.name),
                layout: &self.compiled[index].layout,
                entries: &entries,
            });
            self.bind_groups.insert(key.clone(), group);
        }
        pass.set_pipeline(&self.compiled[index].pipeline);
        pass.set_bind_group(0, &self.bind_groups[&key], &[]);
        if self.immediates {
            pass.set_immediates(0, bytemuck::cast_slice(&launch.params));
        } else if let Some(uniform) = &self.uniform {
            pass.set_bind_group(1, &uniform.group, &[position as u32 * UNIFORM_STRIDE as u32]);
        }
        let wide = launch.workgroups.min(MAX_GRID);
        pass.dispatch_workgroups(wide, launch.workgroups.div_ceil(wide), 1);
        Ok(())
    }
}

fn layout_entry((binding, access): (usize, &Access)) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding: binding as u32,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: match access {
            Access::Read | Access::Write => wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: *access == Access::Read },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            Access::ReadTexture => textures::layout(wgpu::StorageTextureAccess::ReadOnly),
            Access::WriteTexture => textures::layout(wgpu::StorageTextureAccess::WriteOnly),
        },
        count: None,
    }
}

fn uniform_layout(device: &wgpu::Device) -> wgpu::BindGroupLayout {
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some("launch parameters"),
        entries: &[wgpu::BindGroupLayoutEntry {
            binding: 0,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Uniform,
                has_dynamic_offset: true,
                min_binding_size: std::num::NonZeroU64::new(u64::from(PARAMS_BYTES)),
            },
            count: None,
        }],
    })
}
