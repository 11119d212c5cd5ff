//! A step of labels whose features lie in a texture, for software Vulkan: see `shaders/fan_in_step_textures.wgsl`. It is
//! launched by [`super::fan_in_step::launch`].

use super::columns_of;
use super::fan_in_dlogits::{Block, Loss};
use super::fan_in_group_step::in_eights;
use super::fan_in_step::{self, BINDINGS, MAX_KEPT, Params, bindings_with_texture, step_all};
use super::optimizer::Rule;
use super::storage::{Indices, Precision};
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

/// The kernel for connections that are fetched eight at a time.
pub static EIGHTS: Kernel = Kernel {
    name: "fan_in_step_textures_eights",
    source: include_str!("../../shaders/fan_in_step_textures_eights.wgsl"),
    bindings: &bindings(),
    twin,
    variants: variants_of_eights,
};

/// The binding of the logit gradients.
const DLOGITS: usize = 9;

const fn bindings() -> [Access; BINDINGS.len()] {
    let mut all = bindings_with_texture();
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
                let block = Block { rows: 1, first_label: 0, fan_in: 1, group: 1, batch, precision };
                form(block, fan_in_step::constants(loss, rule, precision, rows, kept)).1
            };
            all.push(of(Loss::Bce, 7, 1));
            all.push(of(Loss::SquaredHinge, MAX_KEPT, 1));
            all.push(of(Loss::Bce, 0, 33));
            all.push(of(Loss::Bce, 0, MAX_BATCH));
        }
    }
    all
}

/// Every rule and loss.
fn variants_of_eights() -> Vec<Constants> {
    let mut all = Vec::new();
    for rule in Rule::ALL {
        for (loss, kept) in [(Loss::Bce, 8), (Loss::SquaredHinge, MAX_KEPT)] {
            let precision = Precision::default();
            let rows = precision.indices.rows(kept);
            all.push(of_eights(fan_in_step::constants(loss, rule, precision, rows, kept)));
        }
    }
    all
}

/// The form for a block, and its constants, from those of the other forms; features in textures are f32 always.
pub(super) fn form(block: Block, mut of_step: Constants) -> (&'static Kernel, Constants) {
    let kept = of_step.iter().any(|(name, value)| *name == "KEPT" && *value > 0);
    if kept && in_eights(block) && block.precision.indices == Indices::Free {
        return (&EIGHTS, of_eights(of_step));
    }
    of_step.retain(|(name, _)| *name != "FEATURES");
    // One variant for all batches where it makes no difference.
    of_step.push(("QUADS", if kept { 4 } else { columns_of(block.batch) as u32 / 4 }));
    (&KERNEL, of_step)
}

fn of_eights(mut of_step: Constants) -> Constants {
    of_step.retain(|(name, _)| *name != "FEATURES");
    of_step
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (x, dlogits) = (call.read::<f32>(0), call.write::<f32>(DLOGITS));
    step_all(call, &p, x, dlogits);
}
