//! Features in a texture: see `shaders/feature_texture.wgsl`.

use super::{WORKGROUP, columns_of, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    features: u32,
    quads: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "feature_texture",
    source: include_str!("../../shaders/feature_texture.wgsl"),
    bindings: &[Access::Read, Access::WriteTexture],
    twin,
    variants: || vec![vec![("WORKGROUP", WORKGROUP)]],
};

/// Copies `x` [D, columns] into the texture `copy`, which may have more columns.
pub fn launch(features: usize, batch: usize, x: &Slice, copy: &Slice) -> Launch {
    let quads = columns_of(batch) / 4;
    Launch {
        kernel: &KERNEL,
        constants: vec![("WORKGROUP", WORKGROUP)],
        bindings: vec![x.clone(), copy.clone()],
        params: words_of(&Params { features: features as u32, quads: quads as u32 }),
        workgroups: workgroups(features * quads),
        work: (features * quads * 4) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let numbers = p.features as usize * p.quads as usize * 4;
    // To a twin a texture is a buffer, with as many columns as the batch wants.
    call.write::<f32>(1)[..numbers].copy_from_slice(&call.read::<f32>(0)[..numbers]);
}
