//! What goes in and what comes out: every layout of data, compressed or not; evaluation, prediction and the verbs that
//! print, each from its output alone.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use naga::valid::{Capabilities, ValidationFlags, Validator};
use serde_json::{Value, json};
use support::cli::Place;

const SPLITS: [&str; 3] = ["train", "dev", "test"];

/// A text and its labels.
type Document = (String, Vec<String>);

fn documents(place: &Place, split: &str) -> Vec<Document> {
    let document = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        (
            serde_json::from_value(line["text"].clone()).unwrap(),
            serde_json::from_value(line["labels"].clone()).unwrap(),
        )
    };
    place.text(&format!("data/{split}.jsonl")).lines().map(document).collect()
}

fn jsonl(documents: &[Document]) -> String {
    documents
        .iter()
        .map(|(text, labels)| json!({"text": text, "labels": labels}).to_string() + "\n")
        .collect()
}

fn texts(documents: &[Document]) -> String {
    documents.iter().map(|(text, _)| text.clone() + "\n").collect()
}

fn with_data() -> Place {
    let place = Place::new();
    place.synth();
    place
}

fn with_run() -> Place {
    let place = with_data();
    place.train("run", &[]);
    place
}

/// `regrow evaluate RUN --json`, without what a clock decides.
fn evaluate(place: &Place, run: &str, more: &[&str]) -> Value {
    let done = place.ok(&[&["evaluate", run, "--json", "--device", "cpu"], more].concat());
    let mut lines = done.json_lines();
    assert_eq!(lines.len(), 1, "{}", done.out);
    let mut object = lines.remove(0);
    assert!(object.as_object_mut().unwrap().remove("seconds").unwrap().as_f64().unwrap() >= 0.0);
    object
}

fn predict(place: &Place, input: &str, more: &[&str]) -> Vec<Value> {
    let done = place.ok(&[&["predict", "run", "--input", input, "--device", "cpu"], more].concat());
    done.json_lines()
}

/// The labels of an answer, best first.
fn labels(answer: &Value) -> Vec<String> {
    let names =
        answer["labels"].as_array().unwrap().iter().map(|entry| entry["label"].as_str().unwrap().to_owned());
    names.collect()
}

/// The corpus of `data` in the other three layouts, in `matrix`, `lines` and `lf`. Labels have the numbers that jsonl
/// gives them, so that the same starting weights fall to the same labels.
fn write_layouts(place: &Place) {
    let corpus: BTreeMap<&str, Vec<Document>> = SPLITS.map(|split| (split, documents(place, split))).into();
    let names: BTreeSet<&String> = corpus.values().flatten().flat_map(|(_, labels)| labels).collect();
    let id: BTreeMap<&String, usize> = names.iter().enumerate().map(|(i, name)| (*name, i)).collect();
    let ids = |document: &Document| document.1.iter().map(|label| id[label]).collect::<Vec<usize>>();
    let list = |format: &dyn Fn(&String) -> String| names.iter().map(|name| format(name)).collect::<String>();
    place.write("matrix/labels.txt", list(&|name| format!("{name}\n")));
    place.write("lf/lbl.json", list(&|name| json!({"uid": name, "title": "a label"}).to_string() + "\n"));
    for (split, (short, long)) in SPLITS.iter().zip([("trn", "train"), ("val", "dev"), ("tst", "test")]) {
        let split = &corpus[split];
        place.write(&format!("matrix/{short}.raw.txt"), texts(split));
        place.write(&format!("lines/{long}_raw_texts.txt"), texts(split));
        let rows =
            |line: &dyn Fn(&Document) -> String| split.iter().map(|d| line(d) + "\n").collect::<String>();
        let matrix = rows(&|document| {
            let entries: Vec<String> = ids(document).iter().map(|id| format!("{id}:1.0")).collect();
            entries.join(" ")
        });
        place.write(&format!("matrix/Y.{short}.txt"), format!("{} {}\n{matrix}", split.len(), names.len()));
        place.write(&format!("lines/{long}_labels.txt"), rows(&|document| document.1.join(" ")));
        let lf = rows(&|document| {
            let (title, content) = document.0.split_once(' ').unwrap();
            json!({"uid": "d", "title": title, "content": content, "target_ind": ids(document)}).to_string()
        });
        place.write(&format!("lf/{short}.json"), lf);
    }
}

#[test]
fn layouts_agree() {
    let place = with_run();
    write_layouts(&place);
    let expected = evaluate(&place, "run", &[]);
    for layout in ["matrix", "lines", "lf"] {
        let run = format!("run-{layout}");
        let done = place.train(&run, &["--data", layout, "--set", &format!("data.format={layout}")]);
        assert!(done.err.contains(&format!("layout {layout}")), "{}", done.err);
        assert_eq!(place.metrics(&run), place.metrics("run"), "{layout}");
        assert_eq!(evaluate(&place, &run, &[]), expected, "{layout}");
        // A model knows its labels by name, whatever the layout they came in.
        assert_eq!(evaluate(&place, "run", &["--data", layout, "--split", "test"]), expected, "{layout}");
    }
}

#[test]
fn compressed_data_are_the_same_data() {
    let place = with_run();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(&place.read("data/train.jsonl")).unwrap();
    place.write("packed/train.jsonl.gz", gz.finish().unwrap());
    place.write("packed/dev.jsonl.zst", zstd::encode_all(&place.read("data/dev.jsonl")[..], 3).unwrap());
    place.write("packed/test.jsonl.zst", zstd::encode_all(&place.read("data/test.jsonl")[..], 3).unwrap());
    place.train("from-packed", &["--data", "packed"]);
    support::cli::assert_same(&place.trained("run"), &place.trained("from-packed"));
    assert_eq!(evaluate(&place, "from-packed", &[]), evaluate(&place, "run", &[]));
    let plain = predict(&place, "data/test.jsonl", &[]);
    assert_eq!(predict(&place, "packed/test.jsonl.zst", &[]), plain);
    assert_eq!(plain.len(), 200);
}

#[test]
fn empty_texts_missing_labels_and_labels_of_test_alone() {
    let place = with_data();
    let mut train = documents(&place, "train");
    train[3].0 = String::new();
    train[8].0 = "  ".into();
    train[5].1.clear();
    let mut test = documents(&place, "test");
    test[0].1 = vec!["of test alone".into(), "of test too".into()];
    test[1].1.clear();
    test[2].1.clear();
    test[7].1.clear();
    test[4].0 = String::new();
    place.write("odd/train.jsonl", jsonl(&train));
    place.write("odd/test.jsonl", jsonl(&test));
    let done = place.train("run", &["--data", "odd"]);
    for part in [
        "62 labels (60 in train, 2 only elsewhere)",
        "train: 400 documents",
        ", 1 without labels, 2 with empty text",
        "test: 200 documents",
        ", 3 without labels, 1 with empty text",
    ] {
        assert!(done.err.contains(part), "{part} is not in {}", done.err);
    }
    // Without a dev split, test is what is measured, and nothing chooses a best model.
    assert!(done.out.starts_with("test, percent\n") && !place.path("run/best").exists(), "{}", done.out);
    let metrics = evaluate(&place, "run", &[]);
    assert_eq!(metrics["documents_without_labels"], 3);
    assert_eq!((&metrics["documents"], &metrics["labels"]), (&json!(200), &json!(62)));
    assert_eq!(metrics["labels_unknown_to_the_model"], 0);
    let table = place.ok(&["evaluate", "run", "--device", "cpu"]).out;
    assert!(table.starts_with("test: 200 documents (3 without labels), 62 labels"), "{table}");

    // A model of the plain data knows neither of the two; they count as truths that it misses.
    place.train("plain", &[]);
    let unknown = evaluate(&place, "plain", &["--data", "odd"]);
    assert_eq!((&unknown["labels"], &unknown["labels_unknown_to_the_model"]), (&json!(60), &json!(2)));
}

#[test]
fn filtered_pairs_are_left_out() {
    let place = with_data();
    write_layouts(&place);
    place.train("run", &["--data", "lf"]);
    let before = evaluate(&place, "run", &[]);
    let dev = evaluate(&place, "run", &["--split", "dev"]);
    assert!(before["P@1"].as_f64().unwrap() > 30.0, "{before}");
    // Every true pair: nothing that is right may be named any more.
    let names: Vec<String> = place.text("run/model/labels.txt").lines().map(str::to_owned).collect();
    let row = |label: &String| names.iter().position(|name| name == label).unwrap();
    let test = documents(&place, "test");
    let pairs: Vec<String> = test
        .iter()
        .enumerate()
        .flat_map(|(d, doc)| doc.1.iter().map(move |l| (d, l)))
        .map(|(d, l)| format!("{d} {}\n", row(l)))
        .collect();
    place.write("lf/filter_labels_test.txt", pairs.concat());
    let after = evaluate(&place, "run", &[]);
    assert_eq!((&after["P@1"], &after["P@5"], &after["R@5"]), (&json!(0.0), &json!(0.0), &json!(0.0)));
    assert_eq!(evaluate(&place, "run", &["--split", "dev"]), dev);
    // Half of the pairs lie between; a config without the filter does not care.
    place.write("lf/filter_labels_test.txt", pairs[..pairs.len() / 2].concat());
    let half = evaluate(&place, "run", &[]);
    let [low, middle, high] = [&after, &half, &before].map(|metrics| metrics["P@1"].as_f64().unwrap());
    assert!(low < middle && middle < high, "{low} {middle} {high}");
    place.train("unfiltered", &["--data", "lf", "--set", "evaluate.filter=false"]);
    assert_eq!(evaluate(&place, "unfiltered", &[])["P@1"], before["P@1"]);
    // A run without dev measures test while it trains, with the filter.
    std::fs::remove_file(place.path("lf/val.json")).unwrap();
    place.train("tested", &["--data", "lf"]);
    assert_eq!(place.epochs("tested")[2]["P@1"], evaluate(&place, "tested", &[])["P@1"]);
}

#[test]
fn evaluate_prints_one_object() {
    let place = with_run();
    let done = place.ok(&["evaluate", "run", "--json", "--device", "cpu"]);
    let object = &done.json_lines()[0];
    assert_eq!(done.out.lines().count(), 1);
    let metrics = ["P", "nDCG", "PSP", "PSnDCG", "R"];
    let metrics: Vec<String> =
        metrics.iter().flat_map(|name| [1, 3, 5].map(|k| format!("{name}@{k}"))).collect();
    for key in metrics.iter().map(String::as_str).chain(["seconds"]) {
        let value = object[key].as_f64().unwrap_or_else(|| panic!("no {key} in {object}"));
        assert!((0.0..=100.0).contains(&value), "{key} is {value}");
    }
    assert_eq!(
        (&object["documents"], &object["labels"], &object["split"]),
        (&json!(200), &json!(60), &json!("test"))
    );
    // The table says the same.
    let table = place.ok(&["evaluate", "run", "--device", "cpu"]).out;
    let row = |name: &str| {
        let cells = [1, 3, 5].map(|k| format!("{:>8.2}", object[format!("{name}@{k}")].as_f64().unwrap()));
        format!("{name:<8}{}", cells.concat())
    };
    for name in ["P", "nDCG", "PSP", "PSnDCG", "R"] {
        assert!(table.contains(&row(name)), "{} is not in\n{table}", row(name));
    }
    // Each split has its own; dev gives what training measured last of the best model.
    assert_eq!(evaluate(&place, "run", &["--split", "train"])["documents"], 400);
    let dev = evaluate(&place, "run", &["--split", "dev"]);
    let best = place.epochs("run").into_iter().rfind(|line| line["best"] == true).unwrap();
    let last = evaluate(&place, "run", &["--split", "dev", "--last"]);
    for key in &metrics {
        assert_eq!(dev[key], best[key], "{key}");
        assert_eq!(last[key], place.epochs("run")[2][key], "{key}");
    }
}

#[test]
fn predict_agrees_with_evaluate() {
    let place = with_run();
    let test = documents(&place, "test");
    place.write("test.txt", texts(&test));
    let answers = predict(&place, "test.txt", &[]);
    let metrics = evaluate(&place, "run", &[]);
    for k in [1, 3, 5] {
        let hits = test.iter().zip(&answers).map(|((_, truth), answer)| {
            labels(answer)[..k].iter().filter(|label| truth.contains(label)).count() as f64 / k as f64
        });
        let precision = 100.0 * hits.sum::<f64>() / test.len() as f64;
        let expected = metrics[format!("P@{k}")].as_f64().unwrap();
        assert!(
            (precision - expected).abs() < 1e-9,
            "P@{k}: {precision} from predict, {expected} from evaluate"
        );
    }
}

#[test]
fn predict_takes_texts_however_they_come() {
    let place = with_run();
    let test = documents(&place, "test");
    place.write("test.txt", texts(&test));
    let answers = predict(&place, "test.txt", &[]);
    assert_eq!(answers.len(), 200);
    for answer in &answers {
        let scores: Vec<f64> =
            answer["labels"].as_array().unwrap().iter().map(|l| l["score"].as_f64().unwrap()).collect();
        assert!(scores.len() == 5 && scores.is_sorted_by(|a, b| a >= b), "{answer}");
        assert_eq!(answer.as_object().unwrap().len(), 1);
    }
    // JSON lines, standard input, another batch, the model folder: the same answers.
    assert_eq!(predict(&place, "data/test.jsonl", &[]), answers);
    for batch in ["1", "7", "200", "1000"] {
        assert_eq!(predict(&place, "test.txt", &["--batch", batch]), answers, "--batch {batch}");
    }
    let piped = place.run_with(&texts(&test), &["predict", "run/best", "--device", "cpu"]);
    assert_eq!((piped.code, piped.json_lines()), (Some(0), answers.clone()), "{}", piped.err);
    // --top cuts the list, or gives all there is.
    let names =
        |answers: &[Value], k: usize| answers.iter().map(|a| labels(a)[..k].to_vec()).collect::<Vec<_>>();
    assert_eq!(names(&predict(&place, "test.txt", &["--top", "2"]), 2), names(&answers, 2));
    for answer in predict(&place, "test.txt", &["--top", "256"]) {
        assert_eq!(labels(&answer).into_iter().collect::<BTreeSet<_>>().len(), 60);
    }
    // Line i of the output belongs to line i of the input, empty ones too; the last needs no line break.
    let mixed = format!("{}\n\n   \n{{\"text\": \"\"}}\n{}", test[3].0, test[4].0);
    let mixed = place.run_with(&mixed, &["predict", "run", "--device", "cpu", "--tokens"]).json_lines();
    assert_eq!(mixed.len(), 5);
    assert_eq!([&mixed[0]["labels"], &mixed[4]["labels"]], [&answers[3]["labels"], &answers[4]["labels"]]);
    assert_eq!([&mixed[1]["tokens"], &mixed[2]["tokens"], &mixed[3]["tokens"]], [&json!([]); 3]);
    assert_eq!(mixed[1], mixed[2]);
    assert!(labels(&mixed[1]).len() == 5 && !mixed[0]["tokens"].as_array().unwrap().is_empty());
    let nothing = place.run_with("", &["predict", "run", "--device", "cpu"]);
    assert_eq!((nothing.code, nothing.out.as_str()), (Some(0), ""), "{}", nothing.err);
}

#[test]
fn predict_may_be_cut_off() {
    let place = with_run();
    let many = place.text("data/test.jsonl").repeat(4);
    place.write("many.jsonl", many);
    let mut command =
        place.command(&["predict", "run", "--input", "many.jsonl", "--top", "60", "--device", "cpu"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("{\"labels\":["), "{first}");
    // Its reader is gone, as in `| head -1`: no error.
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn shaders_are_wgsl() {
    let place = Place::new();
    // f16 taken out of a word, which wgpu has on Vulkan, Metal and DX12.
    let floor = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    let immediates = floor | Capabilities::IMMEDIATES;
    for (folder, more, capabilities) in [("wgsl", &[][..], immediates), ("uniform", &["--uniform"], floor)] {
        let done = place.ok(&[&["shaders", "--dump", folder], more].concat());
        let files = place.snapshot(folder);
        assert_eq!(done.out, format!("{} shaders in {folder}\n", files.len()));
        assert!(files.len() >= regrow::kernels::ALL.len(), "only {:?}", files.keys());
        for (name, text) in files {
            assert!(name.ends_with(".wgsl"), "{name}");
            let module = naga::front::wgsl::parse_str(std::str::from_utf8(&text).unwrap());
            let module = module.unwrap_or_else(|error| panic!("{name}: {error}"));
            // What only some adapters run.
            let mut more = Capabilities::empty();
            if name.starts_with("matmul_cooperative") {
                more |= Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16;
            }
            if name.starts_with("fan_in_group_step") {
                more |= Capabilities::SUBGROUP;
            }
            if ["_pairs.", "_tiles.", "_eights."].iter().any(|part| name.contains(part)) {
                more |= Capabilities::SHADER_INT64;
            }
            let valid = Validator::new(ValidationFlags::all(), capabilities | more).validate(&module);
            valid.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!module.entry_points.is_empty(), "{name} has no entry point");
        }
    }
}

#[test]
fn devices_and_config_are_printed() {
    let place = Place::new();
    let listed = place.ok(&["devices", "--json"]).json_lines();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["cpu"]["device"], "cpu");
    let adapters = listed[0]["adapters"].as_array().unwrap();
    let text = place.ok(&["devices"]).out;
    assert!(text.starts_with("cpu ") && text.contains("--device auto takes "), "{text}");
    for adapter in adapters {
        assert!(text.contains(adapter["name"].as_str().unwrap()), "{text}");
    }
    // What --print-config prints is a config, and says nothing but the defaults.
    let printed = place.ok(&["train", "--print-config"]).out;
    place.write("all.toml", &printed);
    place.synth();
    let few = ["--data", "data", "--device", "cpu", "--set", "train.epochs=1", "--set", "encoder.dim=32"];
    place.ok(&[&["train", "all.toml", "--out", "printed"], &few[..]].concat());
    place.write("none.toml", "");
    place.ok(&[&["train", "none.toml", "--out", "none"], &few[..]].concat());
    assert_eq!(place.text("printed/config.toml"), place.text("none/config.toml"));
}
