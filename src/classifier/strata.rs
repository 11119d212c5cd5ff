//! What stratified rows have of their own in a layer: the check of their strata, and the feature gradient without an inverted
//! index where a step is launched part by part.

use super::options::FanInOptions;
use crate::device::{Buffer, Device, Recording, Slice};
use crate::error::{Error, Result};
use crate::kernels::fan_in_dlogits::Block;
use crate::kernels::fan_in_strata_gradient::{launches, runs};
use crate::kernels::storage::Indices;

/// Most labels in a run on software Vulkan, whose loops end after 65,535 iterations: a run walks its labels twice, as rows
/// of indices and one by one.
const SOFTWARE_RUN_ROWS: usize = 20_000;

/// Most labels in a block on software Vulkan.
pub(super) fn software_rows(features: usize, columns: usize) -> usize {
    SOFTWARE_RUN_ROWS * runs(usize::MAX, features, columns)
}

/// Strata are of the layer's own features, and none is empty.
pub(super) fn check(options: &FanInOptions) -> Result<()> {
    let FanInOptions { features, fan_in, .. } = *options;
    match options.precision.indices {
        Indices::Stratified { features: cut } if cut != features || !(1..=features).contains(&fan_in) => {
            let message = format!("{fan_in} strata of {cut} features for a layer over {features} features");
            Err(Error::Usage(message))
        }
        _ => Ok(()),
    }
}

/// Scratch of the feature gradient.
pub(super) struct StrataGradient {
    /// [runs, D, columns]
    partial: Buffer,
    /// Runs of labels of a block, whatever the batch.
    runs: usize,
    features: usize,
}

impl StrataGradient {
    /// For blocks of up to `rows` labels and batches of up to `columns` columns; none where rows are free.
    pub(super) fn allocate(
        device: &Device,
        options: &FanInOptions,
        rows: usize,
        columns: usize,
    ) -> Result<Option<Self>> {
        if options.precision.indices == Indices::Free {
            return Ok(None);
        }
        let features = options.features;
        let runs = runs(rows, features, columns);
        let bytes = (runs * features * columns * 4) as u64;
        Ok(Some(Self { partial: device.allocate("partial feature gradients", bytes)?, runs, features }))
    }

    /// Adds to `dx` what `dlogits` send back through `weights` at `indices`.
    pub(super) fn record(
        &self,
        recording: &mut Recording,
        shape: Block,
        [dlogits, weights, indices, dx]: [&Slice; 4],
    ) {
        let bindings = [dlogits, weights, indices, &self.partial.whole(), dx];
        let launches = launches(shape, self.features, self.runs, bindings);
        launches.into_iter().for_each(|launch| recording.launch(launch));
    }
}
