//! Floor 1: for each shader one file of the same name, with its typed launch and, under it, its CPU twin.
//!
//! Letters, everywhere the same: B batch, T tokens in the batch, D encoder features, H hidden size, L labels,
//! F fan-in. `columns` is B rounded up to [`COLUMNS`]: features and logit gradients lie with the samples last, zero
//! beyond the batch.
//!
//! Software Vulkan (llvmpipe) ends all loops of an invocation after 65,535 iterations together and says nothing:
//! work is cut so that invocations of usual sizes stay below.

pub mod bag_forward;
pub mod bias_update;
pub mod column_sum;
pub mod dropout_columns;
pub mod dropout_columns_backward;
pub mod embedding_gradient;
pub mod embedding_update;
pub mod fan_in_dlogits;
pub mod fan_in_feature_gradient;
pub mod fan_in_sweep;
pub mod fan_in_top_k;
pub mod fan_in_update;
pub mod gelu;
pub mod inverted_index;
pub mod layer_norm;
pub mod layer_norm_backward;
pub mod layer_norm_parameters;
pub mod loss_sum;
pub mod matmul;
pub mod optimizer;
pub mod optimizer_step;
pub mod rewire_histogram;
pub mod rewire_mask;
pub mod rewire_regrow;
pub mod top_k_merge;
mod vector;

use crate::device::Kernel;

/// Features and logit gradients are stored with the batch rounded up to this.
pub const COLUMNS: usize = 16;

/// Invocations in a workgroup of the kernels that give each invocation its own output.
pub(crate) const WORKGROUP: u32 = 64;

/// `batch` rounded up to [`COLUMNS`].
#[must_use]
pub fn columns_of(batch: usize) -> usize {
    batch.next_multiple_of(COLUMNS)
}

/// 32-bit words in a row of `fan_in` 16-bit indices.
#[must_use]
pub fn index_words(fan_in: usize) -> usize {
    fan_in.div_ceil(2)
}

/// Workgroups for `lanes` invocations.
pub(crate) fn workgroups(lanes: usize) -> u32 {
    u32::try_from(lanes.div_ceil(WORKGROUP as usize)).expect("a launch has fewer than 2^38 invocations")
}

/// Every kernel, for validation and dumps.
pub const ALL: &[&Kernel] = &[
    &bag_forward::KERNEL,
    &bias_update::KERNEL,
    &column_sum::KERNEL,
    &dropout_columns::KERNEL,
    &dropout_columns_backward::KERNEL,
    &embedding_gradient::KERNEL,
    &embedding_update::KERNEL,
    &fan_in_dlogits::KERNEL,
    &fan_in_feature_gradient::KERNEL,
    &fan_in_top_k::KERNEL,
    &fan_in_update::KERNEL,
    &gelu::KERNEL,
    &inverted_index::COUNT,
    &inverted_index::SCAN,
    &inverted_index::OFFSETS,
    &inverted_index::SCATTER,
    &layer_norm::KERNEL,
    &layer_norm_backward::KERNEL,
    &layer_norm_parameters::KERNEL,
    &loss_sum::KERNEL,
    &matmul::KERNEL,
    &optimizer_step::KERNEL,
    &rewire_histogram::KERNEL,
    &rewire_mask::KERNEL,
    &rewire_regrow::KERNEL,
    &top_k_merge::KERNEL,
];
