//! Which kernels have a CUDA form, what they are given, and how they are spread out.

use super::driver::Shape;
use crate::device::Launch;
use crate::error::Error;

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

const fn form(name: &'static str, constants: &'static [&'static str]) -> Form {
    Form { name, constants, shape: as_recorded }
}

/// Every kernel that has a form.
pub(super) const FORMS: &[Form] = &[
    form("bias_update", &["OPTIMIZER"]),
    Form { name: "column_sum", constants: &["ACCUMULATE"], shape: threads_for_columns },
    form("fan_in_dlogits", &["LOSS", "WEIGHTS"]),
    Form { name: "fan_in_feature_gradient", constants: &["WEIGHTS"], shape: a_block_for_each_feature },
    form("fan_in_top_k", &["K", "WEIGHTS"]),
    form("fan_in_update", &["OPTIMIZER", "WEIGHTS", "MOMENTS"]),
    form("inverted_index_count", &[]),
    form("inverted_index_offsets", &[]),
    form("inverted_index_scan", &[]),
    form("inverted_index_scatter", &[]),
    form("loss_sum", &[]),
    form("optimizer_step", &["OPTIMIZER", "MOMENTS"]),
    form("probe_copy", &[]),
    form("probe_fma", &[]),
    Form { name: "probe_gather", constants: &[], shape: four_threads_a_lane },
    form("rewire_gradient", &[]),
    form("rewire_histogram", &["BY_POSITION", "WEIGHTS"]),
    form("rewire_mask", &["MODE", "WEIGHTS"]),
    form("rewire_regrow", &["STATES", "DRAW", "WEIGHTS", "MOMENTS"]),
    form("top_k_merge", &["K"]),
];

/// The names of all functions: the forms, and what stands for several launches.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FORMS.iter().map(|form| form.name).chain(super::sweep::NAMES)
}

/// The form of a kernel.
///
/// # Errors
/// [`Error::Device`] when it has none.
pub(super) fn form_of(name: &str) -> Result<&'static Form, Error> {
    FORMS.iter().find(|form| form.name == name).ok_or_else(|| no_form(name))
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

/// COLUMNS times ROWS threads.
fn threads_for_columns(launch: &Launch) -> Shape {
    let threads = SIZES[2..].iter().filter_map(|name| constant(launch, name)).product();
    Shape { blocks: launch.workgroups, threads, shared_bytes: 0 }
}

/// Eight warps for a feature and up to 128 samples: see `fan_in_feature_gradient.cu`.
fn a_block_for_each_feature(launch: &Launch) -> Shape {
    let (features, columns) = (launch.params[0], launch.params[5]);
    Shape { blocks: features * columns.div_ceil(128), threads: 256, shared_bytes: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::ALL;

    /// A constant that a form does not know would select nothing.
    #[test]
    fn forms_know_every_constant_of_their_kernels() {
        for form in FORMS {
            let kernel = ALL.iter().find(|kernel| kernel.name == form.name).unwrap();
            for variant in (kernel.variants)() {
                let mut names: Vec<&str> = variant.iter().map(|(name, _)| *name).collect();
                names.retain(|name| !SIZES.contains(name));
                names.sort_unstable();
                let mut known = form.constants.to_vec();
                known.sort_unstable();
                assert_eq!(names, known, "{}", form.name);
            }
        }
    }

    #[test]
    fn a_kernel_without_a_form_is_named() {
        let message = form_of("bag_forward").err().unwrap().to_string();
        assert!(message.contains("bag_forward") && message.contains("classifier.device"), "{message}");
    }
}
