//! Textures of f32 that kernels write and fetch from, four numbers a texel.

const FORMAT: wgpu::TextureFormat = wgpu::TextureFormat::Rgba32Float;
const TEXEL_BYTES: u64 = 16;

/// A texture and its view.
pub(super) struct Texture {
    texture: wgpu::Texture,
    view: wgpu::TextureView,
}

impl Texture {
    /// Of [rows, columns] numbers.
    pub(super) fn new(device: &wgpu::Device, label: &str, [rows, columns]: [usize; 2]) -> Self {
        let texture = device.create_texture(&wgpu::TextureDescriptor {
            label: Some(label),
            size: wgpu::Extent3d { width: columns as u32 / 4, height: rows as u32, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: FORMAT,
            usage: wgpu::TextureUsages::STORAGE_BINDING | wgpu::TextureUsages::COPY_SRC,
            view_formats: &[],
        });
        let view = texture.create_view(&wgpu::TextureViewDescriptor::default());
        Self { texture, view }
    }

    pub(super) fn view(&self) -> &wgpu::TextureView {
        &self.view
    }

    /// Bytes of a row, and from one row to the next in what is read back.
    pub(super) fn rows(&self) -> [u64; 2] {
        let row = u64::from(self.texture.width()) * TEXEL_BYTES;
        [row, row.next_multiple_of(u64::from(wgpu::COPY_BYTES_PER_ROW_ALIGNMENT))]
    }

    /// Bytes of what is read back.
    pub(super) fn readback_bytes(&self) -> u64 {
        self.rows()[1] * u64::from(self.texture.height())
    }

    /// Copies the texture to a buffer of so many bytes.
    pub(super) fn copy_to(&self, commands: &mut wgpu::CommandEncoder, buffer: &wgpu::Buffer) {
        let layout = wgpu::TexelCopyBufferLayout {
            offset: 0,
            bytes_per_row: Some(self.rows()[1] as u32),
            rows_per_image: None,
        };
        let target = wgpu::TexelCopyBufferInfo { buffer, layout };
        commands.copy_texture_to_buffer(self.texture.as_image_copy(), target, self.texture.size());
    }
}

/// How such a texture is bound.
pub(super) fn layout(access: wgpu::StorageTextureAccess) -> wgpu::BindingType {
    wgpu::BindingType::StorageTexture {
        access,
        format: FORMAT,
        view_dimension: wgpu::TextureViewDimension::D2,
    }
}
