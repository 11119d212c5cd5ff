//! Whole runs with growth by gradient, on both engines: one seed, one result, whatever the threads and interruptions; one
//! candidate is random growth.

mod support;

use support::cli::{Place, assert_same, interrupt};

const GRADIENT: [&str; 4] = ["--set", "rewire.growth=gradient", "--set", "rewire.until=1"];

fn train(place: &Place, device: &str, run: &str, more: &[&str]) {
    let fixed = ["train", "tiny.toml", "--data", "data", "--out", run, "--device", device];
    place.ok(&[&fixed[..], &GRADIENT, more].concat());
}

fn grows(place: &Place, device: &str) {
    train(place, device, "a", &[]);
    train(place, device, "b", &[]);
    assert_same(&place.trained("a"), &place.trained("b"));
    train(place, device, "one", &["--set", "rewire.candidates=1"]);
    train(place, device, "random", &["--set", "rewire.growth=random"]);
    assert_same(&place.trained("one"), &place.trained("random"));
    assert!(place.trained("a") != place.trained("random"), "the gradient chose nothing");
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
