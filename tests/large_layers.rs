//! Layers whose connections number 2^31 and more, on devices that only count: no block may have numbers that 32 bits do
//! not address, and none may be lost between blocks and chunks. Takes no memory.

mod support;

use regrow::classifier::{FanIn, FanInOptions, Loss, Positives, Step, StepScale};
use regrow::device::{Device, DeviceKind, Recording};
use regrow::kernels::columns_of;
use regrow::kernels::optimizer::{Rates, Rule};
use regrow::kernels::storage::Precision;
use support::device::engines;

const FEATURES: usize = 768;
const BATCH: usize = 64;

fn allocate(device: &Device, labels: usize, fan_in: usize, group: usize, rule: Rule) -> FanIn {
    let precision = Precision::default();
    let options = FanInOptions {
        labels,
        features: FEATURES,
        fan_in,
        group,
        max_batch: BATCH,
        rule,
        precision,
        train_bias: true,
        init_scale: 1.0,
        bias_init: 0.0,
        seed: 1,
        max_block_rows: 0,
        inverted_index: Default::default(),
    };
    FanIn::allocate(device, options).unwrap()
}

#[test]
fn blocks_hold_every_label_once_and_no_more_than_32_bits_address() {
    let limit = u64::from(u32::MAX);
    for (engine, device) in engines() {
        let device = device.planning();
        for (labels, fan_in, group) in [
            (1 << 26, 32, 1),
            (1 << 27, 32, 8),
            (1 << 25, 128, 1),
            (1 << 26, 64, 1),
            ((1 << 31) - 1, 2, 1),
            ((1 << 31) - 1, 32, 32),
        ] {
            let case = format!("{labels} labels, fan-in {fan_in}, groups of {group} on {engine}");
            let layer = allocate(&device, labels, fan_in, group, Rule::AdamW);
            let mut next = 0;
            for block in &layer.blocks {
                let shape = block.shape;
                assert_eq!(shape.first_label, next, "{case}");
                assert_eq!(shape.first_label % group, 0, "{case}");
                next += shape.rows;
                // A shader counts words of weights and states, connections and numbers of logits in 32 bits.
                let rows = shape.rows as u64;
                for words in [shape.weight_words(), shape.moment_words(), fan_in] {
                    assert!(rows * words as u64 <= limit, "{case}: {shape:?}");
                }
                if !device.runs_fused() {
                    assert!(rows * columns_of(BATCH) as u64 <= limit, "{case}: {shape:?}");
                }
                for buffer in [&block.weights, &block.indices, &block.first, &block.second, &block.regrown] {
                    assert!(buffer.bytes() <= device.max_buffer_bytes(), "{case}: {buffer:?}");
                }
                if let Some(inverted) = &block.inverted {
                    let of_connection = if device.has_narrow_lists() { 2 } else { 4 };
                    assert_eq!(
                        inverted.connections.bytes(),
                        (shape.index_rows() * fan_in * of_connection).next_multiple_of(16) as u64
                    );
                    for buffer in [&inverted.offsets, &inverted.connections] {
                        assert!(buffer.bytes() <= device.max_buffer_bytes(), "{case}: {buffer:?}");
                    }
                }
            }
            assert_eq!(next, labels, "{case}");
        }
    }
}

/// The step of a layer of so many labels, in which nothing is computed.
fn step(device: &Device, labels: usize, fan_in: usize) -> Recording {
    let layer = allocate(device, labels, fan_in, 1, Rule::Sgd);
    let slice = |numbers: usize| device.allocate("anything", numbers as u64 * 4).unwrap().whole();
    let area = FEATURES * columns_of(BATCH);
    let (x, dx, losses, pairs) = (slice(area), slice(area), slice(4), slice(4));
    let mut recording = Recording::new();
    let step = Step {
        batch: BATCH,
        loss: Loss::Bce,
        scale: StepScale { gradient: 1.0, loss: 1.0, place: 0 },
        step: 0,
        rates: Rates::default(),
        positives: &Positives { count: 0, pairs },
        x: &x,
        dx: &dx,
        losses: &losses,
    };
    layer.record_step(&mut recording, &step);
    recording
}

#[test]
fn a_step_goes_through_every_connection() {
    // 2^32 connections.
    let (labels, fan_in) = (1 << 25, 128);
    for (engine, device) in engines() {
        let device = device.planning();
        let recording = step(&device, labels, fan_in);
        let moved = recording.bytes_moved(device.runs_fused());
        // Weights are read and written, indices are read: the least that any step moves.
        let least = labels as u64 * fan_in as u64 * (4 + 4 + 2);
        assert!(moved >= least, "{moved} bytes on {engine}, {least} at least");
        device.submit(recording).unwrap();
    }
}

#[test]
fn a_cache_spares_what_is_used_again() {
    let (labels, fan_in) = (1 << 16, 32);
    for (engine, device) in engines() {
        let device = device.planning();
        let recording = step(&device, labels, fan_in);
        let past = |cache: u64| recording.bytes_moved_past(cache, device.runs_fused());
        let moved = recording.bytes_moved(device.runs_fused());
        let least = (labels * fan_in * (4 + 4 + 2)) as u64;
        // Nothing is moved less than once, and scratch not again and again.
        let [none, some, all] = [0, 4 << 20, 1 << 40].map(past);
        assert!(
            least <= all && all <= some && some <= none && none <= moved,
            "{engine}: {all} {some} {none}"
        );
        // Chunks on software Vulkan are as small as that.
        let small_chunks = device.kind() == DeviceKind::SoftwareGpu;
        assert!(!small_chunks || some < moved / 2, "{engine}: {some} of {moved}");
    }
}
