//! Product of two matrices without workgroup memory, and what all products share: see `shaders/matmul.wgsl`,
//! `shaders/matmul_activated.wgsl` and `shaders/shared/product*.wgsl`. On the CPU the products of `device::dense`.

use std::ops::Range;

use super::activation::{Activation, activate};
use super::products::{Epilogue, Product};
use super::vector::vectorised;
use super::{WORKGROUP, workgroups};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, dense, words_of};

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

impl Layout {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nn, Self::Nt, Self::Tn];
}

/// Bindings of a product: a, b, bias, c.
pub(super) const PLAIN: &[Access] = &[Access::Read, Access::Read, Access::Read, Access::Write];
/// Bindings of a product with its activation: a, b, bias, c, activated.
pub(super) const ACTIVATING: &[Access] =
    &[Access::Read, Access::Read, Access::Read, Access::Write, Access::Write];

/// The product with or without bias, or added to what is there.
pub static KERNEL: Kernel = Kernel {
    name: "matmul",
    source: include_str!("../../shaders/matmul.wgsl"),
    bindings: PLAIN,
    twin,
    variants: || variants(plain_epilogues(), &[("WORKGROUP", WORKGROUP)]),
};

/// The product with bias, and its activation.
pub static ACTIVATED: Kernel = Kernel {
    name: "matmul_activated",
    source: include_str!("../../shaders/matmul_activated.wgsl"),
    bindings: ACTIVATING,
    twin: activated_twin,
    variants: || variants(activations(), &[("WORKGROUP", WORKGROUP)]),
};

pub(super) fn plain_epilogues() -> Vec<(&'static str, u32)> {
    [0, 1, 2].map(|epilogue| ("EPILOGUE", epilogue)).to_vec()
}

pub(super) fn activations() -> Vec<(&'static str, u32)> {
    Activation::ALL.map(|activation| ("ACTIVATION", activation as u32)).to_vec()
}

/// Every layout, with vectors and without, with each of the epilogues.
pub(super) fn variants(epilogues: Vec<(&'static str, u32)>, own: &[(&'static str, u32)]) -> Vec<Constants> {
    let mut all = Vec::new();
    for layout in Layout::ALL {
        for vectors in [0, 1] {
            all.extend(epilogues.iter().map(|epilogue| constants(layout, vectors, *epilogue, own)));
        }
    }
    all
}

fn constants(
    layout: Layout,
    vectors: u32,
    epilogue: (&'static str, u32),
    own: &[(&'static str, u32)],
) -> Constants {
    let mut constants = vec![
        ("TRANSPOSE_A", u32::from(layout == Layout::Tn)),
        ("TRANSPOSE_B", u32::from(layout == Layout::Nt)),
        ("VECTORS", vectors),
        epilogue,
    ];
    constants.extend(own);
    constants
}

/// A launch of one of a tier's two kernels. `scale` stands in the place of the bias where the epilogue has none.
pub(super) fn launch_of(
    [plain, activated]: [&'static Kernel; 2],
    product: &Product<'_>,
    own: &[(&'static str, u32)],
    scale: Option<&Slice>,
    workgroups: u32,
) -> Launch {
    let [m, n, k] = product.sizes;
    let rows = match product.layout {
        Layout::Nn => [k, n],
        Layout::Nt => [k, k],
        Layout::Tn => [m, n],
    };
    let vectors = u32::from(rows.iter().all(|row| row.is_multiple_of(4)));
    let (kernel, bias, epilogue) = match &product.epilogue {
        Epilogue::None => (plain, None, ("EPILOGUE", 0)),
        Epilogue::Bias(bias) => (plain, Some(*bias), ("EPILOGUE", 1)),
        Epilogue::Accumulate => (plain, None, ("EPILOGUE", 2)),
        Epilogue::BiasActivation { bias, activation, .. } => {
            (activated, Some(*bias), ("ACTIVATION", *activation as u32))
        }
    };
    // Shaders see the operands as vectors of four, of which the last may be cut.
    let (a, b) = (product.a.padded(), product.b.padded());
    let bias = bias.or(scale).unwrap_or(&a).clone();
    let mut bindings = vec![a, b, bias, product.c.clone()];
    if let Epilogue::BiasActivation { activated, .. } = &product.epilogue {
        bindings.push((*activated).clone());
    }
    Launch {
        kernel,
        constants: constants(product.layout, vectors, epilogue, own),
        bindings,
        params: words_of(&Params { m: m as u32, n: n as u32, k: k as u32 }),
        workgroups,
        work: (m * n * k) as u64,
    }
}

/// The product on the floor tier.
#[must_use]
pub fn launch(product: &Product<'_>) -> Launch {
    let [m, n, _] = product.sizes;
    let workgroups = workgroups(m.div_ceil(4) * n.div_ceil(4));
    launch_of([&KERNEL, &ACTIVATED], product, &[("WORKGROUP", WORKGROUP)], None, workgroups)
}

/// Sizes and operands of a call.
fn operands<'a>(call: &TwinCall<'a>) -> ([usize; 3], dense::Strided<'a>, dense::Strided<'a>) {
    let p: Params = call.params();
    let [m, n, k] = [p.m, p.n, p.k].map(|size| size as usize);
    let (a, b) = (call.read::<f32>(0), call.read::<f32>(1));
    let a = if call.constant("TRANSPOSE_A") == 1 { (a, [1, m]) } else { (a, [k, 1]) };
    let b = if call.constant("TRANSPOSE_B") == 1 { (b, [1, k]) } else { (b, [n, 1]) };
    ([m, n, k], a, b)
}

pub(super) fn twin(call: &mut TwinCall<'_>) {
    let (sizes, a, b) = operands(call);
    let (bias, c) = (call.read::<f32>(2), call.write::<f32>(3));
    let epilogue = call.constant("EPILOGUE");
    let finish = |columns: Range<usize>, c: &mut [f32], _: &mut [f32]| {
        if epilogue == 1 {
            vectorised(
                #[inline(always)]
                || c.iter_mut().zip(&bias[columns]).for_each(|(c, bias)| *c += bias),
            );
        }
    };
    if call.bf16_products() {
        dense::product_bf16(sizes, a, b, c, epilogue == 2, &mut [], finish);
    } else {
        dense::product(sizes, a, b, c, epilogue == 2, &mut [], finish);
    }
}

pub(super) fn activated_twin(call: &mut TwinCall<'_>) {
    let (sizes, a, b) = operands(call);
    let (bias, c, activated) = (call.read::<f32>(2), call.write::<f32>(3), call.write::<f32>(4));
    let activation = Activation::from_constant(call.constant("ACTIVATION"));
    let finish = |columns: Range<usize>, c: &mut [f32], activated: &mut [f32]| {
        let bias = &bias[columns];
        // One loop for each activation: a choice inside it would keep it from being vectorised.
        match activation {
            Activation::Gelu => activate_row(Activation::Gelu, bias, c, activated),
            Activation::GeluTanh => activate_row(Activation::GeluTanh, bias, c, activated),
            Activation::Relu => activate_row(Activation::Relu, bias, c, activated),
        }
    };
    if call.bf16_products() {
        dense::product_bf16(sizes, a, b, c, false, activated, finish);
    } else {
        dense::product(sizes, a, b, c, false, activated, finish);
    }
}

#[inline(always)]
fn activate_row(activation: Activation, bias: &[f32], c: &mut [f32], activated: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for ((c, activated), bias) in c.iter_mut().zip(activated).zip(bias) {
                *c += bias;
                *activated = activate(activation, *c);
            }
        },
    );
}
