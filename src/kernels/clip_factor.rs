//! The factor that brings a gradient's norm below a bound: see `shaders/clip_factor.wgsl`.

use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

/// Lanes of the workgroup.
const LANES: u32 = 256;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    partials: u32,
    max_norm: f32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "clip_factor",
    source: include_str!("../../shaders/clip_factor.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("LANES", LANES)]],
};

/// `factor` \[4\] = (min(1, `max_norm` / (norm + 1e-6)), norm, 0, 0), where norm² is the sum of `partials`
/// \[`partials_count`\] of [`super::square_sum`].
pub fn launch(partials_count: usize, max_norm: f32, partials: &Slice, factor: &Slice) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: vec![("LANES", LANES)],
        bindings: vec![partials.clone(), factor.clone()],
        params: words_of(&Params { partials: partials_count as u32, max_norm }),
        workgroups: 1,
        work: partials_count as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let partials = &call.read::<f32>(0)[..p.partials as usize];
    // A few thousand numbers: their sum in double precision costs nothing.
    let norm = partials.iter().copied().map(f64::from).sum::<f64>().sqrt() as f32;
    let wanted = p.max_norm / (norm + 1e-6);
    // By comparison, not min: a NaN must reach the gradient.
    let factor = if wanted > 1.0 { 1.0 } else { wanted };
    call.write::<f32>(1)[..4].copy_from_slice(&[factor, norm, 0.0, 0.0]);
}
