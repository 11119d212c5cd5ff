//! `regrow plan`: what a run will take, told before it is taken.

mod support;

use serde_json::Value;
use support::cli::{Place, failed};

#[test]
fn a_plan_adds_up_and_says_what_does_not_fit() {
    let place = Place::new();
    place.write("tiny.toml", "[encoder]\ndim = 16\nvocabulary = 100\n[classifier]\nfan_in = 4\n");
    let plan = |labels: &str| {
        let done = place.ok(&["plan", "tiny.toml", "--labels", labels, "--device", "cpu", "--json"]);
        done.json_lines().pop().expect("one JSON object")
    };
    let bytes = |value: &Value| value.as_u64().expect("a number of bytes");
    let plan = plan("1000");
    let sum =
        |list: &Value| list.as_array().expect("a list").iter().map(|item| bytes(&item["bytes"])).sum::<u64>();
    assert_eq!(sum(&plan["purposes"]), bytes(&plan["memory"]["bytes"]));
    assert_eq!(sum(&plan["memory"]["buffers"]), bytes(&plan["memory"]["bytes"]));
    // AdamW: four weights with two states each and a 16-bit index, a bias with two states, a word of regrown bits.
    assert_eq!(plan["bytes_per_label"], 4.0 * (4.0 + 8.0 + 2.0) + 12.0 + 4.0);

    let text = place.ok(&["plan", "tiny.toml", "--labels", "1000", "--device", "cpu"]).out;
    assert!(text.contains("classifier weights") && text.trim_end().ends_with("fits"), "{text}");
    // Twenty million labels of 57 KB are a terabyte.
    let wide = ["--set", "encoder.dim=4096", "--set", "classifier.fan_in=4096"];
    let plan = |more: &[&str]| {
        place.run(
            &[&["plan", "tiny.toml", "--labels", "20000000", "--device", "cpu"][..], &wide, more].concat(),
        )
    };
    let refused = plan(&[]);
    failed(&refused, 3, &["the run needs", "MiB is free; most goes to"]);
    assert!(refused.out.trim_end().ends_with("does not fit"), "{}", refused.out);
    let refused = plan(&["--json"]);
    failed(&refused, 3, &["the run needs"]);
    assert!(refused.json_lines()[0]["purposes"].is_array());
}

/// A share of the documents is held out: fewer are planned for, and the evaluation counts fewer labels.
#[test]
fn a_plan_knows_what_is_held_out_and_what_the_host_holds() {
    let place = Place::new();
    place.write("tiny.toml", "[encoder]\ndim = 16\nvocabulary = 100\n[classifier]\nfan_in = 4\n");
    let plan = |more: &[&str]| {
        let call = ["plan", "tiny.toml", "--labels", "100000", "--docs", "40", "--device", "cpu", "--json"];
        place.ok(&[&call[..], more].concat()).json_lines().pop().expect("one JSON object")
    };
    let host = |plan: &Value, name: &str| {
        let list = plan["host"].as_array().expect("a list");
        list.iter().find(|purpose| purpose["name"] == name).and_then(|purpose| purpose["bytes"].as_u64())
    };
    let (all, held_out) = (plan(&[]), plan(&["--set", "train.holdout=0.5"]));
    // Names 0 to 99999: 10 + 90 · 2 + 900 · 3 + 9000 · 4 + 90000 · 5 digits, and 8 bytes each.
    assert_eq!(host(&all, "label names"), Some(488_890 + 800_000));
    // 40 or 20 documents meet 5 + 16 labels each, each in a page of 64 · 28 bytes; 1563 pointers to pages.
    assert_eq!(host(&all, "counts of an evaluation"), Some(1563 * 8 + 40 * 21 * 64 * 28));
    assert_eq!(host(&held_out, "counts of an evaluation"), Some(1563 * 8 + 20 * 21 * 64 * 28));
    assert!(held_out["memory"]["bytes"].as_u64() < all["memory"]["bytes"].as_u64());
    let text = place.ok(&["plan", "tiny.toml", "--labels", "1000", "--device", "cpu"]).out;
    assert!(text.contains("on the host beside the buffers"), "{text}");
}
