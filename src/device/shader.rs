//! From `shaders/*.wgsl` to the text that a driver gets: imports, constants, parameters.
//!
//! A shader is plain WGSL with three conventions:
//! * `//!import name` is replaced by `shaders/shared/name.wgsl`;
//! * `const NAME: u32 = 4u;` lines are defaults; a launch gives other values to select a variant;
//! * `var<immediate> params: Params;` becomes a uniform buffer in group 1 where there are no immediates.

use std::fmt::Write;

use super::{Constants, Kernel};
use crate::error::{Error, Result};

/// The line that declares a shader's parameters.
const IMMEDIATE: &str = "var<immediate> params: Params;";
/// What it becomes on adapters without immediates.
const UNIFORM: &str = "@group(1) @binding(0) var<uniform> params: Params;";

/// What shaders may import, by name.
const SHARED: &[(&str, &str)] = &[
    ("activation", include_str!("../../shaders/shared/activation.wgsl")),
    ("dropout", include_str!("../../shaders/shared/dropout.wgsl")),
    ("documents", include_str!("../../shaders/shared/documents.wgsl")),
    ("row_sum", include_str!("../../shaders/shared/row_sum.wgsl")),
    ("eight", include_str!("../../shaders/shared/eight.wgsl")),
    ("linear", include_str!("../../shaders/shared/linear.wgsl")),
    ("random", include_str!("../../shaders/shared/random.wgsl")),
    ("optimizer", include_str!("../../shaders/shared/optimizer.wgsl")),
    ("attention", include_str!("../../shaders/shared/attention.wgsl")),
    ("attention_keys", include_str!("../../shaders/shared/attention_keys.wgsl")),
    ("stored_step", include_str!("../../shaders/shared/stored_step.wgsl")),
    ("narrow", include_str!("../../shaders/shared/narrow.wgsl")),
    ("fan_in", include_str!("../../shaders/shared/fan_in.wgsl")),
    ("fan_in_eights_pairs", include_str!("../../shaders/shared/fan_in_eights_pairs.wgsl")),
    ("fan_in_feature_gradient", include_str!("../../shaders/shared/fan_in_feature_gradient.wgsl")),
    ("fan_in_group_pairs", include_str!("../../shaders/shared/fan_in_group_pairs.wgsl")),
    ("fan_in_group_pairs_features", include_str!("../../shaders/shared/fan_in_group_pairs_features.wgsl")),
    ("fan_in_group_step", include_str!("../../shaders/shared/fan_in_group_step.wgsl")),
    ("fan_in_group_textures", include_str!("../../shaders/shared/fan_in_group_textures.wgsl")),
    ("fan_in_group_words", include_str!("../../shaders/shared/fan_in_group_words.wgsl")),
    ("fan_in_kept_textures", include_str!("../../shaders/shared/fan_in_kept_textures.wgsl")),
    ("fan_in_label", include_str!("../../shaders/shared/fan_in_label.wgsl")),
    ("fan_in_label_words", include_str!("../../shaders/shared/fan_in_label_words.wgsl")),
    ("fan_in_step", include_str!("../../shaders/shared/fan_in_step.wgsl")),
    ("probe_gather", include_str!("../../shaders/shared/probe_gather.wgsl")),
    ("pairs", include_str!("../../shaders/shared/pairs.wgsl")),
    ("inverted_index_part", include_str!("../../shaders/shared/inverted_index_part.wgsl")),
    ("fan_in_bias", include_str!("../../shaders/shared/fan_in_bias.wgsl")),
    ("fan_in_eights", include_str!("../../shaders/shared/fan_in_eights.wgsl")),
    ("weights_eights", include_str!("../../shaders/shared/weights_eights.wgsl")),
    ("fan_in_weights", include_str!("../../shaders/shared/fan_in_weights.wgsl")),
    ("first_positive", include_str!("../../shaders/shared/first_positive.wgsl")),
    ("group_tile", include_str!("../../shaders/shared/group_tile.wgsl")),
    ("loss", include_str!("../../shaders/shared/loss.wgsl")),
    ("top_k_list", include_str!("../../shaders/shared/top_k_list.wgsl")),
    ("rewire_row", include_str!("../../shaders/shared/rewire_row.wgsl")),
    ("product", include_str!("../../shaders/shared/product.wgsl")),
    ("product_quads", include_str!("../../shaders/shared/product_quads.wgsl")),
    ("product_store", include_str!("../../shaders/shared/product_store.wgsl")),
    ("product_activate", include_str!("../../shaders/shared/product_activate.wgsl")),
    ("finish_quad", include_str!("../../shaders/shared/finish_quad.wgsl")),
    ("product_floor", include_str!("../../shaders/shared/product_floor.wgsl")),
    ("product_scale", include_str!("../../shaders/shared/product_scale.wgsl")),
    ("product_cooperative", include_str!("../../shaders/shared/product_cooperative.wgsl")),
    ("cooperative_8", include_str!("../../shaders/shared/cooperative_8.wgsl")),
    ("cooperative_16", include_str!("../../shaders/shared/cooperative_16.wgsl")),
    ("product_tiled", include_str!("../../shaders/shared/product_tiled.wgsl")),
];

/// The WGSL text of a kernel in one variant, complete by itself.
///
/// # Errors
/// [`Error::Device`] when an import or a constant does not exist: a defect of the program.
pub fn expand(kernel: &Kernel, constants: &[(&'static str, u32)], immediates: bool) -> Result<String> {
    let mut out = String::with_capacity(kernel.source.len() * 2);
    let mut used = vec![false; constants.len()];
    append(kernel.name, kernel.source, constants, &mut used, immediates, &mut out)?;
    if let Some(i) = used.iter().position(|used| !used) {
        return Err(Error::Device(format!("shader {} has no constant {}", kernel.name, constants[i].0)));
    }
    Ok(out)
}

fn append(
    name: &str,
    source: &str,
    constants: &[(&'static str, u32)],
    used: &mut [bool],
    immediates: bool,
    out: &mut String,
) -> Result<()> {
    for line in source.lines() {
        if let Some(import) = line.strip_prefix("//!import ") {
            let found = SHARED.iter().find(|(shared, _)| *shared == import.trim());
            let Some((_, text)) = found else {
                return Err(Error::Device(format!("shader {name} imports {import}, which does not exist")));
            };
            append(name, text, constants, used, immediates, out)?;
        } else if line == IMMEDIATE && !immediates {
            out.push_str(UNIFORM);
            out.push('\n');
        } else if let Some(i) = constant_of(line, constants) {
            used[i] = true;
            // Writing to a String cannot fail.
            let _ = writeln!(out, "const {}: u32 = {}u;", constants[i].0, constants[i].1);
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    Ok(())
}

/// Which of the constants this line declares.
fn constant_of(line: &str, constants: &[(&'static str, u32)]) -> Option<usize> {
    let name = line.strip_prefix("const ")?.split(": u32 =").next()?;
    constants.iter().position(|(key, _)| *key == name)
}

/// A file name for a variant: `kernel` or `kernel.NAME_value.NAME_value`.
#[must_use]
pub fn variant_name(kernel: &Kernel, constants: &Constants) -> String {
    constants
        .iter()
        .fold(kernel.name.to_owned(), |name, (key, value)| format!("{name}.{}_{value}", key.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: Kernel = Kernel {
        name: "sample",
        source: "const TILE: u32 = 4u;\nvar<immediate> params: Params;\nlet x = TILE;",
        bindings: &[],
        twin: |_| {},
        variants: Vec::new,
    };

    #[test]
    fn constants_and_parameters_are_replaced() {
        let text = expand(&SAMPLE, &[("TILE", 9)], false).unwrap();
        assert_eq!(
            text,
            "const TILE: u32 = 9u;\n@group(1) @binding(0) var<uniform> params: Params;\nlet x = TILE;\n"
        );
        assert_eq!(variant_name(&SAMPLE, &vec![("TILE", 9)]), "sample.tile_9");
    }

    #[test]
    fn unknown_constants_are_refused() {
        assert!(expand(&SAMPLE, &[("TILES", 9)], true).is_err());
    }
}
