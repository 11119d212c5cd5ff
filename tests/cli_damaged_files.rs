//! Folders that are no runs, damaged checkpoints and models, full disks, diverged losses: what is there stays as it is,
//! and one line says what is wrong.

mod support;

use std::fs::{self, File};

use support::cli::{Done, Place, assert_same, failed};

const CPU: [&str; 2] = ["--device", "cpu"];

/// A place with data and the finished run `run`.
fn finished() -> Place {
    let place = Place::new();
    place.synth();
    place.train("run", &[]);
    place
}

/// `regrow train` on the CPU into `run`.
fn train<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["train", "tiny.toml", "--data", "data", "--out", "run", "--device", "cpu"], more].concat()
}

fn kill(child: &mut std::process::Child) {
    // An error means that it has ended already, which the caller finds out.
    let _ = child.kill();
}

/// Every way to break a file of tensors: what is done to it, the bytes after, and what the message says.
fn damages(whole: &[u8], other: &[u8]) -> Vec<(Vec<u8>, &'static str)> {
    let changed = |at: usize| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let garbage: Vec<u8> = (0..whole.len()).map(|i| (i * 131 + 7) as u8).collect();
    vec![
        (changed(whole.len() - 1), "damaged (checksum differs) in its tensors"),
        (changed(whole.len() / 2), "damaged (checksum differs) in its tensors"),
        (changed(8 + 25), "damaged (checksum differs) in its tensors"), // a digit of the checksum itself
        (whole[..whole.len() - 1].to_vec(), "no intact safetensors file"),
        (whole[..whole.len() / 2].to_vec(), "no intact safetensors file"),
        (whole[..20].to_vec(), "no intact safetensors file"),
        (Vec::new(), "no intact safetensors file"),
        (garbage, "no intact safetensors file"),
        (other.to_vec(), "safetensors"),
    ]
}

#[test]
fn damaged_checkpoint() {
    let place = finished();
    let name = "run/checkpoint.safetensors";
    let (whole, model) = (place.read(name), place.read("run/model/model.safetensors"));
    for (bytes, what) in damages(&whole, &model) {
        place.write(name, bytes);
        place.fails(&train(&["--resume"]), 5, &[name, what]);
    }
    place.write(name, whole);
    place.train("run", &["--resume"]);
}

#[test]
fn damaged_model() {
    let place = finished();
    let name = "run/best/model.safetensors";
    let (whole, checkpoint) = (place.read(name), place.read("run/checkpoint.safetensors"));
    place.write("texts", "one\n");
    let mut cases = damages(&whole, b"");
    // A checkpoint has the tensors of a model and more, but not how often a label occurs.
    cases.push((checkpoint, "labels.train_frequency"));
    for (bytes, what) in cases {
        place.write(name, bytes);
        place.fails(&["evaluate", "run", "--device", "cpu"], 5, &[name, what]);
        place.fails(&["predict", "run", "--input", "texts", "--device", "cpu"], 5, &[name, what]);
    }
}

#[test]
fn files_missing_or_broken_beside_the_model() {
    let place = finished();
    place.write("texts", "one\n");
    for file in ["labels.txt", "tokenizer.json", "config.json"] {
        let name = format!("run/best/{file}");
        let whole = place.read(&name);
        let both = |what: &[&str]| {
            place.fails(&["evaluate", "run", "--device", "cpu"], 5, what);
            place.fails(&["predict", "run", "--input", "texts", "--device", "cpu"], 5, what);
        };
        std::fs::remove_file(place.path(&name)).unwrap();
        both(&["run/best", file, "No such file"]);
        place.write(&name, "");
        both(&[&name]);
        place.write(&name, &whole[..whole.len() / 2]);
        // Half of the labels are a good file, but not that of the model.
        let of_labels = [name.as_str(), "labels, but the model"];
        let of_file = [name.as_str()];
        both(if file == "labels.txt" { &of_labels } else { &of_file });
        place.write(&name, whole);
    }
    // What belongs to another model of the same kind.
    place.train("other", &["--set", "encoder.vocabulary=100"]);
    place.write("run/best/tokenizer.json", place.read("other/best/tokenizer.json"));
    place.fails(
        &["evaluate", "run", "--device", "cpu"],
        5,
        &["run/best/model.safetensors", "encoder.embedding"],
    );
}

#[test]
fn folders_that_are_no_runs() {
    let place = finished();
    place.write("mine/thesis.txt", "years of work");
    place.write("mine/model/model.safetensors", "also mine");
    for start in [&[][..], &["--resume"], &["--fresh"]] {
        let mut arguments = train(start);
        arguments[5] = "mine";
        place.fails(&arguments, 2, &["mine", "no run", "--out"]);
        // A config alone is no run either: it may be somebody's own.
        place.write("configs/config.toml", "[train]\nepochs = 1\n");
        arguments[5] = "configs";
        place.fails(&arguments, 2, &["configs", "no run"]);
        arguments[5] = "tiny.toml";
        place.fails(&arguments, 5, &["tiny.toml"]);
    }
    for verb in ["evaluate", "predict"] {
        place.fails(&[verb, "mine"], 5, &["mine", "no run", "config.toml"]);
        place.fails(&[verb, "nosuch"], 5, &["nosuch", "no run"]);
    }
}

#[test]
fn a_run_is_there_already() {
    let place = finished();
    place.fails(&train(&[]), 2, &["run holds a run", "--resume", "--fresh"]);
    let other = ["--resume", "--set", "train.epochs=4", "--set", "optimizer.classifier.lr=0.01"];
    place.fails(&train(&other), 2, &["train.epochs", "optimizer.classifier.lr", "--fresh"]);
    // What is wrong with device, data or config does not cost the run.
    place.fails(&train(&["--fresh", "--set", "train.epochs=0"]), 2, &["train.epochs"]);
    let mut arguments = train(&["--fresh"]);
    arguments[3] = "nosuch";
    place.fails(&arguments, 2, &["nosuch"]);
    arguments[3] = "data";
    arguments[7] = "no such adapter";
    place.fails(&arguments, 3, &["no such adapter"]);
    std::fs::create_dir(place.path("half")).unwrap();
    std::fs::copy(place.path("data/train.jsonl"), place.path("half/train.jsonl")).unwrap();
    arguments[3] = "half";
    arguments[7] = "cpu";
    place.fails(&[&arguments[..], &["--set", "train.evaluate_on=dev"]].concat(), 2, &["train.evaluate_on"]);
    // Other data, other labels: the checkpoint does not fit.
    place.write("half/train.jsonl", "{\"text\": \"a b\", \"labels\": [\"x\"]}\n");
    arguments[8] = "--resume";
    place.fails(&arguments, 5, &["run/checkpoint.safetensors", "other data"]);
    // --fresh does what it says.
    let before = place.trained("run");
    place.train("run", &["--fresh", "--set", "train.seed=7"]);
    assert!(before != place.trained("run"));
    assert_eq!(place.epochs("run").len(), 3);
}

#[test]
fn a_run_that_was_killed_while_it_began() {
    let place = finished();
    place.write("early/config.toml.tmp-99999999", "[train]\nepo");
    place.write("early/metrics.jsonl", "");
    place.train("early", &["--resume"]);
    assert_same(&place.trained("early"), &place.trained("run"));
    place.write("early2/metrics.jsonl", "");
    place.train("early2", &[]);
    assert_same(&place.trained("early2"), &place.trained("run"));
}

#[test]
fn splits_and_texts_that_are_not_there() {
    let place = finished();
    place.write("half/train.jsonl", place.read("data/train.jsonl"));
    place.fails(
        &[&["evaluate", "run", "--data", "half"][..], &CPU].concat(),
        2,
        &["half: ", "no test split"],
    );
    let dev = ["evaluate", "run", "--data", "half", "--split", "dev"];
    place.fails(&[&dev[..], &CPU].concat(), 2, &["half: ", "no dev split"]);
    place.fails(
        &[&["evaluate", "run", "--data", "gone"][..], &CPU].concat(),
        2,
        &["gone: ", "no such folder"],
    );
    place.fails(&[&["predict", "run", "--input", "nosuch"][..], &CPU].concat(), 5, &["nosuch"]);
    let predict = |more: &[&str], code, what: &[&str]| {
        place.fails(&[&["predict", "run", "--input", "texts"], &CPU[..], more].concat(), code, what);
    };
    // The lines before the wrong one are answered, in whatever batches.
    let cases: [(&[u8], usize, &[&str]); 3] = [
        (b"one\n{\"text\": \"two\"}\n{\"text\": 3}\nfour\n", 2, &["texts:3: ", "\"text\"", "string"]),
        (b"one\n{\"text\": \"two\n", 1, &["texts:2: ", "not valid JSON"]),
        (b"one\n\xff\n", 1, &["texts:2: ", "UTF-8"]),
    ];
    for (texts, answered, what) in cases {
        place.write("texts", texts);
        for batch in ["1", "2", "64"] {
            let predict = ["predict", "run", "--input", "texts", "--batch", batch];
            let done = place.run(&[&predict, &CPU[..]].concat());
            failed(&done, 2, what);
            assert_eq!(done.json_lines().len(), answered, "{}", done.out);
        }
    }
    predict(&["--top", "0"], 2, &["--top must be 1 to 256, is 0"]);
    predict(&["--top", "300"], 2, &["--top must be 1 to 256, is 300"]);
    predict(&["--batch", "0"], 2, &["--batch", "is 0"]);
    predict(&["--batch", "100000"], 2, &["--batch", "is 100000"]);
    let broken = place.run_with("{oops\n", &[&["predict", "run"][..], &CPU].concat());
    failed(&broken, 2, &["standard input:1: ", "not valid JSON"]);
}

#[cfg(unix)]
#[test]
fn full_disk_during_training() {
    let place = Place::new();
    place.synth();
    let settings = ["--set", "train.epochs=40", "--set", "train.checkpoint_every=4"];
    let whole = place.train("whole", &settings);
    place.stopped("run", &settings, kill);
    let files = || {
        let mut files = place.snapshot("run");
        // The log grows with every rewiring; a checkpoint knows how long it was.
        files.remove("metrics.jsonl");
        files.retain(|name, _| !name.contains(".tmp-"));
        files
    };
    let unfinished = || -> Vec<String> {
        place.snapshot("run").into_keys().filter(|name| name.contains(".tmp-")).collect()
    };
    // The kill may have left one.
    let (before, left_before) = (files(), unfinished());
    let resume = [&train(&settings)[..], &["--resume"]].concat();
    let done = place.limited(60, &resume);
    // What is due next: the checkpoint, or at the end of an epoch the model.
    failed(&done, 5, &["writing run/", ".safetensors: ", "free some space", "untouched"]);
    assert_same(&before, &files());
    let left = unfinished();
    assert!(left.iter().all(|name| left_before.contains(name)), "{left:?}, before {left_before:?}");
    place.ok(&["evaluate", "run", "--device", "cpu"]);
    let resumed = place.ok(&resume);
    assert_eq!(resumed.out.replace("run: run", ""), whole.out.replace("run: whole", ""));
    assert_same(&place.trained("run"), &place.trained("whole"));
    assert_eq!(place.metrics("run"), place.metrics("whole"));
}

#[cfg(unix)]
#[test]
fn full_disk_elsewhere() {
    let place = Place::new();
    place.synth();
    let data = || {
        let mut files = place.snapshot("data");
        files.remove("synth.json"); // says now that the data are not finished
        files
    };
    let before = data();
    let done = place.limited(20, &train(&[]));
    failed(&done, 5, &["writing ", "cache", "free some space"]);
    assert!(!place.path("run").exists());
    let done = place.limited(4, &["synth", "data", "--labels", "60", "--docs", "400", "--seed", "2"]);
    failed(&done, 5, &["writing data", "free some space"]);
    assert_same(&before, &data());
    assert!(place.text("data/synth.json").contains("\"finished\": false"));
    let done = place.limited(1, &["shaders", "--dump", "wgsl"]);
    failed(&done, 5, &["writing wgsl", "free some space"]);
}

#[cfg(target_os = "linux")]
#[test]
fn full_disk_behind_standard_output() {
    let place = finished();
    place.write("texts", "one\ntwo\n");
    for arguments in [
        &["evaluate", "run", "--device", "cpu"][..],
        &["predict", "run", "--input", "texts", "--device", "cpu"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = place.command(arguments).stdout(full).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        let done = Done { code: output.status.code(), out: String::new(), err };
        failed(&done, 5, &["writing standard output"]);
    }
}

/// At the end of an epoch the checkpoint and the model belong together: where the model cannot be written, a run that
/// goes on must do the end of that epoch again, also when the epoch's last step was one for a checkpoint.
#[cfg(unix)]
#[test]
fn the_end_of_an_epoch_is_not_lost() {
    let place = Place::new();
    place.synth();
    let settings = ["--set", "train.checkpoint_every=5"];
    place.train("whole", &settings);
    failed(&place.limited(60, &train(&settings)), 5, &["writing run/"]);
    let resume = [&train(&settings)[..], &["--resume"]].concat();
    // A folder in the place of the model: renaming onto it fails, whoever the user is.
    for expected in ["run/best/model.safetensors", "run/model/model.safetensors"] {
        std::fs::create_dir_all(place.path(expected).join("x")).unwrap();
        failed(&place.run(&resume), 5, &["writing ", expected]);
        std::fs::remove_dir_all(place.path(expected)).unwrap();
    }
    place.ok(&resume);
    assert_same(&place.trained("run"), &place.trained("whole"));
    assert_eq!(place.metrics("run"), place.metrics("whole"));
}

#[test]
fn diverged_at_once() {
    let place = Place::new();
    place.synth();
    let sgd = ["--set", "optimizer.classifier.kind=sgd", "--set", "optimizer.classifier.warmup_steps=0"];
    for (lr, more, what) in [
        ("optimizer.classifier.lr=1e30", &[][..], &["the loss became", "at step ", "learning rate"][..]),
        // One step an epoch: no loss tells of it before the weights would be saved.
        (
            "optimizer.classifier.lr=3e38",
            &["--set", "train.batch_size=400", "--set", "classifier.reduction=sum"],
            &["classifier.", "inf", "at step 1:", "learning rate"],
        ),
    ] {
        let done = place.run(&[&train(&sgd)[..], &["--set", lr, "--fresh"], more].concat());
        failed(&done, 4, what);
        let saved: Vec<String> =
            place.snapshot("run").into_keys().filter(|n| n.ends_with(".safetensors")).collect();
        assert!(saved.is_empty(), "{saved:?}");
    }
}

#[test]
fn diverged_later() {
    let place = Place::new();
    place.synth();
    let rate = |lr: &'static str| ["--set", "optimizer.classifier.kind=sgd", "--set", lr];
    let long = ["--set", "train.epochs=60", "--set", "optimizer.classifier.warmup_steps=0"];
    let good = [&rate("optimizer.classifier.lr=2.5")[..], &long].concat();
    place.stopped("run", &good, kill);
    // A run cannot change its config, so the test does.
    let config = place.text("run/config.toml");
    assert_eq!(config.matches("lr = 2.5\n").count(), 1, "{config}");
    place.write("run/config.toml", config.replace("lr = 2.5\n", "lr = 1e30\n"));
    let before = place.trained("run");
    let bad = [&train(&rate("optimizer.classifier.lr=1e30"))[..], &long, &["--resume"]].concat();
    let done = place.run(&bad);
    failed(&done, 4, &["the loss became", "at step ", "the last checkpoint is untouched"]);
    assert_same(&before, &place.trained("run"));
    // It is still good for going on.
    place.write("run/config.toml", config);
    place.ok(&["evaluate", "run", "--device", "cpu"]);
    place.train("run", &[&good[..], &["--resume"]].concat());
    assert_eq!(place.epochs("run").len(), 60);
}

/// Two runs in one folder would write over each other.
#[test]
fn a_folder_that_another_process_trains_into_is_left_alone() {
    let place = finished();
    let lock = File::options().write(true).open(place.path("run/run.lock")).unwrap();
    lock.lock().unwrap();
    for more in ["--resume", "--fresh"] {
        place.fails(&train(&[more]), 2, &["another process trains into run", "--out"]);
    }
    // Who only reads needs no lock.
    place.ok(&["evaluate", "run", "--device", "cpu"]);
    drop(lock);
    place.ok(&train(&["--resume"]));
    place.ok(&train(&["--fresh"]));
}

#[test]
fn a_run_that_has_no_model_yet_says_so() {
    let place = finished();
    fs::remove_dir_all(place.path("run/best")).unwrap();
    fs::remove_file(place.path("run/model/model.safetensors")).unwrap();
    for verb in ["evaluate", "predict"] {
        let what = ["run/model", "no model yet", "--resume"];
        failed(&place.run(&[verb, "run", "--device", "cpu"]), 5, &what);
    }
}
