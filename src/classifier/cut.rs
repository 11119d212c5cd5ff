//! How the labels of a layer are cut where its step is launched part by part.
//!
//! Labels lie at two scales. A chunk is what is launched at once: its logit gradients, and what else the features' gradient
//! needs of it, are kept until that has read them. A window is what an inverted index is about: the features' gradient of a
//! window is a sum of its own, and the windows' sums are added in order.

use super::options::{FanInOptions, InvertedIndex, WORKSPACE_BYTES};
use crate::device::DeviceKind;
use crate::error::{Error, Result};
use crate::kernels::columns_of;
use crate::kernels::fan_in_feature_gradient::Windows;
use crate::kernels::inverted_index::MAX_INDEX_ROWS;
use crate::kernels::storage::Indices;

/// Rows of labels and of indices that are a multiple of this begin where slices may.
pub(super) const UNIT: usize = 64;

/// Lanes that the features' gradient shall have on a real GPU. D · B / 4 of them, one for four samples of a feature, are
/// 12,288 for a small encoder, a tenth of what a large GPU holds at once (132 processors of 2,048 lanes on an H200), so
/// labels are cut into windows until there are about so many.
const WANTED_LANES: usize = 1 << 17;

/// Bytes of logit gradients in a chunk on software Vulkan. They are fetched back at random, which takes a quarter of the
/// time from the processor's second cache (docs/rejected.md). There are lanes enough in one window.
pub(super) const SOFTWARE_CHUNK_BYTES: usize = 1 << 20;

/// Most rows of indices in a window on software Vulkan: their logit gradients may lie in a texture, and this side every device has.
const SOFTWARE_WINDOW_ROWS: usize = 4096;

/// Bytes of what the groups of a chunk send back, on software Vulkan: it is fetched once, in the order of the features.
const SOFTWARE_SENT_BYTES: usize = 2 << 20;

/// Most bytes of lists of connections that are kept on software Vulkan unless the config says otherwise.
const SOFTWARE_KEPT_BYTES: usize = 64 << 20;

/// Bytes of a window's lists of connections on software Vulkan, and of those that are rebuilt at once: few stay in the processor's
/// cache until they are walked, and have parts enough for its threads.
const SOFTWARE_REBUILT_BYTES: usize = 1 << 20;

/// Iterations of an invocation that are surely computed on software Vulkan, whose loops end after 65,535 and say nothing.
pub(super) const SOFTWARE_ITERATIONS: usize = 40_000;

/// Most labels in a block on software Vulkan: a feature's list of connections, rows · F / D on average, must stay well
/// below what its loops can do, and so must the F² / 2 comparisons of a slot that is wired when nearly all features are
/// in use.
pub(super) fn software_rows(fan_in: usize, features: usize) -> Result<usize> {
    if fan_in * fan_in / 2 > SOFTWARE_ITERATIONS {
        return Err(Error::Device(format!(
            "a fan-in of {fan_in} is more than software Vulkan computes correctly (its loops end early); use --device cpu"
        )));
    }
    Ok((SOFTWARE_ITERATIONS * features / fan_in).max(1))
}

/// How blocks are cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// Labels of a chunk, unless the block has fewer; a multiple of [`UNIT`] groups.
    pub(super) chunk_rows: usize,
    /// Windows, of which a chunk has whole ones.
    pub(super) windows: Windows,
    /// Labels whose lists of connections are rebuilt at once, whole chunks; none where lists are kept or not needed.
    pub(super) rebuilt_rows: Option<usize>,
}

impl Cut {
    /// For blocks of at most `block_rows` labels; `by_group`: whether what a group sends back is summed up for each of its
    /// connections.
    pub(super) fn choose(
        kind: DeviceKind,
        options: &FanInOptions,
        block_rows: usize,
        by_group: bool,
    ) -> Self {
        let mut cut = Self::with_index_kept(kind, options, block_rows, by_group);
        let lists = options.labels.div_ceil(options.group) * options.fan_in * 4;
        let rebuilt = options.precision.indices == Indices::Free
            && match options.inverted_index {
                InvertedIndex::Kept => false,
                InvertedIndex::Rebuilt => true,
                InvertedIndex::Auto => kind == DeviceKind::SoftwareGpu && lists > SOFTWARE_KEPT_BYTES,
            };
        if rebuilt {
            let software = kind == DeviceKind::SoftwareGpu;
            let bytes = if software { SOFTWARE_REBUILT_BYTES } else { WORKSPACE_BYTES };
            let most = bytes / (options.fan_in * 4) * options.group;
            cut.chunk_rows =
                cut.chunk_rows.min(most / cut.windows.rows * cut.windows.rows).max(cut.windows.rows);
            cut.rebuilt_rows = Some((most / cut.chunk_rows).max(1) * cut.chunk_rows);
        }
        cut
    }

    /// The cut of an index that is kept, or that nobody needs.
    fn with_index_kept(kind: DeviceKind, options: &FanInOptions, block_rows: usize, by_group: bool) -> Self {
        let columns = columns_of(options.max_batch);
        let unit = UNIT * options.group;
        let units = |rows: usize| (rows / unit * unit).max(unit);
        // Labels whose groups send back so many bytes.
        let sending = |bytes: usize| match by_group {
            true => units(bytes / (options.fan_in * columns * 4) * options.group),
            false => usize::MAX,
        };
        // Slices of offsets begin where slices may, too.
        let offset_words = (options.features + 1).next_multiple_of(UNIT);
        if kind == DeviceKind::SoftwareGpu {
            let listed = units(SOFTWARE_REBUILT_BYTES / (options.fan_in * 4) * options.group);
            let rows = units(SOFTWARE_CHUNK_BYTES / (columns * 4))
                .min(listed)
                .min(SOFTWARE_WINDOW_ROWS * options.group)
                .min(sending(SOFTWARE_SENT_BYTES));
            return Self::kept(rows, Windows { rows, offset_words });
        }
        let area = options.features * columns;
        let wanted = (WANTED_LANES / (area / 4)).clamp(1, (WORKSPACE_BYTES / (area * 4)).max(1));
        let most = sending(WORKSPACE_BYTES);
        let rows =
            block_rows.div_ceil(wanted).next_multiple_of(unit).min(MAX_INDEX_ROWS * options.group).min(most);
        let chunk_rows = block_rows.next_multiple_of(rows).min(most / rows * rows);
        Self::kept(chunk_rows, Windows { rows, offset_words })
    }

    fn kept(chunk_rows: usize, windows: Windows) -> Self {
        Self { chunk_rows, windows, rebuilt_rows: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::optimizer::Rule;

    fn options(fan_in: usize, group: usize, features: usize, max_batch: usize) -> FanInOptions {
        FanInOptions {
            labels: 1,
            features,
            fan_in,
            group,
            max_batch,
            rule: Rule::AdamW,
            precision: Default::default(),
            train_bias: true,
            init_scale: 1.0,
            bias_init: 0.0,
            seed: 0,
            max_block_rows: 0,
            inverted_index: Default::default(),
        }
    }

    const KINDS: [DeviceKind; 3] = [DeviceKind::SoftwareGpu, DeviceKind::Cpu, DeviceKind::DiscreteGpu];

    #[test]
    fn chunks_and_windows_begin_where_slices_may_and_hold_whole_groups() {
        for kind in KINDS {
            for (group, block_rows) in [(1, 7), (1, 131_072), (8, 131_072), (64, 100_000), (1000, 64_000)] {
                for (features, batch) in [(3, 1), (768, 64), (768, 1000), (65_536, 512)] {
                    let options = options(2, group, features, batch);
                    let cut = Cut::choose(kind, &options, block_rows, group > 1);
                    let case = format!("{kind:?}, groups of {group}, {block_rows} rows: {cut:?}");
                    let Windows { rows, offset_words } = cut.windows;
                    assert_eq!(rows % (UNIT * group), 0, "{case}");
                    assert_eq!(cut.chunk_rows % rows, 0, "{case}");
                    assert!(rows / group <= MAX_INDEX_ROWS, "{case}");
                    assert!(offset_words > features && offset_words % UNIT == 0, "{case}");
                }
            }
        }
    }

    #[test]
    fn large_gpus_get_lanes_and_software_its_cache() {
        // 262,144 rows of 64 columns are 64 MiB of logit gradients.
        let of = |kind| Cut::choose(kind, &options(32, 1, 768, 64), 262_144, false);
        let gpu = of(DeviceKind::DiscreteGpu);
        assert!(gpu.chunk_rows >= 262_144);
        // Ten windows of 12,288 lanes.
        assert_eq!((gpu.windows.of(262_144), gpu.windows.rows), (10, 26_240));
        let software = of(DeviceKind::SoftwareGpu);
        assert_eq!((software.chunk_rows, software.windows.rows), (4096, 4096));
    }

    #[test]
    fn indices_are_rebuilt_for_whole_chunks_in_little_memory() {
        // Lists of 2,812,281 labels of 128 connections are 1.34 GiB.
        for (kind, most) in [(DeviceKind::SoftwareGpu, 1 << 20), (DeviceKind::DiscreteGpu, WORKSPACE_BYTES)] {
            for group in [1, 32] {
                let auto = options(128, group, 768, 32);
                let large = FanInOptions { labels: 2_812_281, ..auto };
                let explicit = FanInOptions { inverted_index: InvertedIndex::Rebuilt, ..large };
                let of = |options| Cut::choose(kind, &options, 524_288, group > 1);
                let (kept, rebuilt) = (of(auto), of(explicit));
                assert_eq!(kept.rebuilt_rows, None);
                let automatic = kind == DeviceKind::SoftwareGpu && group == 1;
                assert_eq!(of(large).rebuilt_rows.is_some(), automatic, "{kind:?}, groups of {group}");
                assert_eq!(rebuilt.windows, kept.windows);
                let rows = rebuilt.rebuilt_rows.unwrap();
                assert!(rows.is_multiple_of(rebuilt.chunk_rows), "{rebuilt:?}");
                assert!(rows / group * 128 * 4 <= most && rows / group * 128 * 4 > most / 2, "{rebuilt:?}");
            }
        }
    }

    #[test]
    fn software_loops_end_before_their_limit() {
        for (fan_in, features) in [(1, 1), (32, 768), (128, 1024), (200, 200)] {
            let rows = software_rows(fan_in, features).unwrap();
            assert!(rows * fan_in / features <= SOFTWARE_ITERATIONS, "{fan_in} of {features}");
        }
        assert!(software_rows(283, 65_536).is_err());
    }
}
