//! The kernels by which a device's limits are measured do what they are said to do.

mod support;

use regrow::kernels::{Fetch, probe_copy, probe_fma, probe_gather};
use support::device::{Numbers, Outputs, compare, fetches, garbage, run, texture_of, textures, upload};

#[test]
fn copies_are_copies() {
    for words in [4, 28, 260, 4096] {
        let values: Vec<u32> = (0..words).map(|i: u32| i.wrapping_mul(2_654_435_761)).collect();
        let got = compare(&format!("copy of {words} words"), |device| {
            let target = garbage(device, words as usize);
            run(device, [probe_copy::launch(words as usize, &upload(device, &values), &target.whole())]);
            Outputs::of(device).exact("target", &target, words as usize)
        });
        assert_eq!(got.words("target"), values);
    }
}

/// v ← v / 2 + 1 / 2 from v = 0 … 7, exact in f32 for a few rounds: 1 + (v − 1) / 2ⁿ.
#[test]
fn chains_come_to_their_ends() {
    for (lanes, rounds) in [(1, 1), (7, 3), (65, 10)] {
        let got = compare(&format!("{lanes} lanes, {rounds} rounds"), |device| {
            let sums = garbage(device, lanes);
            run(device, [probe_fma::launch(lanes, rounds, &sums.whole())]);
            Outputs::of(device).within("sums", &sums, lanes, 0.0)
        });
        let end = |start: i32| 1.0 + f64::from(start - 1) / 2_f64.powi(rounds as i32);
        let truth = (4.0 * (0..8).map(end).sum::<f64>()) as f32;
        assert!(
            got.floats("sums").iter().all(|sum| *sum == truth),
            "{:?}, wanted {truth}",
            got.floats("sums")
        );
    }
}

#[test]
fn gathers_fetch_the_rows_they_should() {
    let sizes = [(1, 1, 1, 16), (7, 5, 10, 32), (130, 9, 77, 48)];
    let mut cases: Vec<_> =
        sizes.into_iter().flat_map(|sizes| fetches().into_iter().map(move |fetch| (sizes, fetch))).collect();
    cases.extend(sizes.into_iter().filter(|_| textures()).map(|sizes| (sizes, Fetch::Textures)));
    for ((lanes, rounds, features, columns), fetch) in cases {
        // Integers: sums are exact in any order.
        let x = Numbers::new(3).integers(features * columns, 9);
        let got = compare(&format!("{lanes} lanes, {columns} columns, {fetch:?}"), |device| {
            let sums = garbage(device, lanes * 16);
            let x = match fetch {
                Fetch::Textures => texture_of(device, &x, columns).whole(),
                _ => upload(device, &x),
            };
            let bindings = [&x, &sums.whole()];
            run(device, [probe_gather::launch(lanes, rounds, [features, columns], fetch, bindings)]);
            Outputs::of(device).within("sums", &sums, lanes * 16, 0.0)
        });
        for lane in 0..lanes {
            let mut state = (lane as u32).wrapping_mul(2_654_435_761);
            let mut truth = vec![0.0; 16];
            for _ in 0..rounds {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let row = (((state >> 16) as usize * features) >> 16) * columns;
                for (i, x) in x[row..row + columns].iter().enumerate() {
                    truth[i % 16] += x;
                }
            }
            assert_eq!(got.floats("sums")[lane * 16..][..16], truth);
        }
    }
}
