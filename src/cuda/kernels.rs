//! Which kernels have a CUDA form, what they are given, and how they are spread out.

use super::driver::Shape;
use super::groups::{self, StepSizes};
use crate::device::Launch;
use crate::error::Error;

/// The constants of `fan_in_step`.
const STEP: &[&str] = &["LOSS", "OPTIMIZER", "WEIGHTS", "MOMENTS", INDEX_ROWS[0], INDEX_ROWS[1], "FEATURES"];

/// Those of its form on matrix units, which takes features in f32.
const GROUP_STEP_CONSTANTS: &[&str] = STEP.split_at(6).0;

/// A kernel's CUDA form. Its arguments: the parameters, `constants` in this order, the bindings.
pub(super) struct Form {
    /// Of the kernel, and of the function in PTX.
    pub(super) name: &'static str,
    /// The constants of a launch that the function is given as arguments.
    pub(super) constants: &'static [&'static str],
    shape: fn(&Launch) -> Shape,
}

/// The constants that tell the size of a workgroup.
const SIZES: [&str; 4] = ["WORKGROUP", "LANES", "COLUMNS", "ROWS"];

/// Constants that no form knows, and that are 0 in every launch that has one: lists of connections are wide here.
const ABSENT: [&str; 1] = ["NARROW"];

/// How rows of indices are stored.
const INDEX_ROWS: [&str; 2] = ["STRATIFIED_FEATURES", "STRATA"];

const fn form(name: &'static str, constants: &'static [&'static str]) -> Form {
    Form { name, constants, shape: as_recorded }
}

/// Every kernel that has a form.
pub(super) const FORMS: &[Form] = &[
    form("activation", &["ACTIVATION", "BACKWARD"]),
    form("bias_update", &["OPTIMIZER"]),
    Form { name: "column_sum", constants: &["ACCUMULATE"], shape: a_block_for_sixteen_columns },
    form("dropout_columns", &[]),
    form("dropout_columns_backward", &[]),
    form("fan_in_dlogits", &["LOSS", "WEIGHTS", INDEX_ROWS[0], INDEX_ROWS[1]]),
    Form {
        name: "fan_in_feature_gradient",
        constants: &["ACCUMULATE", "WEIGHTS"],
        shape: a_block_for_each_feature,
    },
    Form { name: "fan_in_step", constants: STEP, shape: a_warp_for_each_label },
    Form {
        name: "fan_in_strata_gradient",
        constants: &["WEIGHTS", "ROOM", INDEX_ROWS[0], INDEX_ROWS[1]],
        shape: with_accumulators,
    },
    form("fan_in_top_k", &["K", "WEIGHTS", INDEX_ROWS[0], INDEX_ROWS[1]]),
    form("half_features", &["PACKED"]),
    form("inverted_index_count", &[]),
    form("inverted_index_offsets", &[]),
    form("inverted_index_scan", &["STARTS"]),
    form("inverted_index_scatter", &[]),
    form("label_loss", &["LOSS"]),
    form("logits_top_k", &["K"]),
    form("loss_sum", &[]),
    Form {
        name: "matmul",
        constants: &["TRANSPOSE_A", "TRANSPOSE_B", "EPILOGUE"],
        shape: a_block_for_each_tile,
    },
    form("optimizer_step", &["OPTIMIZER", "MOMENTS"]),
    form("probe_copy", &[]),
    form("probe_fma", &[]),
    Form { name: "probe_gather", constants: &[], shape: four_threads_a_lane },
    form("rewire_gradient", &["STRATIFIED", INDEX_ROWS[0], INDEX_ROWS[1]]),
    form("rewire_histogram", &["BY_POSITION", "WEIGHTS"]),
    form("rewire_mask", &["MODE", "WEIGHTS"]),
    form(
        "rewire_regrow",
        &["STATES", "DRAW", "WEIGHTS", "MOMENTS", "STRATIFIED", INDEX_ROWS[0], INDEX_ROWS[1]],
    ),
    form("row_bias", &[]),
    form("top_k_merge", &["K"]),
];

/// `fan_in_step` for groups of labels on matrix units.
const GROUP_STEP: Form =
    Form { name: "fan_in_group_step", constants: GROUP_STEP_CONSTANTS, shape: a_block_for_each_group };

/// The names of all functions: a kernel has one, `fan_in_step` two.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FORMS.iter().map(|form| form.name).chain([GROUP_STEP.name])
}

/// The form for a launch; on matrix units, if `matrix_units` and it can be.
///
/// # Errors
/// [`Error::Device`] when its kernel has none.
pub(super) fn form_of(launch: &Launch, matrix_units: bool) -> Result<&'static Form, Error> {
    let name = launch.kernel.name;
    let halves = constant(launch, "FEATURES").is_some_and(|features| features > 0);
    if name == "fan_in_step"
        && matrix_units
        && !halves
        && groups::shared_bytes(sizes_of_step(launch)).is_some()
    {
        return Ok(&GROUP_STEP);
    }
    let form = FORMS.iter().find(|form| form.name == name);
    form.filter(|_| !ABSENT.iter().any(|name| constant(launch, name) > Some(0))).ok_or_else(|| no_form(name))
}

/// The error for a kernel that has no CUDA form.
pub(super) fn no_form(name: &str) -> Error {
    Error::Device(format!(
        "kernel {name} has no CUDA form; set classifier.device = \"cuda:0\" and leave the encoder on another device"
    ))
}

impl Form {
    /// How a launch is spread out.
    pub(super) fn shape(&self, launch: &Launch) -> Shape {
        (self.shape)(launch)
    }

    /// The values of the constants, in order.
    pub(super) fn constants_of(&self, launch: &Launch) -> Vec<u32> {
        self.constants.iter().map(|name| constant(launch, name).unwrap_or(0)).collect()
    }
}

/// The value of a constant of a launch, if it gives it.
pub(super) fn constant(launch: &Launch, name: &str) -> Option<u32> {
    launch.constants.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
}

/// Blocks and threads as many as workgroups and invocations.
fn as_recorded(launch: &Launch) -> Shape {
    let threads = SIZES[..2].iter().find_map(|name| constant(launch, name)).unwrap_or(1);
    Shape { blocks: launch.workgroups, threads, shared_bytes: 0 }
}

/// Four threads for an invocation.
fn four_threads_a_lane(launch: &Launch) -> Shape {
    let shape = as_recorded(launch);
    Shape { blocks: 4 * shape.blocks, ..shape }
}

/// Sixteen columns for a block of 256 threads, whatever the workgroups: see `column_sum.cu`.
fn a_block_for_sixteen_columns(launch: &Launch) -> Shape {
    Shape { blocks: launch.params[1].div_ceil(16), threads: 256, shared_bytes: 0 }
}

/// Eight warps for 32 x 32 elements of a product: see `matmul.cu`.
fn a_block_for_each_tile(launch: &Launch) -> Shape {
    let [rows, columns] = [0, 1].map(|place| launch.params[place].div_ceil(32));
    Shape { blocks: rows * columns, threads: 256, shared_bytes: 0 }
}

/// Eight warps for a feature and up to 128 samples of a window: see `fan_in_feature_gradient.cu`.
fn a_block_for_each_feature(launch: &Launch) -> Shape {
    let [features, columns, windows] = [0, 5, 6].map(|place| launch.params[place]);
    Shape { blocks: windows * features * columns.div_ceil(128), threads: 256, shared_bytes: 0 }
}

/// Threads with ROOM accumulators of four samples each in shared memory.
fn with_accumulators(launch: &Launch) -> Shape {
    let shape = as_recorded(launch);
    let room = constant(launch, "ROOM").unwrap_or(0);
    Shape { shared_bytes: 16 * room * shape.threads, ..shape }
}

/// The sizes in the parameters of `fan_in_step`, behind the twelve words of the rates.
fn sizes_of_step(launch: &Launch) -> StepSizes {
    let [rows, fan_in, group] = [12, 14, 18].map(|place| launch.params[place]);
    StepSizes { rows, fan_in, group }
}

/// Four warps, a label each, with weights and indices of up to 1,024 connections at once: see `fan_in_step.cu`.
fn a_warp_for_each_label(launch: &Launch) -> Shape {
    let StepSizes { rows, fan_in, .. } = sizes_of_step(launch);
    Shape { blocks: rows.div_ceil(4), threads: 128, shared_bytes: 8 * 4 * fan_in.min(1024) }
}

/// Eight warps for a group: see `fan_in_group_step.cu`.
fn a_block_for_each_group(launch: &Launch) -> Shape {
    let sizes = sizes_of_step(launch);
    let shared_bytes = groups::shared_bytes(sizes).unwrap_or(0);
    Shape { blocks: sizes.rows.div_ceil(sizes.group), threads: 256, shared_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::ALL;

    /// Constants that choose how a shader computes, not what: a form has its own way.
    const WAYS: [&str; 5] = ["GROUPED", "KEPT", "RUN", "TILE", "VECTORS"];

    /// A constant that a form does not know would select nothing.
    #[test]
    fn forms_know_every_constant_of_their_kernels() {
        for form in FORMS {
            let kernel = ALL.iter().find(|kernel| kernel.name == form.name).unwrap();
            for variant in (kernel.variants)() {
                let mut names: Vec<&str> = variant.iter().map(|(name, _)| *name).collect();
                names.retain(|name| ![&SIZES[..], &WAYS, &ABSENT].iter().any(|known| known.contains(name)));
                names.sort_unstable();
                let mut known = form.constants.to_vec();
                known.sort_unstable();
                assert_eq!(names, known, "{}", form.name);
            }
        }
    }
}
