//! Whole runs with growth by gradient, on both engines: one seed, one result, whatever the threads and interruptions; one
//! candidate is random growth.

mod support;

use support::cli::{Place, assert_same, interrupt};

const GRADIENT: [&str; 4] = ["--set", "rewire.growth=gradient", "--set", "rewire.until=1"];

fn run(place: &Place, device: &str, run: &str, settings: &[&[&str]]) {
    let fixed = ["train", "tiny.toml", "--data", "data", "--out", run, "--device", device];
    place.ok(&[&fixed[..], &settings.concat()].concat());
}

fn train(place: &Place, device: &str, name: &str, more: &[&str]) {
    run(place, device, name, &[&GRADIENT, more]);
}

fn grows(place: &Place, device: &str) {
    train(place, device, "a", &[]);
    train(place, device, "b", &[]);
    assert_same(&place.trained("a"), &place.trained("b"));
    train(place, device, "one", &["--set", "rewire.candidates=1"]);
    train(place, device, "random", &["--set", "rewire.growth=random"]);
    assert_same(&place.trained("one"), &place.trained("random"));
    assert!(place.trained("a") != place.trained("random"), "the gradient chose nothing");
    for growth in ["gradient", "random"] {
        let growth = format!("rewire.growth={growth}");
        train(
            place,
            device,
            "reset",
            &["--fresh", "--set", &growth, "--set", "rewire.keep_second_moment=false"],
        );
        let kept = if growth.ends_with("random") { "random" } else { "a" };
        assert!(place.trained("reset") != place.trained(kept), "no moment was kept, {growth}");
    }
}

#[test]
fn the_cpu_grows_by_gradient() {
    let place = Place::new();
    place.synth();
    grows(&place, "cpu");
    train(&place, "cpu", "threads", &["--threads", "1"]);
    assert_same(&place.trained("a"), &place.trained("threads"));
    place.stopped("cut", &GRADIENT, |child| interrupt(child));
    train(&place, "cpu", "cut", &["--resume"]);
    assert_same(&place.trained("a"), &place.trained("cut"));
}

#[test]
fn an_adapter_grows_by_gradient() {
    let place = Place::new();
    place.synth();
    grows(&place, place.first_adapter());
}

/// The features of several micro-batches lie together when connections grow.
#[test]
fn a_transformer_grows_by_gradient() {
    let place = Place::small();
    grows(&place, "cpu");
}

const BY_DOCUMENTS: [&str; 4] = ["--set", "rewire.by_documents=2", "--set", "rewire.mode=off"];

/// Share of the connections that each move of a run moved.
fn moved(place: &Place, run: &str) -> Vec<f64> {
    let lines = place.metrics(run).into_iter().filter(|line| line["event"] == "rewire_by_documents");
    lines.map(|line| line["turnover"].as_f64().unwrap()).collect()
}

/// Whole runs in which connections follow the labels' documents twice: the same bytes again, and others than without.
fn follows_documents(place: &Place, device: &str) {
    run(place, device, "a", &[&BY_DOCUMENTS]);
    run(place, device, "b", &[&BY_DOCUMENTS]);
    assert_same(&place.trained("a"), &place.trained("b"));
    run(place, device, "off", &[&BY_DOCUMENTS[2..]]);
    assert!(place.trained("a") != place.trained("off"), "nothing moved");
    let turnover = moved(place, "a");
    // At most the weaker half of a label's four connections.
    assert!(turnover.len() == 2 && turnover.iter().all(|share| (0.05..=0.5).contains(share)), "{turnover:?}");
}

#[test]
fn the_cpu_follows_documents() {
    let place = Place::new();
    place.synth();
    follows_documents(&place, "cpu");
    place.stopped("cut", &BY_DOCUMENTS, |child| interrupt(child));
    run(&place, "cpu", "cut", &[&BY_DOCUMENTS, &["--resume"]]);
    assert_same(&place.trained("a"), &place.trained("cut"));
}

#[test]
fn an_adapter_follows_documents() {
    let place = Place::new();
    place.synth();
    follows_documents(&place, place.first_adapter());
}

/// Features cross between two devices on the way to the classifier.
#[test]
fn two_devices_follow_documents() {
    let place = Place::new();
    place.synth();
    let second = format!("classifier.device={}", place.first_adapter());
    run(&place, "cpu", "one", &[&BY_DOCUMENTS]);
    run(&place, "cpu", "two", &[&BY_DOCUMENTS, &["--set", &second]]);
    let [one, two] = ["one", "two"].map(|run| moved(&place, run));
    assert_eq!((one.len(), two.len()), (2, 2));
    // Logits differ in their last bits, so that a connection here and there is the stronger one, or goes elsewhere.
    let nearly = |(one, two): (&f64, &f64)| (one - two).abs() < 0.02 * one;
    assert!(one.iter().zip(&two).all(nearly), "{one:?}, {two:?}");
}
