//! Largest magnitudes of a matrix, and the power of two by which it is multiplied on its way to 16 bits: see
//! `shaders/matmul_maximum.wgsl` and `shaders/shared/product_scale.wgsl`.

use rayon::prelude::*;

use crate::device::{Access, Kernel, Launch, Slice, TwinCall, words_of};

/// Maxima that the launch leaves; each is that of every so many elements.
pub const MAXIMA: usize = 64;

/// Invocations in a workgroup.
const LANES: u32 = 256;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    count: u32,
    lanes: u32,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "matmul_maximum",
    source: include_str!("../../shaders/matmul_maximum.wgsl"),
    bindings: &[Access::Read, Access::Write],
    twin,
    variants: || vec![vec![("WORKGROUP", LANES)]],
};

/// `maxima` u32 [[`MAXIMA`]] = bits of the largest magnitudes of parts of `a` f32 \[count\].
#[must_use]
pub fn launch(count: usize, a: &Slice, maxima: &Slice) -> Launch {
    let lanes = LANES * MAXIMA as u32;
    Launch {
        kernel: &KERNEL,
        constants: vec![("WORKGROUP", LANES)],
        bindings: vec![a.clone(), maxima.clone()],
        params: words_of(&Params { count: count as u32, lanes }),
        workgroups: MAXIMA as u32,
        work: count as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let a = &call.read::<u32>(0)[..p.count as usize];
    let maxima = &mut call.write::<u32>(1)[..MAXIMA];
    maxima.par_iter_mut().enumerate().for_each(|(group, maximum)| {
        let rows = a.get(group * LANES as usize..).unwrap_or_default().chunks(p.lanes as usize);
        let values = rows.flat_map(|row| &row[..row.len().min(LANES as usize)]);
        *maximum = values.map(|bits| bits & 0x7fff_ffff).max().unwrap_or(0);
    });
}

/// The power of two that brings a maximum with these bits to 2¹⁰ … 2¹¹, as far as there is one, and its inverse.
#[must_use]
pub fn scale_of(maximum: u32) -> [f32; 2] {
    let power = match maximum >> 23 {
        // Infinities and NaNs go through unchanged.
        255 => 127,
        exponent => (264 - exponent).min(253),
    };
    [power, 254 - power].map(|power| f32::from_bits(power << 23))
}
