//! `regrow report`: the page of real runs shows the numbers of their files, and runs that lack something, or are damaged,
//! give a smaller page or one line.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use support::cli::Place;
use support::page::{assert_sound, cells, figure, path_points, ticks};

/// The lines of metrics.jsonl with this event, clocks included.
fn lines(place: &Place, run: &str, event: &str) -> Vec<Value> {
    let text = place.text(&format!("{run}/metrics.jsonl"));
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == event).collect()
}

fn number(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or_else(|| panic!("no {key} in {line}"))
}

/// The plotted points of the run at this place, in the units of the axes, from where the ticks are.
fn plotted(page: &str, id: &str, place: usize) -> Vec<(f64, f64)> {
    let figure = figure(page, id);
    let [x, y] = ["x", "y"].map(|axis| {
        let ticks = ticks(figure, axis);
        let ((at, value), (end, last)) = (ticks[0], ticks[ticks.len() - 1]);
        assert!(ticks.len() >= 2, "{id}: {ticks:?}");
        move |pixel: f64| value + (pixel - at) * (last - value) / (end - at)
    });
    path_points(figure, place).into_iter().map(|(px, py)| (x(px), y(py))).collect()
}

/// Two runs on one page, each of its curves taken back from where it is drawn: 192 units are the height of a chart, and
/// places have two decimals.
#[test]
fn two_runs_on_one_page() {
    let place = Place::new();
    place.synth();
    place.train("first", &[]);
    place.train("second", &["--set", "classifier.fan_in=8", "--set", "train.epochs=4"]);
    let done = place.ok(&["report", "first", "second", "--out", "page.html"]);
    assert_eq!(done.out, "report: page.html\n");
    let page = place.text("page.html");
    assert_sound(&page);

    for (at, run) in ["A first", "B second"].into_iter().enumerate() {
        let (row, run) = (run, &run[2..]);
        let epochs = lines(&place, run, "epoch");
        for (id, key) in
            [("loss", "loss"), ("p-1", "P@1"), ("psp-5", "PSP@5"), ("r-5", "R@5"), ("seconds", "seconds")]
        {
            let drawn = plotted(&page, id, at);
            assert_eq!(drawn.len(), epochs.len(), "{run} {id}");
            let highest = ticks(figure(&page, id), "y").iter().fold(0.0_f64, |a, tick| a.max(tick.1.abs()));
            for ((x, y), epoch) in drawn.iter().zip(&epochs) {
                assert!((x - number(epoch, "epoch")).abs() < 1e-3, "{run} {id}: {x}");
                assert!((y - number(epoch, key)).abs() < 1e-3 * highest, "{run} {id}: {y} in {epoch}");
            }
        }
        let rewirings = lines(&place, run, "rewire");
        assert!(!rewirings.is_empty(), "{run} was not rewired");
        for ((step, pruned), line) in plotted(&page, "pruned", at).iter().zip(&rewirings) {
            assert!((step - number(line, "step")).abs() < 0.05, "{run}: {step} in {line}");
            assert!((pruned - number(line, "pruned")).abs() < 0.1, "{run}: {pruned} in {line}");
        }
        let rows = cells(&page, "results", row);
        let last = &epochs[epochs.len() - 1];
        let shown = ["P@1", "P@3", "P@5", "PSP@1", "PSP@3", "PSP@5", "nDCG@5", "R@5"];
        let shown: Vec<String> = shown.iter().map(|key| format!("{:.2}", number(last, key))).collect();
        assert_eq!(rows[0][1], "dev");
        assert_eq!(rows[0][2], epochs.len().to_string());
        let without_marks: Vec<&str> = rows[0][3..].iter().map(|cell| cell.trim_end_matches(" ★")).collect();
        assert_eq!(without_marks, shown);
    }
    best_values_are_marked(&page);
    // What differs, and what both have in common.
    assert_eq!(cells(&page, "settings", "classifier.fan_in"), [["classifier.fan_in", "4", "8", "32"]]);
    assert_eq!(cells(&page, "settings", "train.epochs"), [["train.epochs", "3", "4", "10"]]);
    assert_eq!(cells(&page, "settings", "encoder.dim"), [["encoder.dim", "16", "256"]]);
    assert_eq!(cells(&page, "settings", "data.path"), [["data.path", "data", "–"]]);
    assert!(!page.contains(&*place.path("").to_string_lossy()), "the page tells where its data lie");
    weights_are_counted(&place, &page);
    memory_is_shown(&place, &page);

    // The same folders give the same bytes, and a page may be replaced.
    place.ok(&["report", "first", "second", "--out", "page.html"]);
    assert_eq!(place.text("page.html"), page);
}

/// In each column of the results the larger of the two is marked, or both if they are equal.
fn best_values_are_marked(page: &str) {
    let [first, second] = ["A first", "B second"].map(|run| cells(page, "results", run).swap_remove(0));
    for (a, b) in first.iter().zip(&second).skip(3) {
        let value = |cell: &str| cell.trim_end_matches(" ★").parse::<f64>().unwrap();
        let [marked_a, marked_b] = [a, b].map(|cell| cell.ends_with('★'));
        assert!(marked_a || marked_b, "{a} {b}");
        if (value(a) - value(b)).abs() > 0.005 {
            assert_eq!((marked_a, marked_b), (value(a) > value(b), value(b) > value(a)), "{a} {b}");
        }
    }
}

/// The model's own file, read by the reference reader of its format.
fn weights_are_counted(place: &Place, page: &str) {
    for (row, run, fan_in) in [("A first", "first", 4), ("B second", "second", 8)] {
        let file = place.read(&format!("{run}/best/model.safetensors"));
        let file = safetensors::SafeTensors::deserialize(&file).unwrap();
        let bytes = |name: &str| file.tensor(name).unwrap().data().to_vec();
        let mut degrees = [0_u64; 16];
        for index in bytes("classifier.indices").chunks(2) {
            degrees[usize::from(u16::from_le_bytes([index[0], index[1]]))] += 1;
        }
        degrees.sort_unstable();
        let weights: Vec<f32> = bytes("classifier.weights")
            .chunks(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
            .collect();
        let zeros = weights.iter().filter(|weight| **weight == 0.0).count();
        let row = cells(page, "classifier", row).swap_remove(0);
        assert_eq!(row[1], (60 * fan_in).to_string());
        assert_eq!(row[2], format!("{:.2} %", 100.0 * zeros as f64 / weights.len() as f64));
        // Sixteen features: the eighth and ninth are both in the middle; of the falling list it is the ninth.
        assert_eq!(row[6], format!("{} / {} / {}", degrees[0], degrees[7], degrees[15]));
        assert_eq!(row[7], "none");
        let largest = weights.iter().fold(0.0_f32, |a, w| a.max(w.abs()));
        assert!((row[5].parse::<f32>().unwrap() / largest - 1.0).abs() < 0.006, "{} {largest}", row[5]);
    }
    let train = place.text("data/train.jsonl");
    let mut frequencies: BTreeMap<String, u64> = BTreeMap::new();
    for line in train.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        line["labels"]
            .as_array()
            .unwrap()
            .iter()
            .for_each(|label| *frequencies.entry(label.to_string()).or_default() += 1);
    }
    let most = frequencies.values().max().unwrap();
    let few = frequencies.values().filter(|count| (1..=5).contains(*count)).count();
    let row = cells(page, "labels", "all").swap_remove(0);
    assert_eq!(row[7], most.to_string());
    assert!(row[3].starts_with(&format!("{few} (")), "{row:?}");
}

fn memory_is_shown(place: &Place, page: &str) {
    let bytes = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value} is no number of bytes"));
    let kibibytes =
        |bytes: u64| format!("{:.*} KiB", if bytes < 102_348 { 1 } else { 0 }, bytes as f64 / 1024.0);
    for (row, run) in [("A first", "first"), ("B second", "second")] {
        let json = |name: &str| serde_json::from_str::<Value>(&place.text(&format!("{run}/{name}"))).unwrap();
        let (plan, memory) = (json("plan.json"), json("memory.json"));
        let purposes: u64 = plan["purposes"].as_array().unwrap().iter().map(|p| bytes(&p["bytes"])).sum();
        assert_eq!(purposes, bytes(&plan["memory"]["bytes"]));
        assert_eq!(plan.get("available_bytes"), None);
        let row = cells(page, "memory", row).swap_remove(0);
        assert_eq!(row[1], kibibytes(bytes(&plan["memory"]["peak_bytes"])));
        assert_eq!(row[2], kibibytes(bytes(&memory["buffers_peak_bytes"])));
        // What is planned is what is taken, but for what a readback or a selection takes for a moment.
        let [planned, taken] = [&plan["memory"]["peak_bytes"], &memory["buffers_peak_bytes"]].map(bytes);
        assert!(taken >= bytes(&plan["memory"]["bytes"]) && taken < 2 * planned, "{planned} {taken}");
    }
}

/// One epoch without evaluation and rewiring; a run that diverged; one that was killed as it began; one of an older
/// version. Each alone and all together give a page that holds no number that is none.
#[test]
fn runs_that_lack_something() {
    let place = Place::new();
    place.synth();
    place.train(
        "short",
        &["--set", "train.epochs=1", "--set", "train.evaluate_on=none", "--set", "rewire.mode=off"],
    );
    let diverging = ["train", "tiny.toml", "--data", "data", "--device", "cpu", "--out", "diverged"];
    let rate = [
        "optimizer.classifier.kind=sgd",
        "optimizer.classifier.lr=1e30",
        "optimizer.classifier.warmup_steps=0",
    ];
    let rate = rate.map(|setting| ["--set", setting]).concat();
    assert_eq!(place.run(&[&diverging[..], &rate].concat()).code, Some(4));
    place.write("begun/config.toml", "");
    place.write("begun/metrics.jsonl", "");
    place.write("old/config.toml", "");
    place.write(
        "old/metrics.jsonl",
        "{\"event\":\"rewire\",\"step\":2,\"pruned\":0,\"pruned_again\":0,\"regrown\":0}\n\
         {\"event\":\"epoch\",\"epoch\":1,\"step\":3,\"loss\":null}\n{\"event\":\"epo",
    );
    let runs = ["short", "diverged", "begun", "old"];
    let report = |runs: &[&str]| {
        place.ok(&[&["report"], runs, &["--out", "page.html"]].concat());
        let page = place.text("page.html");
        assert_sound(&page);
        page
    };
    let pages: BTreeMap<&str, String> = runs.iter().map(|run| (*run, report(&[run]))).collect();
    let shown = |run: &str| -> BTreeSet<String> {
        pages[run].split("<figure id=\"").skip(1).map(|f| f[..f.find('"').unwrap()].to_owned()).collect()
    };
    assert!(
        shown("short")
            .is_superset(&["loss", "seconds", "weights", "degrees", "plan"].map(String::from).into())
    );
    assert!(!shown("short").contains("p-1") && !shown("short").contains("pruned"));
    assert!(
        pages["short"].contains("No epoch was ranked")
            && pages["short"].contains("No connection was rewired")
    );
    assert_eq!(shown("diverged"), ["plan".to_owned()].into());
    assert!(pages["diverged"].contains("0 of 3 epochs are logged, up to step 0"), "{}", pages["diverged"]);
    assert_eq!(shown("begun"), BTreeSet::new());
    assert!(pages["begun"].contains("No memory plan is saved with the run"));
    assert_eq!(shown("old"), ["pruned".to_owned()].into());
    assert!(pages["old"].contains("the last line of its log was cut off"));
    let together = report(&runs);
    assert!(together.contains("No memory plan is saved") || together.contains("id=\"plan\""));
}

/// What other versions of regrow log: slices of the labels, turnover, thresholds.
#[test]
fn slices_and_thresholds() {
    let place = Place::new();
    place.write("run/config.toml", "");
    let rewire = |step: u32, threshold: f64| {
        format!(
            "{{\"event\":\"rewire\",\"step\":{step},\"pruned\":5,\"pruned_again\":1,\"turnover\":0.25,\
             \"threshold\":{threshold}}}\n"
        )
    };
    let slice = |labels: u32, recall: f64| {
        format!(
            "{{\"labels\":{labels},\"train_frequency\":[2,1900],\"positives_share\":33.5,\"R@5\":{recall}}}"
        )
    };
    let epoch = format!(
        "{{\"event\":\"epoch\",\"epoch\":1,\"step\":9,\"loss\":1,\"split\":\"test\",\"P@1\":50,\"slices\":{{\"head\":{},\
         \"tail\":{}}}}}\n",
        slice(3, 64.0),
        slice(1234, 16.0)
    );
    place.write("run/metrics.jsonl", rewire(2, 0.02) + &rewire(4, 0.01) + &epoch);
    place.ok(&["report", "run"]);
    let page = place.text("report.html");
    assert_sound(&page);
    assert_eq!(
        cells(&page, "frequency", "run")[1][..5],
        ["run", "tail", "1,234", "2 to 1,900", "33.50"].map(str::to_owned)
    );
    // The bar of the head is four times as long as that of the tail.
    let bars = figure(&page, "slice-recall");
    let widths: Vec<f64> = bars
        .split(" width=\"")
        .skip(1)
        .map(|rest| rest[..rest.find('"').unwrap()].parse().unwrap())
        .collect();
    assert!(widths.len() == 2 && (widths[0] / widths[1] - 4.0).abs() < 1e-3, "{widths:?}");
    for (id, values) in
        [("turnover", [25.0, 25.0]), ("pruned-again", [20.0, 20.0]), ("threshold", [0.02, 0.01])]
    {
        let drawn = plotted(&page, id, 0);
        for ((_, y), value) in drawn.iter().zip(values) {
            assert!((y / value - 1.0).abs() < 1e-3, "{id}: {drawn:?}");
        }
    }
}

/// Names and settings that would be markup.
#[test]
fn texts_stand_for_themselves() {
    let place = Place::new();
    let run = "a<b>&'c";
    place.write(&format!("{run}/config.toml"), "[encoder]\ntokenizer = '<script src=\"http://x\">'\n");
    place.write(&format!("{run}/metrics.jsonl"), "");
    place.ok(&["report", run]);
    let page = place.text("report.html");
    assert!(page.contains("<title>a&lt;b&gt;&amp;&#39;c</title>"), "{page}");
    assert!(page.contains("&lt;script src=&quot;http://x&quot;&gt;"), "{page}");
    assert!(!page.contains("<script") && !page.contains("<b>&'c"), "{page}");
}

#[test]
fn what_is_wrong_is_one_line() {
    let place = Place::new();
    for run in ["a/run", "b/run", "c"] {
        place.write(&format!("{run}/config.toml"), "");
        place.write(&format!("{run}/metrics.jsonl"), "{\"event\":\"other\"}\n");
    }
    place.write("folder/notes.txt", "nothing");
    place.fails(&["report", "missing"], 5, &["missing", "is no run", "metrics.jsonl"]);
    place.fails(&["report", "c", "folder"], 5, &["folder", "is no run", "config.toml"]);
    place.fails(&["report", "a/run", "b/run"], 2, &["a/run and b/run are both called run", "rename"]);
    place.fails(&["report", "c", "c"], 2, &["c and c are both called c", "once"]);
    place.fails(
        &["report", "c", "--out", "none/page.html"],
        2,
        &["none/page.html", "no folder none", "--out"],
    );
    place.fails(&["report", "c", "--out", "folder"], 2, &["folder is a folder", "--out"]);
    place.fails(&["report", "c", "--out", "c/config.toml/page.html"], 2, &["no folder c/config.toml"]);
    // A slip that would cost a run.
    place.fails(&["report", "c", "--out", "c/metrics.jsonl"], 2, &["c/metrics.jsonl", "no HTML page"]);
    place.write("c/plan.json", "{}");
    place.fails(&["report", "c"], 5, &["c/plan.json", "is no memory plan"]);
    std::fs::remove_file(place.path("c/plan.json")).unwrap();
    place.write("c/config.toml", "[train]\nepoch = 3\n");
    place.fails(&["report", "c"], 5, &["c/config.toml", "train.epoch", "did you mean train.epochs?"]);
    place.write("c/config.toml", "");
    place.write("c/metrics.jsonl", "{\"event\":\"other\"}\nnonsense\n{\"event\":\"other\"}\n");
    place.fails(&["report", "c"], 2, &["c/metrics.jsonl:2: ", "no event of a run"]);
}

/// One byte of the model's tensors changed.
#[test]
fn damaged_models_are_not_shown() {
    let place = Place::new();
    place.synth();
    place.train("run", &["--set", "train.epochs=1"]);
    let name = "run/best/model.safetensors";
    let mut bytes = place.read(name);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 16;
    place.write(name, bytes);
    place.fails(&["report", "run"], 5, &[name, "damaged"]);
}
