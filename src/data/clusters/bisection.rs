//! Balanced spherical 2-means: labels into two halves, each nearer to its own centre.

use rayon::prelude::*;

use super::label_vectors::LabelVectors;
use super::term_sums::TermSums;

/// Rounds after which a bisection ends even if it still gains.
const MAX_ROUNDS: usize = 50;
/// A round that raises the mean cosine by less is the last.
const LEAST_GAIN: f64 = 1e-4;
/// Nodes of more labels are worked on by all threads together, smaller ones side by side.
pub(super) const LARGE: usize = 1 << 15;
/// Partial sums of a large node's centres. A fixed number: results must not depend on the number of threads.
const PARTS: usize = 16;

/// Sorts `labels`, which ascend, into two halves of ⌊n / 2⌋ and ⌈n / 2⌉ that ascend each: the best halving from several
/// starts, each a pair of different places whose labels' vectors are the first centres.
///
/// `centres` are zeros and will be zeros again.
pub(super) fn bisect(
    vectors: &LabelVectors,
    labels: &mut [u32],
    starts: impl Iterator<Item = [usize; 2]>,
    centres: &mut TermSums<2>,
) {
    let (mut best, mut best_mean) = (Vec::new(), f64::NEG_INFINITY);
    for start in starts {
        let (on_right, mean) = halve(vectors, labels, start, centres);
        if mean > best_mean {
            (best, best_mean) = (on_right, mean);
        }
    }
    let of_side = |side: bool| labels.iter().zip(&best).filter(move |(_, right)| **right == side);
    let halves: Vec<u32> = of_side(false).chain(of_side(true)).map(|(label, _)| *label).collect();
    labels.copy_from_slice(&halves);
}

/// Which labels go to the right, and the mean cosine of the labels with their centres.
///
/// Each round takes the labels by the difference of their cosines with the two centres (then by number), cuts at ⌊n / 2⌋,
/// and makes each half's normalised sum its centre, until the mean cosine gains too little (LightXML's and
/// AttentionXML's `cluster.py`).
fn halve(
    vectors: &LabelVectors,
    labels: &[u32],
    start: [usize; 2],
    centres: &mut TermSums<2>,
) -> (Vec<bool>, f64) {
    for (side, place) in start.into_iter().enumerate() {
        centres.add_row(side, vectors.of_label(labels[place]));
    }
    let mut before = f64::NEG_INFINITY;
    let mut on_right = vec![false; labels.len()];
    for _ in 0..MAX_ROUNDS {
        let cosines = cosines(vectors, labels, centres);
        cut(&cosines, &mut on_right);
        let chosen = cosines.iter().zip(&on_right).map(|(c, right)| f64::from(c[usize::from(*right)]));
        let mean = chosen.sum::<f64>() / labels.len() as f64;
        let gained = mean - before;
        before = mean;
        if gained < LEAST_GAIN {
            break;
        }
        sum_halves(vectors, labels, &on_right, centres);
        centres.normalize();
    }
    centres.clear();
    (on_right, before)
}

/// The cosines of each label with both centres.
fn cosines(vectors: &LabelVectors, labels: &[u32], centres: &TermSums<2>) -> Vec<[f32; 2]> {
    let one = |label: &u32| centres.products(vectors.of_label(*label));
    if labels.len() > LARGE { labels.par_iter().map(one).collect() } else { labels.iter().map(one).collect() }
}

/// Puts the half of the places that prefer the second centre most on the right.
fn cut(cosines: &[[f32; 2]], on_right: &mut [bool]) {
    let half = cosines.len() / 2;
    let mut order: Vec<(f32, u32)> =
        cosines.iter().zip(0..).map(|([left, right], place)| (right - left, place)).collect();
    order.select_nth_unstable_by(half, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    on_right.fill(false);
    order[half..].iter().for_each(|(_, place)| on_right[*place as usize] = true);
}

/// The sums of both halves' vectors, in the order of the labels; of a large node in parts, which are then added in
/// order.
fn sum_halves(vectors: &LabelVectors, labels: &[u32], on_right: &[bool], centres: &mut TermSums<2>) {
    centres.clear();
    let add = |sums: &mut TermSums<2>, labels: &[u32], on_right: &[bool]| {
        for (label, right) in labels.iter().zip(on_right) {
            sums.add_row(usize::from(*right), vectors.of_label(*label));
        }
    };
    if labels.len() <= LARGE {
        return add(centres, labels, on_right);
    }
    let part = labels.len().div_ceil(PARTS);
    let parts: Vec<TermSums<2>> = labels
        .par_chunks(part)
        .zip(on_right.par_chunks(part))
        .map(|(labels, on_right)| {
            let mut sums = vectors.sums();
            add(&mut sums, labels, on_right);
            sums
        })
        .collect();
    parts.iter().for_each(|part| centres.add_all(part));
}
