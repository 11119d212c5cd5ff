//! The text of the CUDA kernels, and the PTX that was made of it.

/// The list of all files, with a line `#include "name"` for each.
const ROOT: &str = include_str!("kernels/kernels.cu");

/// PTX for compute capability 8.0 and newer, made by `tests/cuda.sh --write-ptx`.
pub(super) const PTX: &str = include_str!("kernels/kernels.ptx");

/// The files that [`ROOT`] names.
const FILES: &[(&str, &str)] = &[
    ("shared/types.cuh", include_str!("kernels/shared/types.cuh")),
    ("shared/index_rows.cuh", include_str!("kernels/shared/index_rows.cuh")),
    ("shared/random.cuh", include_str!("kernels/shared/random.cuh")),
    ("shared/narrow.cuh", include_str!("kernels/shared/narrow.cuh")),
    ("shared/optimizer.cuh", include_str!("kernels/shared/optimizer.cuh")),
    ("shared/loss.cuh", include_str!("kernels/shared/loss.cuh")),
    ("shared/warp.cuh", include_str!("kernels/shared/warp.cuh")),
    ("shared/stored_row.cuh", include_str!("kernels/shared/stored_row.cuh")),
    ("shared/step_row.cuh", include_str!("kernels/shared/step_row.cuh")),
    ("shared/tensor.cuh", include_str!("kernels/shared/tensor.cuh")),
    ("shared/rewire_row.cuh", include_str!("kernels/shared/rewire_row.cuh")),
    ("shared/score.cuh", include_str!("kernels/shared/score.cuh")),
    ("shared/top_k_list.cuh", include_str!("kernels/shared/top_k_list.cuh")),
    ("shared/dropout.cuh", include_str!("kernels/shared/dropout.cuh")),
    ("fan_in_dlogits.cu", include_str!("kernels/fan_in_dlogits.cu")),
    ("loss_sum.cu", include_str!("kernels/loss_sum.cu")),
    ("fan_in_feature_gradient.cu", include_str!("kernels/fan_in_feature_gradient.cu")),
    ("fan_in_strata_gradient.cu", include_str!("kernels/fan_in_strata_gradient.cu")),
    ("bias_update.cu", include_str!("kernels/bias_update.cu")),
    ("fan_in_step.cu", include_str!("kernels/fan_in_step.cu")),
    ("fan_in_group_step.cu", include_str!("kernels/fan_in_group_step.cu")),
    ("inverted_index.cu", include_str!("kernels/inverted_index.cu")),
    ("rewire_mask.cu", include_str!("kernels/rewire_mask.cu")),
    ("rewire_histogram.cu", include_str!("kernels/rewire_histogram.cu")),
    ("rewire_regrow.cu", include_str!("kernels/rewire_regrow.cu")),
    ("rewire_gradient.cu", include_str!("kernels/rewire_gradient.cu")),
    ("fan_in_top_k.cu", include_str!("kernels/fan_in_top_k.cu")),
    ("top_k_merge.cu", include_str!("kernels/top_k_merge.cu")),
    ("column_sum.cu", include_str!("kernels/column_sum.cu")),
    ("matmul.cu", include_str!("kernels/matmul.cu")),
    ("label_loss.cu", include_str!("kernels/label_loss.cu")),
    ("logits_top_k.cu", include_str!("kernels/logits_top_k.cu")),
    ("row_bias.cu", include_str!("kernels/row_bias.cu")),
    ("activation.cu", include_str!("kernels/activation.cu")),
    ("dropout_columns.cu", include_str!("kernels/dropout_columns.cu")),
    ("dropout_columns_backward.cu", include_str!("kernels/dropout_columns_backward.cu")),
    ("half_features.cu", include_str!("kernels/half_features.cu")),
    ("optimizer_step.cu", include_str!("kernels/optimizer_step.cu")),
    ("probes.cu", include_str!("kernels/probes.cu")),
];

/// The whole text, complete by itself: what NVRTC compiles.
pub(super) fn text() -> String {
    let mut out = String::new();
    for line in ROOT.lines() {
        let name = line.strip_prefix("#include \"").and_then(|rest| rest.strip_suffix('"'));
        let file = name.and_then(|name| FILES.iter().find(|(known, _)| *known == name));
        out.push_str(file.map_or(line, |(_, text)| text));
        if !out.ends_with('\n') {
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FNV-1a of 64 bits, which `tests/cuda/nvrtc.py` computes too.
    fn fingerprint(text: &str) -> u64 {
        text.bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    #[test]
    fn every_file_is_in_the_text() {
        let text = text();
        assert!(!text.contains("#include"), "a file is named in kernels.cu that source.rs does not have");
        for (name, file) in FILES {
            assert!(text.contains(file), "{name} is not named in kernels.cu");
        }
    }

    #[test]
    fn the_ptx_was_made_of_this_text() {
        let first = PTX.lines().next().unwrap();
        let wanted = format!("// of kernels.cu, FNV-1a {:016x}", fingerprint(&text()));
        assert_eq!(first, wanted, "src/cuda/kernels changed: run tests/cuda.sh --write-ptx");
    }
}
