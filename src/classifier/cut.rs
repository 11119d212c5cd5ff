//! How the labels of a layer are cut where its step is launched part by part.
//!
//! Labels lie at three scales. A chunk is what is launched at once: its logit gradients, and what else the features' gradient
//! needs of it, are kept until that has read them. The features' gradient of a window is a sum of its own, and the windows'
//! sums are added in order. An inverted index is about a window, or, where a connection of it takes 16 bits, about a part of one.

use super::options::{FanInOptions, InvertedIndex, NARROW_UNIT, WORKSPACE_BYTES};
use crate::device::DeviceKind;
use crate::error::{Error, Result};
use crate::kernels::columns_of;
use crate::kernels::inverted_index::MAX_INDEX_ROWS;
use crate::kernels::lists::{Lists, Windows};
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

/// Bytes of a window's lists of connections on software Vulkan: few stay in the processor's cache until they are walked.
const SOFTWARE_LISTED_BYTES: usize = 1 << 20;

/// Bytes of the lists that are rebuilt at once there: with all else that a chunk looks at they fit in 4 MiB, and they have parts
/// enough for the processor's threads. A window that needs more is rebuilt alone.
const SOFTWARE_REBUILT_BYTES: usize = 512 << 10;

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
    /// connections; `narrow`: whether lists that are kept take 16 bits a connection.
    pub(super) fn choose(
        kind: DeviceKind,
        options: &FanInOptions,
        block_rows: usize,
        by_group: bool,
        narrow: bool,
    ) -> Self {
        let mut cut = Self::with_index_kept(kind, options, block_rows, by_group, narrow);
        let lists = cut.windows.lists.words(options.labels.div_ceil(options.group) * options.fan_in) * 4;
        let rebuilt = options.precision.indices == Indices::Free
            && match options.inverted_index {
                InvertedIndex::Kept => false,
                InvertedIndex::Rebuilt => true,
                InvertedIndex::Auto => kind == DeviceKind::SoftwareGpu && lists > SOFTWARE_KEPT_BYTES,
            };
        if rebuilt {
            let Windows { rows, lists } = cut.windows;
            cut.windows = Windows::with_an_index_each(rows, lists.offset_words);
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
    fn with_index_kept(
        kind: DeviceKind,
        options: &FanInOptions,
        block_rows: usize,
        by_group: bool,
        narrow: bool,
    ) -> Self {
        let columns = columns_of(options.max_batch);
        let unit = if narrow { NARROW_UNIT } else { UNIT } * options.group;
        let units = |rows: usize| (rows / unit * unit).max(unit);
        // Labels whose groups send back so many bytes.
        let sending = |bytes: usize| match by_group {
            true => units(bytes / (options.fan_in * columns * 4) * options.group),
            false => usize::MAX,
        };
        // Slices of offsets begin where slices may, too.
        let offset_words = (options.features + 1).next_multiple_of(UNIT);
        if kind == DeviceKind::SoftwareGpu {
            let listed = units(SOFTWARE_LISTED_BYTES / (options.fan_in * 4) * options.group);
            let rows = units(SOFTWARE_CHUNK_BYTES / (columns * 4))
                .min(listed)
                .min(SOFTWARE_WINDOW_ROWS * options.group)
                .min(sending(SOFTWARE_SENT_BYTES));
            let windows = windows_of(options, rows, rows, (unit, offset_words), narrow);
            return Self { chunk_rows: windows.rows, windows, rebuilt_rows: None };
        }
        let area = options.features * columns;
        let wanted = (WANTED_LANES / (area / 4)).clamp(1, (WORKSPACE_BYTES / (area * 4)).max(1));
        let most = sending(WORKSPACE_BYTES);
        let most_of_window = most.min(MAX_INDEX_ROWS * options.group);
        let rows = block_rows.div_ceil(wanted).next_multiple_of(unit).min(most_of_window);
        let windows = windows_of(options, rows, most_of_window, (unit, offset_words), narrow);
        let chunk_rows = block_rows.next_multiple_of(windows.rows).min(most / windows.rows * windows.rows);
        Self { chunk_rows, windows, rebuilt_rows: None }
    }
}

/// Windows of about `rows` labels and at most `most`, both multiples of `unit`.
fn windows_of(
    options: &FanInOptions,
    rows: usize,
    most: usize,
    (unit, offset_words): (usize, usize),
    narrow: bool,
) -> Windows {
    if !narrow {
        return Windows::with_an_index_each(rows, offset_words);
    }
    let indices = rows.div_ceil(Lists::narrow_index_rows(options.fan_in) * options.group);
    let listed = rows.div_ceil(indices).next_multiple_of(unit);
    let lists = Lists { rows: listed, offset_words, narrow };
    Windows { rows: indices.min(most / listed) * listed, lists }
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
    fn chunks_windows_and_lists_begin_where_slices_may_and_hold_whole_groups() {
        for (kind, narrow) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
            for (group, block_rows) in [(1, 7), (1, 131_072), (8, 131_072), (64, 100_000), (1000, 64_000)] {
                for (fan_in, features, batch) in
                    [(1, 3, 1), (32, 768, 64), (33, 768, 1000), (500, 768, 128), (32, 65_536, 512)]
                {
                    let options = options(fan_in, group, features, batch);
                    let cut = Cut::choose(kind, &options, block_rows, group > 1, narrow);
                    let case = format!("{kind:?}, groups of {group}, {block_rows} rows: {cut:?}");
                    let Windows { rows, lists } = cut.windows;
                    assert_eq!(rows % (UNIT * group), 0, "{case}");
                    assert_eq!(cut.chunk_rows % rows, 0, "{case}");
                    assert_eq!(rows % lists.rows, 0, "{case}");
                    assert!(lists.offset_words > features && lists.offset_words % UNIT == 0, "{case}");
                    assert_eq!(lists.narrow, narrow, "{case}");
                    let index_rows = lists.rows / group;
                    let most = if narrow { Lists::narrow_index_rows(fan_in) } else { MAX_INDEX_ROWS };
                    assert!(index_rows <= most, "{case}");
                    // Bytes.
                    assert_eq!(index_rows * fan_in * if narrow { 2 } else { 4 } % 256, 0, "{case}");
                }
            }
        }
    }

    #[test]
    fn large_gpus_get_lanes_and_software_its_cache() {
        // 262,144 rows of 64 columns are 64 MiB of logit gradients.
        let of = |kind, narrow| Cut::choose(kind, &options(32, 1, 768, 64), 262_144, false, narrow);
        let gpu = of(DeviceKind::DiscreteGpu, false);
        assert!(gpu.chunk_rows >= 262_144);
        // Ten windows of 12,288 lanes.
        assert_eq!((gpu.windows.of(262_144), gpu.windows.rows), (10, 26_240));
        // Those of thirteen indices of at most 2,048 rows.
        let narrow = of(DeviceKind::DiscreteGpu, true);
        assert_eq!((narrow.windows.of(262_144), narrow.windows.lists.rows), (10, 2048));
        for narrow in [false, true] {
            let software = of(DeviceKind::SoftwareGpu, narrow);
            assert_eq!((software.chunk_rows, software.windows.rows), (4096, 4096));
        }
    }

    #[test]
    fn indices_are_rebuilt_for_whole_chunks_in_little_memory() {
        // Lists of 2,812,281 labels of 128 connections are 0.67 or 1.34 GiB.
        let kinds = [(DeviceKind::SoftwareGpu, 512 << 10), (DeviceKind::DiscreteGpu, WORKSPACE_BYTES)];
        for ((kind, most), narrow) in kinds.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
            for group in [1, 32] {
                let auto = options(128, group, 768, 32);
                let large = FanInOptions { labels: 2_812_281, ..auto };
                let explicit = FanInOptions { inverted_index: InvertedIndex::Rebuilt, ..large };
                let of = |options| Cut::choose(kind, &options, 524_288, group > 1, narrow);
                let (kept, rebuilt) = (of(auto), of(explicit));
                assert_eq!(kept.rebuilt_rows, None);
                let automatic = kind == DeviceKind::SoftwareGpu && group == 1;
                assert_eq!(of(large).rebuilt_rows.is_some(), automatic, "{kind:?}, groups of {group}");
                assert_eq!(rebuilt.windows.rows, kept.windows.rows);
                assert!(!rebuilt.windows.lists.narrow && rebuilt.windows.lists.rows == rebuilt.windows.rows);
                let rows = rebuilt.rebuilt_rows.unwrap();
                assert!(rows.is_multiple_of(rebuilt.chunk_rows), "{rebuilt:?}");
                let bytes = |rows: usize| rows / group * 128 * 4;
                let most = most.max(bytes(rebuilt.windows.rows));
                assert!(bytes(rows) <= most && bytes(rows) > most / 2, "{rebuilt:?}");
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
