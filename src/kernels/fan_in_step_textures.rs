//! A step of labels whose features lie in a texture, for software Vulkan: see `shaders/fan_in_step_textures.wgsl`. It is
//! launched by [`super::fan_in_step::launch`].

use super::columns_of;
use super::fan_in_dlogits::Loss;
use super::fan_in_step::{self, BINDINGS, MAX_KEPT, Params, step_all};
use super::optimizer::Rule;
use super::storage::Precision;
use crate::device::{Access, Constants, Kernel, TwinCall};

/// Largest batch whose logits an invocation holds where it fetches features twice.
pub const MAX_BATCH: usize = 128;

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "fan_in_step_textures",
    source: include_str!("../../shaders/fan_in_step_textures.wgsl"),
    bindings: &bindings(),
    twin,
    variants,
};

/// The binding of the logit gradients.
const DLOGITS: usize = 9;

const fn bindings() -> [Access; BINDINGS.len()] {
    let mut all = [Access::ReadTexture; BINDINGS.len()];
    let mut i = 1;
    while i < BINDINGS.len() {
        all[i] = BINDINGS[i];
        i += 1;
    }
    all[DLOGITS] = Access::WriteTexture;
    all
}

/// Every rule and storage, kept or fetched twice, for few samples and many; the rest is that of [`fan_in_step::KERNEL`].
fn variants() -> Vec<Constants> {
    let mut all = Vec::new();
    for precision in Precision::all() {
        for rule in Rule::ALL {
            let of = |loss, kept: usize, batch| {
                let rows = precision.indices.rows(kept.max(1));
                constants(fan_in_step::constants(loss, rule, precision, rows, kept), batch)
            };
            all.push(of(Loss::Bce, 7, 1));
            all.push(of(Loss::SquaredHinge, MAX_KEPT, 1));
            all.push(of(Loss::Bce, 0, 33));
            all.push(of(Loss::Bce, 0, MAX_BATCH));
        }
    }
    all
}

/// From the constants of the other forms; features in textures are f32 always.
pub(super) fn constants(mut of_step: Constants, batch: usize) -> Constants {
    of_step.retain(|(name, _)| *name != "FEATURES");
    let kept = of_step.iter().any(|(name, value)| *name == "KEPT" && *value > 0);
    // One variant for all batches where it makes no difference.
    of_step.push(("QUADS", if kept { 4 } else { columns_of(batch) as u32 / 4 }));
    of_step
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (x, dlogits) = (call.read::<f32>(0), call.write::<f32>(DLOGITS));
    step_all(call, &p, x, dlogits);
}
