//! What the program says to wrong data, configs and command lines: one line that names what and where, the exit code
//! of its documentation, and not a file changed.

mod support;

use std::io::Write as _;

use support::cli::Place;

/// `regrow train` on the CPU into `run`.
fn train<'a>(data: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["train", "tiny.toml", "--data", data, "--out", "run", "--device", "cpu"], more].concat()
}

/// A place whose `data/train.jsonl` is this.
fn with_train(lines: &str) -> Place {
    let place = Place::new();
    place.write("data/train.jsonl", lines);
    place
}

/// A folder of layout matrix whose labels are these rows after their header; three texts.
fn with_matrix(matrix: &str) -> Place {
    let place = Place::new();
    place.write("data/trn.raw.txt", "one\ntwo\nthree\n");
    place.write("data/Y.trn.txt", matrix);
    place
}

const GOOD: &str =
    "{\"text\": \"red apple\", \"labels\": [\"fruit\"]}\n{\"text\": \"blue sky\", \"labels\": [\"air\"]}\n";

#[test]
fn good_data_by_hand_is_good() {
    // Else the tests below would fail for another reason than theirs.
    with_train(GOOD).train("run", &[]);
    with_matrix("3 2\n0:1\n1:1\n0:1 1:1\n").train("run", &[]);
}

#[test]
fn data_folder_missing() {
    Place::new().fails(&train("data/none", &[]), 2, &["data/none", "no such folder"]);
}

#[test]
fn data_folder_not_named() {
    let arguments = ["train", "tiny.toml", "--out", "run", "--device", "cpu"];
    Place::new().fails(&arguments, 2, &["data.path", "--data"]);
}

#[test]
fn data_folder_empty() {
    let place = Place::new();
    std::fs::create_dir(place.path("data")).unwrap();
    place.fails(&train("data", &[]), 2, &["data", "empty"]);
}

#[test]
fn data_folder_without_data() {
    let place = Place::new();
    place.write("data/notes.txt", "nothing");
    place.fails(&train("data", &[]), 2, &["data: ", "train.jsonl", "trn.json", "found notes.txt"]);
}

#[test]
fn data_folder_is_a_file() {
    Place::new().fails(&train("tiny.toml", &[]), 2, &["tiny.toml", "is a file"]);
}

#[test]
fn compressed_data_truncated() {
    let lines = (0..2000)
        .map(|i| format!("{{\"text\": \"word{i} {}\", \"labels\": [{}]}}\n", i * 7919 % 1013, i % 9));
    let lines: String = lines.collect();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(lines.as_bytes()).unwrap();
    let files = [("gz", gz.finish().unwrap()), ("zst", zstd::encode_all(lines.as_bytes(), 3).unwrap())];
    for (end, bytes) in files {
        let place = Place::new();
        let name = format!("data/train.jsonl.{end}");
        place.write(&name, &bytes[..bytes.len() / 2]);
        place.fails(&train("data", &[]), 2, &[&name, "ends early"]);
        let what = if end == "gz" { "not gzip" } else { "damaged" };
        for text in ["this is plain text, not compressed at all", GOOD] {
            place.write(&name, text);
            place.fails(&train("data", &[]), 2, &[&name, what]);
        }
    }
}

#[test]
fn json_errors_have_a_line() {
    let cases: [(&str, &[&str]); 6] = [
        ("{\"text\": \"x\", \"labels\": [\"a\"}", &["not valid JSON"]),
        ("{\"text\": \"x\"}", &["\"labels\"", "missing"]),
        ("{\"labels\": [\"a\"]}", &["\"text\"", "missing"]),
        ("{\"text\": 7, \"labels\": [\"a\"]}", &["\"text\"", "string"]),
        ("{\"text\": \"x\", \"labels\": \"a\"}", &["\"labels\"", "list"]),
        ("[1]", &["object"]),
    ];
    for (line, what) in cases {
        let place = with_train(&format!("{GOOD}{line}\n{GOOD}"));
        place.fails(&train("data", &[]), 2, &[&["data/train.jsonl:3: "], what].concat());
    }
}

#[test]
fn text_that_is_not_utf8_has_a_line() {
    let place = Place::new();
    place.write("data/train.jsonl", [GOOD.as_bytes(), b"{\"text\": \"\xff\", \"labels\": []}\n"].concat());
    place.fails(&train("data", &[]), 2, &["data/train.jsonl:3: ", "UTF-8"]);
}

#[test]
fn texts_and_labels_of_different_length() {
    let place = Place::new();
    place.write("data/train_raw_texts.txt", "one\ntwo\nthree\n");
    place.write("data/train_labels.txt", "a\nb\n");
    let what = ["data/train_raw_texts.txt: ", "3 lines", "data/train_labels.txt has 2"];
    place.fails(&train("data", &[]), 2, &what);

    let rows = with_matrix("2 2\n0:1\n1:1\n");
    rows.fails(&train("data", &[]), 2, &["data/trn.raw.txt: ", "3 lines", "data/Y.trn.txt has 2"]);
}

#[test]
fn labels_file_missing() {
    let place = Place::new();
    place.write("data/train_raw_texts.txt", "one\n");
    place.fails(&train("data", &[]), 2, &["data/train_raw_texts.txt: ", "train_labels.txt"]);
}

#[test]
fn label_matrix_contradicts_its_header() {
    let place = with_matrix("3 2\n0:1\n1:1 2:1\n1:1\n");
    place.fails(&train("data", &[]), 2, &["data/Y.trn.txt:3: ", "label 2", "header's 2 labels"]);
    with_matrix("4 2\n0:1\n1:1\n0:1\n").fails(
        &train("data", &[]),
        2,
        &["data/Y.trn.txt: ", "4 rows", "3 follow"],
    );
    with_matrix("3\n0:1\n1:1\n0:1\n").fails(&train("data", &[]), 2, &["data/Y.trn.txt:1: ", "header"]);
    with_matrix("3 2\n0\n1:1\n0:1\n").fails(&train("data", &[]), 2, &["data/Y.trn.txt:2: ", "label:value"]);
}

#[test]
fn lf_label_outside_of_the_labels() {
    let place = Place::new();
    place.write(
        "data/trn.json",
        "{\"title\": \"a\", \"target_ind\": [0]}\n{\"title\": \"b\", \"target_ind\": [2]}\n",
    );
    place.write("data/lbl.json", "{\"uid\": \"x\"}\n{\"uid\": \"y\"}\n");
    place.fails(&train("data", &[]), 2, &["data/trn.json:2: ", "label number 2", "lbl.json"]);
}

#[test]
fn nothing_to_learn_from() {
    with_train("").fails(&train("data", &[]), 2, &["data/train.jsonl", "no documents"]);
    let unlabelled = "{\"text\": \"a\", \"labels\": []}\n".repeat(20);
    with_train(&unlabelled).fails(&train("data", &[]), 2, &["data/train.jsonl", "no document has a label"]);
    let empty = "{\"text\": \"\", \"labels\": [\"a\"]}\n".repeat(20);
    with_train(&empty).fails(&train("data", &[]), 2, &["data/train.jsonl", "no words"]);
    let place = Place::new();
    place.write("data/test.jsonl", GOOD);
    place.fails(&train("data", &[]), 2, &["data: ", "train.jsonl"]);
}

#[test]
fn split_to_evaluate_missing() {
    let settings = ["--set", "train.evaluate_on=dev"];
    with_train(GOOD).fails_after_start(&train("data", &settings), 2, &["train.evaluate_on"]);
}

#[test]
fn tokenizer_missing_or_broken() {
    let place = with_train(GOOD);
    let settings = ["--set", "encoder.tokenizer=nosuch.json"];
    place.fails(&train("data", &settings), 5, &["nosuch.json"]);
    place.write("broken.json", "{\"model\": 3}");
    let settings = ["--set", "encoder.tokenizer=broken.json"];
    place.fails(&train("data", &settings), 5, &["broken.json", "tokenizer"]);
}

#[test]
fn config_missing_or_no_toml() {
    let place = with_train(GOOD);
    place.fails(&["train", "nosuch.toml", "--data", "data"], 5, &["nosuch.toml", "No such file"]);
    place.write("bad.toml", "[train]\nepochs = 3\nbatch_size 16\n");
    place.fails(&["train", "bad.toml", "--data", "data"], 2, &["bad.toml:3: "]);
    place.fails(&["train", "data", "--data", "data"], 5, &["reading data"]);
    place.write("bad.toml", b"[train]\nepochs = 3\n# caf\xe9\n");
    place.fails(&["train", "bad.toml", "--data", "data"], 2, &["bad.toml:3: ", "UTF-8"]);
}

/// Connections follow documents only where each label has its own, and each may look anywhere.
#[test]
fn connections_that_cannot_follow_documents() {
    let place = with_train(GOOD);
    for setting in ["head=dense", "head=bottleneck", "group=8", "pattern=stratified", "dense_labels=1"] {
        let setting = format!("classifier.{setting}");
        let set = ["--set", "rewire.by_documents=1", "--set", "train.epochs=2", "--set", &setting];
        place.fails(&train("data", &set), 2, &["rewire.by_documents: needs ", "classifier."]);
    }
}

#[test]
fn config_values_that_cannot_work() {
    let cases: [(&str, &[&str]); 32] = [
        ("train.epoch=3", &["train.epoch:", "no such key", "did you mean train.epochs?"]),
        ("train.fan_in=3", &["did you mean classifier.fan_in?"]),
        ("train=3", &["train", "section"]),
        ("train.epochs=many", &["train.epochs", "a whole number", "\"many\""]),
        ("train.epochs=2.5", &["train.epochs", "a whole number", "2.5"]),
        ("train.epochs=-1", &["train.epochs", "-1"]),
        ("train.epochs=0", &["train.epochs", "at least 1"]),
        ("train.batch_size=0", &["train.batch_size", "at least 1"]),
        ("train.batch_size=70000", &["train.batch_size", "65536"]),
        ("train.accumulate=5000", &["config train.accumulate: ", "batch_size = 16", "at most 4096, is 5000"]),
        ("encoder.vocabulary=1", &["config encoder.vocabulary: ", "1 leaves no room", "4 special tokens"]),
        ("classifier.bias_init=x", &["classifier.bias_init: ", "\"x\"", "it must be a number or \"prior\""]),
        ("classifier.bias_init=true", &["classifier.bias_init: ", "a number or a name", "true"]),
        ("encoder.hidden_dropout=mdel", &["encoder.hidden_dropout: ", "it must be a number or \"model\""]),
        ("encoder.freeze=most", &["encoder.freeze: ", "none, embeddings, all, or a number of layers"]),
        ("classifier.bias=maybe", &["classifier.bias", "true or false"]),
        ("classifier.loss=focal", &["classifier.loss", "focal"]),
        ("classifier.fan_in=17", &["classifier.fan_in", "17", "16 features"]),
        ("encoder.hidden=[3]", &["classifier.fan_in", "4", "3 features"]),
        ("encoder.hidden=[-3]", &["encoder.hidden", "-3"]),
        ("encoder.dropout=1", &["encoder.dropout", "below 1"]),
        ("rewire.fraction=1.5", &["rewire.fraction", "from 0 to 1"]),
        ("rewire.by_documents=99", &["rewire.by_documents: is 99", "below train.epochs"]),
        ("optimizer.classifier.lr=0", &["optimizer.classifier.lr", "above 0"]),
        ("optimizer.encoder.lr=nan", &["optimizer.encoder.lr", "above 0", "NaN"]),
        ("optimizer.encoder.lr=inf", &["optimizer.encoder.lr", "above 0", "inf"]),
        ("train.epochs", &["--set train.epochs", "section.key=value"]),
        ("=", &["--set =", "section.key=value"]),
        ("train.=3", &["--set train.=3", "section.key=value"]),
        ("a.b=c", &["config a.b: there is no such key"]),
        ("train.epochs=1\nseed=7", &["--set", "train.epochs=1\\nseed=7", "line break"]),
        ("train.epochs=1\rseed=7", &["line break"]),
    ];
    let place = with_train(GOOD);
    for (setting, what) in cases {
        let done = place.fails(&train("data", &["--set", setting]), 2, what);
        assert!(what.iter().any(|what| what.contains("did you mean")) || !done.err.contains("did you mean"));
    }
    // In the file as on the command line.
    place.write("tiny.toml", "[classifier]\nfan_inn = 4\n");
    place.fails(&train("data", &[]), 2, &["classifier.fan_inn", "did you mean classifier.fan_in?"]);
}

#[test]
fn adapter_that_is_not_there() {
    let place = with_train(GOOD);
    let with_device = |device| {
        let arguments = ["train", "tiny.toml", "--data", "data", "--out", "run", "--device", device];
        let what = if device.trim().is_empty() { "is empty" } else { "no adapter matches" };
        place.fails(&arguments, 3, &["device: ", what, device, "there are: cpu, 0 = "]);
    };
    place.first_adapter();
    with_device("no such adapter");
    with_device("99");
    // What an unset variable gives.
    with_device("");
    with_device(" ");
}

#[test]
fn no_adapter_at_all() {
    let place = with_train(GOOD);
    let without_driver = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env("VK_DRIVER_FILES", "/nonexistent.json").env("VK_ICD_FILENAMES", "/nonexistent.json");
        command.output().unwrap()
    };
    if cfg!(target_os = "macos") || cfg!(windows) {
        return; // Metal and DX12 are part of the system
    }
    let before = place.snapshot("");
    let device = ["train", "tiny.toml", "--data", "data", "--out", "run", "--device", "0"];
    let output = without_driver(&device);
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{err}");
    let last = err.lines().last().unwrap();
    assert!(last.starts_with("regrow: device: no GPU adapter") && last.contains("--device cpu"), "{err}");
    assert!(before == place.snapshot(""), "a file was changed");
    // The processor needs none.
    let auto = without_driver(&["train", "tiny.toml", "--data", "data", "--out", "run"]);
    assert_eq!(auto.status.code(), Some(0), "{}", String::from_utf8_lossy(&auto.stderr));
    let devices = String::from_utf8(without_driver(&["devices"]).stdout).unwrap();
    assert!(devices.contains("no GPU adapter") && devices.contains("--device auto takes cpu"), "{devices}");
}

#[test]
fn wrong_command_lines() {
    // The parser of the command line has its own way to say it.
    let place = Place::new();
    for arguments in
        [&["frobnicate"][..], &["train"], &["train", "tiny.toml", "--resume", "--fresh"], &["synth", "x"]]
    {
        let done = place.run(arguments);
        assert_eq!(done.code, Some(2), "{}", done.err);
        assert!(done.err.starts_with("error: ") && done.err.contains("Usage: regrow"), "{}", done.err);
    }
    place.fails(&["synth", "x", "--labels", "0", "--docs", "10"], 2, &["label"]);
    place.fails(&["synth", "tiny.toml", "--labels", "4", "--docs", "10"], 5, &["tiny.toml"]);
    place.fails(&["shaders", "--dump", "tiny.toml"], 5, &["tiny.toml"]);
}

#[test]
fn more_labels_or_threads_than_there_can_be() {
    with_matrix("3 4000000000\n0:1\n1:1\n2:1\n").fails(
        &train("data", &[]),
        2,
        &["Y.trn.txt:1", "more labels than 2147483647"],
    );
    with_train(GOOD).fails(&train("data", &["--threads", "20000"]), 2, &["--threads", "at most 1024"]);
}
