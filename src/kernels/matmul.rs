//! Product of two matrices, each as stored or transposed: see `shaders/matmul.wgsl`. On the CPU a well-kept crate.

use super::{WORKGROUP, workgroups};
use crate::device::{Access, Kernel, Launch, Slice, TwinCall, dense, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    m: u32,
    n: u32,
    k: u32,
}

/// How the operands of a product lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// a [M, K], b [K, N].
    Nn,
    /// a [M, K], b [N, K].
    Nt,
    /// a [K, M], b [K, N].
    Tn,
}

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "matmul",
    source: include_str!("../../shaders/matmul.wgsl"),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
    twin,
    variants: || {
        let layouts = [Layout::Nn, Layout::Nt, Layout::Tn];
        layouts.iter().flat_map(|layout| [false, true].map(|bias| constants(*layout, bias))).collect()
    },
};

fn constants(layout: Layout, bias: bool) -> crate::device::Constants {
    vec![
        ("TRANSPOSE_A", u32::from(layout == Layout::Tn)),
        ("TRANSPOSE_B", u32::from(layout == Layout::Nt)),
        ("BIAS", u32::from(bias)),
        ("WORKGROUP", WORKGROUP),
    ]
}

/// `c` [M, N] = `a` · `b` (+ `bias` \[N\]).
pub fn launch(
    [m, n, k]: [usize; 3],
    layout: Layout,
    a: &Slice,
    b: &Slice,
    bias: Option<&Slice>,
    c: &Slice,
) -> Launch {
    Launch {
        kernel: &KERNEL,
        constants: constants(layout, bias.is_some()),
        bindings: [a, b, bias.unwrap_or(a), c].map(Clone::clone).to_vec(),
        params: words_of(&Params { m: m as u32, n: n as u32, k: k as u32 }),
        workgroups: workgroups(m.div_ceil(4) * n.div_ceil(4)),
        work: (m * n * k) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let [m, n, k] = [p.m, p.n, p.k].map(|size| size as usize);
    let (a, b, bias) = (call.read::<f32>(0), call.read::<f32>(1), call.read::<f32>(2));
    let a = if call.constant("TRANSPOSE_A") == 1 { (a, [1, m]) } else { (a, [k, 1]) };
    let b = if call.constant("TRANSPOSE_B") == 1 { (b, [1, k]) } else { (b, [n, 1]) };
    let c = &mut call.write::<f32>(3)[..m * n];
    dense::product([m, n, k], a, b, c);
    if call.constant("BIAS") == 1 {
        for row in c.chunks_exact_mut(n) {
            row.iter_mut().zip(bias).for_each(|(c, bias)| *c += bias);
        }
    }
}
