//! What a run plans is what it takes, rewirings included, on both engines.

mod support;

use serde_json::Value;
use support::cli::Place;

/// What small buffers of a moment may take beside the plan: counts of a selection, rows that are read back.
const BESIDE: u64 = 16 << 10;

/// A run with rewirings whose classifier is nearly all that there is.
fn plans(device: fn(&Place) -> &'static str, index: &str) {
    let place = Place::new();
    place.ok(&[
        "synth",
        "data",
        "--labels",
        "20000",
        "--used-labels",
        "60",
        "--docs",
        "320",
        "--dev-docs",
        "0",
        "--test-docs",
        "16",
    ]);
    let index = format!("classifier.inverted_index={index}");
    // Documents of a step take more than a ranking does, so that the most is taken by a rewiring.
    let settings = [
        "encoder.dim=256",
        "classifier.fan_in=32",
        "train.batch_size=64",
        "train.epochs=3",
        "evaluate.batch_size=1",
        "rewire.until=1",
        &index,
    ];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
    let fixed = ["train", "tiny.toml", "--data", "data", "--out", "run", "--device", device(&place)];
    place.ok(&[&fixed[..], &settings].concat());
    let rewirings = place.text("run/metrics.jsonl").matches("\"event\":\"rewire\"").count();
    assert!(rewirings > 0, "nothing was rewired");
    let bytes = |name: &str, of: &[&str]| {
        let all: Value = serde_json::from_slice(&place.read(name)).unwrap();
        of.iter().fold(&all, |value, key| &value[key]).as_u64().unwrap()
    };
    let planned = bytes("run/plan.json", &["memory", "peak_bytes"]);
    let taken = bytes("run/memory.json", &["buffers_peak_bytes"]);
    // Weights and indices alone.
    assert!(planned > 20_000 * 32 * 6, "{planned}");
    assert!(taken.abs_diff(planned) <= BESIDE, "{taken} bytes taken of {planned} that were planned, {index}");
}

#[test]
fn the_cpu_takes_what_was_planned() {
    plans(|_| "cpu", "auto");
}

#[test]
fn an_adapter_takes_what_was_planned() {
    for index in ["kept", "rebuilt"] {
        plans(Place::first_adapter, index);
    }
}
