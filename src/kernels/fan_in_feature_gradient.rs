//! Gradient of the features from a run of labels, by the inverted indices of its windows: see
//! `shaders/fan_in_feature_gradient.wgsl`.

use rayon::prelude::*;

use super::fan_in_dlogits::Block;
use super::lists::Windows;
use super::storage::Storage;
use super::vector::vectorised;
use super::{Fetch, WORKGROUP, columns_of, divisor_of};
use crate::device::{Access, Constants, Kernel, Launch, Slice, TwinCall, words_of};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    features: u32,
    rows: u32,
    fan_in: u32,
    weight_words: u32,
    group: u32,
    columns: u32,
    windows: u32,
    window_rows: u32,
    list_rows: u32,
    offset_words: u32,
    slot_bits: u32,
}

/// Logit gradients, weights, offsets, connections; the sums.
pub(super) const BINDINGS: &[Access] =
    &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write];

/// The kernel.
pub static KERNEL: Kernel = Kernel {
    name: "fan_in_feature_gradient",
    source: include_str!("../../shaders/fan_in_feature_gradient.wgsl"),
    bindings: BINDINGS,
    twin,
    variants: || variants(&[(1, false), (1, true), (4, true)]),
};

/// The kernel with fetches of 64 bits.
pub static PAIRS: Kernel = Kernel {
    name: "fan_in_feature_gradient_pairs",
    source: include_str!("../../shaders/fan_in_feature_gradient_pairs.wgsl"),
    bindings: BINDINGS,
    twin,
    variants: || variants(&[(1, false), (4, true)]),
};

/// The kernel that fetches logit gradients from a texture.
pub static TEXTURES: Kernel = Kernel {
    name: "fan_in_feature_gradient_textures",
    source: include_str!("../../shaders/fan_in_feature_gradient_textures.wgsl"),
    bindings: &[Access::ReadTexture, Access::Read, Access::Read, Access::Read, Access::Write],
    twin,
    variants: || {
        let forms = [(true, 4, true), (true, MOST_QUADS, true), (false, 4, true), (true, 4, false)];
        let of = |weights| {
            forms.map(|(narrow, run, add)| constants(weights, narrow, Sent::ByLabel, run, add, FEW_LANES))
        };
        Storage::ALL.into_iter().flat_map(of).collect()
    },
};

/// Quads of samples that a lane takes at most where they come from a texture.
const MOST_QUADS: u32 = 32;

/// Invocations in a workgroup where a lane takes many samples, and there are few lanes.
const FEW_LANES: u32 = 16;

/// Every storage and form of what is sent, with these runs, added or not; the first run with wide lists, too.
fn variants(runs: &[(u32, bool)]) -> Vec<Constants> {
    let of = |(weights, sent)| {
        let of = move |narrow, (run, add)| constants(weights, narrow, sent, run, add, WORKGROUP);
        runs.iter().map(move |run| of(true, *run)).chain([of(false, runs[0])])
    };
    let stored = Storage::ALL.into_iter().flat_map(|w| [(w, Sent::ByLabel), (w, Sent::ByGroup)]);
    stored.chain([(Storage::F32, Sent::SummedByGroup)]).flat_map(of).collect()
}

/// How what a connection sends back lies; the number is the shader's `GROUPED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Sent {
    /// A label has connections of its own: weight times logit gradient.
    ByLabel = 0,
    /// Those of a group: the sum of that over its labels.
    ByGroup = 1,
    /// That sum, which `fan_in_group_gradient` has made.
    SummedByGroup = 2,
}

fn constants(
    weights: Storage,
    narrow: bool,
    sent: Sent,
    run: u32,
    accumulate: bool,
    lanes: u32,
) -> Constants {
    vec![
        ("ACCUMULATE", u32::from(accumulate)),
        ("GROUPED", sent as u32),
        ("NARROW", u32::from(narrow)),
        ("RUN", run),
        ("WEIGHTS", weights as u32),
        ("WORKGROUP", lanes),
    ]
}

/// What `dlogits` [rows, columns] send back through `weights` [rows, weight words] to the features. With one window it is
/// added to `sums` [D, columns]; with several it goes to `sums` [windows, D, columns], a sum for each. `offsets`
/// [indices, offset words] and `connections` [rows / group · F], in 16 or 32 bits, are the inverted indices of the windows. Where a `fetch` is dear each
/// lane takes sixteen samples, or all of them from a texture, [rows, columns], where labels have connections of their own.
pub fn launch(
    block: Block,
    features: usize,
    windows: Windows,
    fetch: Fetch,
    bindings: [&Slice; 5],
) -> Launch {
    let sent = if block.group > 1 { Sent::ByGroup } else { Sent::ByLabel };
    launch_of(block, features, windows, fetch, (sent, block.precision.weights), bindings)
}

/// [`launch`] for groups of labels whose sums `fan_in_group_gradient` has made: `by_slot` [rows / group, F, columns].
pub fn launch_summed(
    block: Block,
    features: usize,
    windows: Windows,
    fetch: Fetch,
    [by_slot, offsets, connections, sums]: [&Slice; 4],
) -> Launch {
    let bindings = [by_slot, by_slot, offsets, connections, sums];
    launch_of(block, features, windows, fetch, (Sent::SummedByGroup, Storage::F32), bindings)
}

fn launch_of(
    block: Block,
    features: usize,
    windows: Windows,
    fetch: Fetch,
    (sent, weights): (Sent, Storage),
    bindings: [&Slice; 5],
) -> Launch {
    let (columns, count) = (columns_of(block.batch), windows.of(block.rows));
    let params = Params {
        features: features as u32,
        rows: block.rows as u32,
        fan_in: block.fan_in as u32,
        weight_words: block.weight_words() as u32,
        group: block.group as u32,
        columns: columns as u32,
        windows: count as u32,
        window_rows: windows.rows as u32,
        list_rows: windows.lists.rows as u32,
        offset_words: windows.lists.offset_words as u32,
        slot_bits: windows.lists.slot_bits(block.fan_in),
    };
    let one = count == 1;
    let quads = columns as u32 / 4;
    let (kernel, run, lanes) = match fetch {
        Fetch::Textures => (&TEXTURES, divisor_of(quads, MOST_QUADS), FEW_LANES),
        Fetch::DearPairs => (&PAIRS, if one { 4 } else { 1 }, WORKGROUP),
        Fetch::Dear => (&KERNEL, if one { 4 } else { 1 }, WORKGROUP),
        Fetch::Cheap => (&KERNEL, 1, WORKGROUP),
    };
    Launch {
        kernel,
        constants: constants(weights, windows.lists.narrow, sent, run, one, lanes),
        bindings: bindings.map(Clone::clone).to_vec(),
        params: words_of(&params),
        workgroups: (count as u32 * features as u32 * (quads / run)).div_ceil(lanes),
        work: (block.rows * block.fan_in * columns) as u64,
    }
}

fn twin(call: &mut TwinCall<'_>) {
    let p: Params = call.params();
    let (dlogits, weights) = (call.read::<f32>(0), call.read::<u32>(1));
    let storage = Storage::from_constant(call.constant("WEIGHTS"));
    let accumulate = call.constant("ACCUMULATE") == 1;
    let narrow = call.constant("NARROW") == 1;
    let summed = call.constant("GROUPED") == Sent::SummedByGroup as u32;
    let words = p.weight_words as usize;
    let (offsets, connections) = (call.read::<u32>(2), call.read::<u32>(3));
    let connection_at = |i: usize| {
        let halves: &[u16] = bytemuck::cast_slice(connections);
        if narrow { u32::from(halves[i]) } else { connections[i] }
    };
    let sums = call.write::<f32>(4);
    let (columns, features, group) = (p.columns as usize, p.features as usize, p.group as usize);
    let rows = sums.par_chunks_mut(columns).take(p.windows as usize * features).enumerate();
    rows.for_each(|(lane, sum)| {
        let (window, feature) = (lane / features, lane % features);
        let begin = window * p.window_rows as usize;
        let end = (begin + p.window_rows as usize).min(p.rows as usize);
        vectorised(
            #[inline(always)]
            || {
                if !accumulate {
                    sum.fill(0.0);
                }
                for first_row in (begin..end).step_by(p.list_rows as usize) {
                    let list = first_row / p.list_rows as usize;
                    let offsets = &offsets[list * p.offset_words as usize + feature..];
                    let first = first_row / group * p.fan_in as usize;
                    for i in offsets[0] as usize..offsets[1] as usize {
                        let connection = connection_at(first + i);
                        let slot = (connection & ((1 << p.slot_bits) - 1)) as usize;
                        let begin = first_row + (connection >> p.slot_bits) as usize * group;
                        if summed {
                            let at = begin / group * p.fan_in as usize + slot;
                            let sent = &dlogits[at * columns..][..columns];
                            sum.iter_mut().zip(sent).for_each(|(sum, sent)| *sum += sent);
                            continue;
                        }
                        for row in begin..(begin + group).min(p.rows as usize) {
                            let w = storage.get(&weights[row * words..], slot);
                            let g = &dlogits[row * columns..][..columns];
                            sum.iter_mut().zip(g).for_each(|(sum, g)| *sum += w * g);
                        }
                    }
                }
            },
        );
    });
}
