//! Floor 1: for each shader one file of the same name, with its typed launch and, under it, its CPU twin.
//!
//! Letters, everywhere the same: B batch, T tokens in the batch, D encoder features, H hidden size, L labels,
//! F fan-in. `columns` is B rounded up to [`COLUMNS`]: features and logit gradients lie with the samples last, zero
//! beyond the batch.
//!
//! Software Vulkan (llvmpipe) ends all loops of an invocation after 65,535 iterations together and says nothing:
//! work is cut so that invocations of usual sizes stay below.

pub mod activation;
pub mod add_norm;
pub mod attention;
pub mod attention_delta;
pub mod attention_forward;
pub mod attention_key_value_gradient;
pub mod attention_query_gradient;
mod attention_sweep;
pub mod bag_forward;
pub mod bias_update;
pub mod clip_factor;
pub mod column_sum;
pub mod dropout;
pub mod dropout_columns;
pub mod dropout_columns_backward;
pub mod dropout_rows;
pub mod embed_tokens;
pub mod embedding_gradient;
pub mod embedding_update;
pub mod fan_in_dlogits;
pub mod fan_in_feature_gradient;
pub mod fan_in_group_gradient;
pub mod fan_in_group_logits;
pub mod fan_in_group_step;
pub mod fan_in_group_update;
pub mod fan_in_logits;
pub mod fan_in_step;
pub mod fan_in_step_textures;
pub mod fan_in_strata_gradient;
pub mod fan_in_sweep;
pub mod fan_in_top_k;
pub mod feature_texture;
mod group_step_tiles;
mod group_tiles;
mod group_unit;
pub mod half_features;
pub mod inverted_index;
pub mod inverted_index_pack;
pub mod label_loss;
mod label_walk;
mod lane_sums;
pub mod layer_norm;
pub mod layer_norm_backward;
pub mod layer_norm_parameters;
pub mod lists;
pub mod logits_top_k;
mod loss_row;
pub mod loss_sum;
pub mod matmul;
pub mod matmul_choice;
pub mod matmul_cooperative;
pub mod matmul_maximum;
pub mod matmul_tiled;
pub mod optimizer;
pub mod optimizer_step;
pub mod pool;
pub mod position_gradient;
pub mod positive_bits;
pub mod probe_copy;
pub mod probe_fma;
pub mod probe_gather;
pub mod products;
pub mod rewire_gradient;
pub mod rewire_histogram;
pub mod rewire_mask;
pub mod rewire_regrow;
pub mod row_bias;
mod row_draws;
pub mod scale_by;
pub mod square_sum;
pub mod storage;
pub mod token_gradient;
mod top_k_list;
pub mod top_k_merge;
mod vector;

use crate::device::{Device, DeviceKind, Kernel};

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

/// Whether kernels on a device fetch features [D, columns] from a texture more cheaply than from a buffer.
#[must_use]
pub fn fits_texture(device: &Device, features: usize, columns: usize) -> bool {
    let side = device.texture_side().unwrap_or(0) as usize;
    Fetch::of(device) != Fetch::Cheap && features.max(columns / 4) <= side
}

/// The largest divisor of `count` that is at most `most`: how many of so many quads a lane takes.
fn divisor_of(count: u32, most: u32) -> u32 {
    (1..=most.min(count)).rev().find(|divisor| count.is_multiple_of(*divisor)).unwrap_or(1)
}

/// What a fetch from a buffer costs on a device: it decides between forms of the fixed fan-in layer's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// Not much, while registers are few: real GPUs.
    Cheap,
    /// As much as dozens of other operations: software Vulkan. Lanes keep what they fetched, and take more samples.
    Dear,
    /// Likewise, and 64 bits no more than 32.
    DearPairs,
    /// Likewise, and less from textures: features that are f32 lie in one, and logit gradients of labels without groups.
    Textures,
}

impl Fetch {
    /// That of a device.
    #[must_use]
    pub fn of(device: &Device) -> Self {
        match device.kind() {
            DeviceKind::SoftwareGpu if device.has_64_bits() => Self::DearPairs,
            DeviceKind::SoftwareGpu => Self::Dear,
            _ => Self::Cheap,
        }
    }
}

/// Every kernel, for validation and dumps.
pub const ALL: &[&Kernel] = &[
    &activation::KERNEL,
    &activation::AGAIN,
    &add_norm::KERNEL,
    &attention_delta::KERNEL,
    &attention_forward::KERNEL,
    &attention_key_value_gradient::KERNEL,
    &attention_query_gradient::KERNEL,
    &bag_forward::KERNEL,
    &bias_update::KERNEL,
    &clip_factor::KERNEL,
    &column_sum::KERNEL,
    &dropout_columns::KERNEL,
    &dropout_columns_backward::KERNEL,
    &dropout_rows::KERNEL,
    &embed_tokens::KERNEL,
    &embedding_gradient::KERNEL,
    &embedding_update::KERNEL,
    &fan_in_dlogits::KERNEL,
    &fan_in_feature_gradient::KERNEL,
    &fan_in_feature_gradient::PAIRS,
    &fan_in_feature_gradient::TEXTURES,
    &fan_in_group_gradient::KERNEL,
    &fan_in_group_logits::KERNEL,
    &fan_in_group_step::KERNEL,
    &fan_in_group_step::PAIRS,
    &fan_in_group_step::EIGHTS,
    &fan_in_group_step::TEXTURES,
    &fan_in_group_step::TEXTURES_EIGHTS,
    &fan_in_group_update::KERNEL,
    &fan_in_logits::KERNEL,
    &fan_in_step::KERNEL,
    &fan_in_step::PAIRS,
    &fan_in_step_textures::KERNEL,
    &fan_in_step_textures::EIGHTS,
    &fan_in_strata_gradient::KERNEL,
    &fan_in_top_k::KERNEL,
    &feature_texture::KERNEL,
    &half_features::KERNEL,
    &inverted_index::COUNT,
    &inverted_index::SCAN,
    &inverted_index::OFFSETS,
    &inverted_index::SCATTER,
    &inverted_index_pack::KERNEL,
    &label_loss::KERNEL,
    &layer_norm::KERNEL,
    &layer_norm_backward::KERNEL,
    &layer_norm_parameters::KERNEL,
    &logits_top_k::KERNEL,
    &loss_sum::KERNEL,
    &matmul::KERNEL,
    &matmul::ACTIVATED,
    &matmul_cooperative::EIGHT,
    &matmul_cooperative::EIGHT_ACTIVATED,
    &matmul_cooperative::SIXTEEN,
    &matmul_cooperative::SIXTEEN_ACTIVATED,
    &matmul_maximum::KERNEL,
    &matmul_tiled::KERNEL,
    &matmul_tiled::ACTIVATED,
    &optimizer_step::KERNEL,
    &pool::KERNEL,
    &pool::BACKWARD,
    &position_gradient::KERNEL,
    &positive_bits::KERNEL,
    &probe_copy::KERNEL,
    &probe_fma::KERNEL,
    &probe_gather::KERNEL,
    &probe_gather::PAIRS,
    &probe_gather::TEXTURES,
    &rewire_gradient::KERNEL,
    &rewire_histogram::KERNEL,
    &rewire_mask::KERNEL,
    &rewire_regrow::KERNEL,
    &row_bias::KERNEL,
    &scale_by::KERNEL,
    &square_sum::KERNEL,
    &token_gradient::KERNEL,
    &top_k_merge::KERNEL,
];
