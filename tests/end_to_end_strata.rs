//! Runs whose labels' connections each look into a stratum of their own (`classifier.pattern = "stratified"`): they learn on
//! both engines, files hold features that any reader knows, and what cannot be is refused.

mod support;

use std::collections::BTreeMap;

use regrow::files::{TensorFile, TensorSpec, write_tensors};
use support::cli::{Place, assert_same};

const STRATIFIED: [&str; 2] = ["--set", "classifier.pattern=stratified"];
const INDICES: &str = "classifier.indices";

fn with_data() -> Place {
    let place = Place::new();
    place.synth();
    place
}

fn train(place: &Place, device: &str, run: &str, more: &[&str]) {
    let fixed = ["train", "tiny.toml", "--data", "data", "--out", run, "--device", device];
    place.ok(&[&fixed, &STRATIFIED[..], more].concat());
}

fn precision(place: &Place, device: &str, run: &str) -> f64 {
    let done = place.ok(&["evaluate", run, "--last", "--json", "--device", device]);
    done.json_lines()[0]["P@1"].as_f64().expect("P@1")
}

/// Rows of indices, each with the stratum of its slot: ⌊f · 16 / F⌋ and the next, of 16 features.
fn check_strata(place: &Place, file: &str) {
    let file = TensorFile::open(&place.path(file)).unwrap();
    let [rows, fan_in] = file.get(INDICES).unwrap().shape[..] else { panic!("two dimensions") };
    let indices = file.u16s(INDICES, &[rows, fan_in]).unwrap();
    for (i, index) in indices.iter().enumerate() {
        let [start, end] = [i % fan_in, i % fan_in + 1].map(|slot| slot * 16 / fan_in);
        assert!((start..end).contains(&usize::from(*index)), "row {}, {index}", i / fan_in);
    }
}

/// The majority label is right for some 15 % of the test documents (see end_to_end_training.rs).
fn learns(device: &str) {
    let place = with_data();
    let group = ["--set", "classifier.group=8", "--set", "classifier.fan_in=9"];
    let gradient = ["--set", "rewire.growth=gradient", "--set", "classifier.weights=bf16"];
    for more in [&["--set", "classifier.fan_in=5"][..], &group, &gradient] {
        train(&place, device, "run", &[&["--fresh"], more].concat());
        let reached = precision(&place, device, "run");
        assert!(reached > 45.0, "P@1 {reached} with {more:?}");
        check_strata(&place, "run/model/model.safetensors");
        check_strata(&place, "run/checkpoint.safetensors");
        let config = place.text("run/model/config.json");
        assert!(config.contains("\"pattern\": \"stratified\""), "{config}");
    }
}

#[test]
fn cpu_learns_with_strata() {
    learns("cpu");
}

#[test]
fn gpu_learns_with_strata() {
    learns(with_data().first_adapter());
}

/// A model does not remember where it was trained, nor by how many threads.
#[test]
fn engines_and_threads_agree_on_strata() {
    let place = with_data();
    let device = place.first_adapter();
    for more in [&["--set", "classifier.weights=fp8"][..], &["--set", "rewire.growth=gradient"]] {
        train(&place, "cpu", "cpu", &[&["--fresh"], more].concat());
        train(&place, "cpu", "threads", &[&["--fresh", "--threads", "3"], more].concat());
        assert_same(&place.trained("cpu"), &place.trained("threads"));
        let [here, there] = ["cpu", device].map(|device| precision(&place, device, "cpu"));
        assert!((here - there).abs() <= 1.0, "P@1 {here} on the CPU, {there} on the GPU");
    }
}

/// A sound file with an index of another slot's stratum.
#[test]
fn an_index_outside_its_stratum_is_refused() {
    let place = with_data();
    train(&place, "cpu", "run", &[]);
    for name in ["run/best/model.safetensors", "run/checkpoint.safetensors"] {
        let file = TensorFile::open(&place.path(name)).unwrap();
        let tensors: Vec<(TensorSpec, Vec<u8>)> = file
            .names()
            .map(|name| {
                let view = file.get(name).unwrap();
                let mut bytes = view.bytes.to_vec();
                if name == INDICES {
                    // The third slot of the second row of four takes the first feature of all.
                    bytes[2 * 6..2 * 7].fill(0);
                }
                (TensorSpec::new(name, view.dtype, view.shape.to_vec()), bytes)
            })
            .collect();
        let metadata: BTreeMap<String, String> = file.metadata().clone().into_iter().collect();
        let specs: Vec<TensorSpec> = tensors.iter().map(|(spec, _)| spec.clone()).collect();
        write_tensors(&place.path("bad.safetensors"), &metadata, &specs, &mut |i, out| {
            out.write_all(&tensors[i].1).expect("a temporary file");
            Ok(())
        })
        .unwrap();
        place.write(name, place.read("bad.safetensors"));
    }
    let what = [INDICES, "row 1, slot 2 holds 0", "outside the slot's stratum 8..12"];
    let model = [&["run/best/model.safetensors"], &what[..]].concat();
    place.fails(&["evaluate", "run", "--device", "cpu"], 5, &model);
    let resume = ["train", "tiny.toml", "--data", "data", "--out", "run", "--device", "cpu", "--resume"];
    let checkpoint = [&["run/checkpoint.safetensors"], &what[..]].concat();
    place.fails(&[&resume, &STRATIFIED[..]].concat(), 5, &checkpoint);
}

#[test]
fn what_cannot_be_stratified_is_refused() {
    let place = with_data();
    let fails = |settings: &[&str], what: &[&str]| {
        let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        let fixed = ["train", "tiny.toml", "--data", "data", "--out", "run", "--device", "cpu"];
        place.fails(&[&fixed[..], &settings].concat(), 2, what);
    };
    fails(&["classifier.pattern=striped"], &["classifier.pattern", "striped", "free", "stratified"]);
    fails(&["classifier.patern=free"], &["classifier.patern", "did you mean classifier.pattern?"]);
    let stratified = "classifier.pattern=stratified";
    fails(&[stratified, "classifier.fan_in=17"], &["classifier.fan_in", "17", "16 features", "of its own"]);
    fails(&[stratified, "classifier.head=dense"], &["classifier.pattern", "fan_in head"]);
    // A run does not go on with another pattern.
    train(&place, "cpu", "run", &[]);
    let resume = ["train", "tiny.toml", "--data", "data", "--out", "run", "--device", "cpu", "--resume"];
    place.fails(&resume, 2, &["classifier.pattern"]);
}

/// Plans, dry runs and the bench know that an index takes a byte, and that GPUs build no inverted index.
#[test]
fn plans_count_a_byte_an_index() {
    let place = with_data();
    let device = place.first_adapter();
    let plan = |more: &[&str]| {
        let fixed = [
            "plan",
            "tiny.toml",
            "--labels",
            "100000",
            "--set",
            "encoder.dim=512",
            "--set",
            "classifier.fan_in=8",
        ];
        place.ok(&[&fixed, more].concat()).out
    };
    for device in ["cpu", device] {
        let [free, stratified] =
            [&[][..], &STRATIFIED[..]].map(|pattern| plan(&[&["--device", device], pattern].concat()));
        // 100,000 labels with 8 indices of 2 bytes, or of one.
        assert!(free.contains("1.5 MiB  classifier indices"), "{free}");
        assert!(stratified.contains("0.8 MiB  classifier indices"), "{stratified}");
        assert_eq!(free.contains("MiB  inverted index"), device != "cpu", "{free}");
        assert!(!stratified.contains("MiB  inverted index"), "{stratified}");
    }
    let dry = ["train", "tiny.toml", "--data", "data", "--dry-run", "--device", "cpu"];
    place.ok(&[&dry, &STRATIFIED[..]].concat());
    let bench = [
        "bench",
        "--labels",
        "300",
        "--fan-in",
        "5",
        "--features",
        "16",
        "--batch",
        "7",
        "--encoder",
        "none",
        "--seconds",
        "0.01",
        "--pattern",
        "stratified",
        "--json",
    ];
    for device in ["cpu", device] {
        let report = &place.ok(&[&bench[..], &["--device", device]].concat()).json_lines()[0];
        assert!(report["sizes"].as_str().unwrap().contains("stratified"), "{report}");
        let step = &report["rows"][1];
        // 300 rows of 5 in f32; 2 words of indices; 16 x 16 features and gradients.
        let least = 2 * (300 * 5 * 4 + 300 * 4 + 16 * 16 * 4) + 300 * 2 * 4;
        let (bytes, bound) =
            (step["work"]["bytes"].as_f64().unwrap(), step["bytes_over_bound"].as_f64().unwrap());
        assert!((bytes / f64::from(least) - bound).abs() < 1e-9, "{step}");
    }
}
