//! The inverted index against its twins, and against plain constructions.

mod support;

use regrow::kernels::fan_in_dlogits::Block;
use regrow::kernels::inverted_index::Sort;
use regrow::kernels::lists::Lists;
use regrow::kernels::storage::Precision;
use regrow::kernels::{Fetch, inverted_index_pack};
use support::device::{Outputs, compare, garbage, inverted, narrow_lists, run, upload, writable};
use support::layer::{Layer, shapes};

#[test]
fn every_feature_lists_its_connections_in_order() {
    let block = |rows, fan_in| Block {
        rows,
        first_label: 0,
        fan_in,
        group: 1,
        batch: 1,
        precision: Precision::default(),
    };
    let mut all: Vec<_> = shapes().into_iter().map(|shape| (shape, shape.0.rows)).collect();
    // Several thousand connections in several parts, most features without any; and several windows, the last with fewer rows.
    all.extend([((block(701, 7), 3000), 701), ((block(701, 7), 12), 320), ((block(150, 3), 70), 64)]);
    // As many features as there can be, one more than software Vulkan's loops have rounds.
    all.push(((block(40, 3), 65_536), 40));
    let all = all.into_iter().flat_map(|case| [Fetch::Cheap, Fetch::Dear].map(|fetch| (case, fetch)));
    for (seed, (((block, features), window_rows), fetch)) in all.enumerate() {
        let layer = Layer::new((block, features), seed as u64);
        let lists = Lists { rows: window_rows, offset_words: features + 5, narrow: false };
        let sort = Sort { block, features, lists, fetch };
        let case = format!("{sort:?}");
        let got = compare(&case, |device| {
            // Rows that lie behind the block, and have nothing to do with it.
            let indices = upload(device, &[layer.indices.as_slice(), &[0; 64]].concat());
            let [offsets, connections] = inverted(device, sort, &indices);
            // Without what lies behind the D + 1 of a window, which nobody writes.
            let all: Vec<u32> = device.read_vec(&offsets, lists.of(block.rows) * lists.offset_words).unwrap();
            let used: Vec<u32> =
                all.chunks(lists.offset_words).flat_map(|row| &row[..=features]).copied().collect();
            Outputs::of(device).exact("offsets", &writable(device, &used), used.len()).exact(
                "connections",
                &connections,
                block.index_rows() * block.fan_in,
            )
        });
        let (mut offsets, mut lists) = (Vec::new(), Vec::new());
        let index_rows: Vec<usize> = (0..block.index_rows()).collect();
        for window in index_rows.chunks(window_rows.div_ceil(block.group)) {
            let first = lists.len();
            offsets.push(0);
            for feature in 0..features {
                for (place, row) in window.iter().enumerate() {
                    let has = |slot: &usize| layer.index(row * block.group, *slot) == feature;
                    let slots = (0..block.fan_in).filter(has);
                    lists.extend(slots.map(|slot| ((place << 16) | slot) as u32));
                }
                offsets.push((lists.len() - first) as u32);
            }
        }
        assert_eq!(got.words("offsets"), offsets, "{case}");
        assert_eq!(got.words("connections"), lists, "{case}");
    }
}

/// By the same connections in 32 bits, with the largest row and the largest slot among them; an odd number of them.
#[test]
fn lists_are_packed_into_16_bits() {
    for fan_in in [1, 2, 3, 32, 100, 512].into_iter().filter(|_| narrow_lists()) {
        let rows = Lists::narrow_index_rows(fan_in);
        let lists = Lists { rows, offset_words: 1, narrow: true };
        let all: Vec<u32> = (0..rows).step_by(7).map(|row| ((row << 16) | (row % fan_in)) as u32).collect();
        let mut wide = [all.as_slice(), &[((rows - 1) << 16 | (fan_in - 1)) as u32]].concat();
        if wide.len().is_multiple_of(2) {
            wide.remove(0);
        }
        let got = compare(&format!("{} connections of {fan_in} slots", wide.len()), |device| {
            let narrow = garbage(device, lists.words(wide.len()));
            let pack = inverted_index_pack::launch(
                lists,
                fan_in,
                wide.len(),
                &upload(device, &wide),
                &narrow.whole(),
            );
            run(device, [pack]);
            Outputs::of(device).exact("narrow", &narrow, lists.words(wide.len()))
        });
        // Slots take as many bits as tell them apart.
        let slots = (0..).find(|bits| 1 << bits >= fan_in).unwrap();
        let narrow: Vec<u32> = wide.iter().map(|both| (both >> 16) << slots | both & 0xffff).collect();
        let words: Vec<u32> =
            narrow.chunks(2).map(|pair| pair[0] | pair.get(1).map_or(0, |second| second << 16)).collect();
        assert!(narrow.iter().all(|connection| *connection < 1 << 16));
        assert_eq!(got.words("narrow"), words);
    }
}
