//! `regrow bench`: every row on both engines, the report's file, and what it refuses.

mod support;

use support::cli::Place;

const SMALL: [&str; 19] = [
    "--labels",
    "300",
    "--fan-in",
    "5",
    "--features",
    "16",
    "--batch",
    "7",
    "--encoder",
    "tiny",
    "--encoder-batch",
    "2",
    "--tokens",
    "6",
    "--short",
    "--seconds",
    "0.01",
    "--weights",
    "bf16",
];

#[test]
fn every_row_on_both_engines() {
    let place = Place::new();
    for device in ["cpu", place.first_adapter()] {
        let bench = [&["bench", "--device", device, "--json"], &SMALL[..]].concat();
        let report = &place.ok(&bench).json_lines()[0];
        let rows = report["rows"].as_array().unwrap();
        let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert_eq!(
            names,
            ["copy again (control)", "classifier step", "ranking, top 5", "rewiring, 15 %", "encoder step"]
        );
        assert!(rows.iter().all(|row| row["milliseconds"].as_f64().unwrap() > 0.0), "{report}");
        let step = &rows[1];
        // 300 rows of 5 in bf16, padded to 6; 3 words of indices; 16 x 16 features and gradients.
        let least = 2 * (300 * 5 * 2 + 300 * 4 + 16 * 16 * 4) + 300 * 3 * 4;
        let (bytes, bound) =
            (step["work"]["bytes"].as_f64().unwrap(), step["bytes_over_bound"].as_f64().unwrap());
        assert!((bytes / f64::from(least) - bound).abs() < 1e-9, "{step}");
        assert_eq!(step["work"]["multiply_adds"].as_f64(), Some(3.0 * 300.0 * 5.0 * 16.0));
        for limit in ["copy_bytes", "multiply_adds", "gathers", "control_ratio"] {
            assert!(report["limits"][limit].as_f64().unwrap() > 0.0, "{report}");
        }
    }
}

#[test]
fn reports_compare_where_sizes_agree() {
    let place = Place::new();
    let bench = [&["bench", "--device", "cpu"], &SMALL[..]].concat();
    let report = place.ok(&[&bench[..], &["--json"]].concat()).out;
    place.write("there.json", report);
    let done = place.ok(&[&bench[..], &["--compare", "there.json"]].concat());
    assert!(done.out.contains("speed-up") && done.out.contains("classifier step"), "{}", done.out);
    let mut other = [&bench[..], &["--compare", "there.json"]].concat();
    *other.iter_mut().find(|argument| **argument == "300").unwrap() = "301";
    place.fails(&other, 2, &["other sizes", "300 labels", "301 labels"]);
    place.write("broken.json", "{}");
    place.fails(&[&bench[..], &["--compare", "broken.json"]].concat(), 5, &["broken.json"]);
    place.fails(&[&bench[..], &["--compare", "nothing.json"]].concat(), 5, &["nothing.json"]);
}

#[test]
fn sizes_that_cannot_be() {
    let place = Place::new();
    let bench =
        |more: &[&'static str]| [&["bench", "--device", "cpu", "--encoder", "none"][..], more].concat();
    place.fails(&bench(&["--labels", "100", "--group", "7"]), 2, &["group must be 1, 8, 16, 32 or 64"]);
    // A terabyte and a half.
    place.fails(&bench(&["--labels", "2000000000", "--fan-in", "128"]), 3, &["the run needs", "is free"]);
    let refused = |more: &[&str], what: &[&str]| {
        let fixed = ["bench", "--device", "cpu", "--encoder", "none"];
        place.fails(&[&fixed, more].concat(), 2, what);
    };
    refused(&["--seconds", "0.01", "--labels", "100", "--batch", "0"], &["batch"]);
    refused(&["--seconds", "0.01", "--labels", "0"], &["labels"]);
    refused(&["--seconds", "0.01", "--labels", "9", "--fan-in", "900"], &["fan_in", "768"]);
    refused(&["--seconds", "0"], &["--seconds"]);
}
