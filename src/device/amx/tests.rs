//! Against sums in f64. On a processor without the unit there is nothing to test, which is said.

use super::slab::{SIDE, Slab};
use super::{Unit, slabs};
use crate::random::{Purpose, unit, words};

fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let draw = |i: usize| words(seed, Purpose::Synth, 0, i as u32, 0);
    // Of very different sizes.
    (0..count).map(|i| (unit(draw(i)[0]) - 0.5) * 2.0_f32.powi((draw(i)[1] % 20) as i32 - 10)).collect()
}

fn unit_or_word() -> Option<Unit> {
    let unit = Unit::of_this_cpu();
    if unit.is_none() {
        eprintln!("no AMX here: nothing to test");
    }
    unit
}

/// The slabs of a [32, K] matrix as a left operand.
fn left(unit: &Unit, matrix: &[f32], depth: usize) -> Vec<Slab> {
    let mut out = slabs(depth.div_ceil(SIDE));
    for (i, slab) in out.iter_mut().enumerate() {
        let end = depth.min((i + 1) * SIDE);
        unit.read_rows(slab, |row| matrix.chunks_exact(depth).nth(row).map(|row| &row[i * SIDE..end]));
    }
    out
}

fn map(from: &[Slab], change: impl Fn(&Slab, &mut Slab)) -> Vec<Slab> {
    let mut to = slabs(from.len());
    from.iter().zip(&mut to).for_each(|(from, to)| change(from, to));
    to
}

/// Rows are [rows, K] and columns [columns, K]; what is missing to 32 counts as zeros.
fn check(unit: &Unit, a: &[Slab], b: &[Slab], rows: &[f32], columns: &[f32], depth: usize, add: bool) {
    let stride = SIDE + 3;
    let before = numbers(9, SIDE * stride);
    let mut c = before.clone();
    unit.product(a, b, &mut c, stride, add);
    for (i, c) in c.chunks(stride).enumerate() {
        for (j, got) in c.iter().enumerate() {
            let before = f64::from(before[i * stride + j]);
            if j >= SIDE {
                assert_eq!(f64::from(*got), before, "beyond the product");
                continue;
            }
            let start = if add { before } else { 0.0 };
            let pair = rows.chunks_exact(depth).nth(i).zip(columns.chunks_exact(depth).nth(j));
            let terms = pair.into_iter().flat_map(|(a, b)| a.iter().zip(b)).map(|(a, b)| f64::from(*a) * f64::from(*b));
            let (mut truth, mut sizes) = (start, start.abs());
            terms.for_each(|term| (truth, sizes) = (truth + term, sizes + term.abs()));
            // 2⁻²⁴ of each product is left out, and each of the 6 K sums is rounded by as much of what it has.
            let bound = sizes * 2.0_f64.powi(-24) * (1.0 + 6.0 * depth as f64);
            assert!((f64::from(*got) - truth).abs() <= bound, "c[{i}, {j}] = {truth}, got {got}");
        }
    }
}

#[test]
fn products_are_as_exact_as_those_of_f32() {
    let Some(unit) = unit_or_word() else { return };
    for (depth, add) in [(32, false), (64, true), (96, false), (1, true), (45, false)] {
        let (rows, columns) = (numbers(1, 32 * depth), numbers(2, 32 * depth));
        let a = left(&unit, &rows, depth);
        let b = map(&left(&unit, &columns, depth), |from, to| unit.turn(from, to));
        check(&unit, &a, &b, &rows, &columns, depth, add);
    }
}

/// Not only within the bound of any order of sums: sums of few terms show the error of the products.
#[test]
fn a_product_keeps_the_bits_of_f32() {
    let Some(unit) = unit_or_word() else { return };
    let (rows, columns) = (numbers(3, 32), numbers(4, 32));
    let a = left(&unit, &rows, 1);
    let b = map(&left(&unit, &columns, 1), |from, to| unit.turn(from, to));
    let mut c = vec![0.0; 32 * 32];
    unit.product(&a, &b, &mut c, 32, false);
    for (i, got) in c.iter().enumerate() {
        let truth = f64::from(rows[i / 32]) * f64::from(columns[i % 32]);
        let error = (f64::from(*got) - truth).abs() / truth.abs();
        // Left out at most 2⁻²⁴; the last sum rounds by 2⁻²⁴, those of the small products by 2⁻²⁴ of 2⁻⁷ at most.
        assert!(error <= 2.1 * 2.0_f64.powi(-24), "{truth}, got {got}");
    }
}

#[test]
fn rows_that_are_missing_or_short_count_as_zeros() {
    let Some(unit) = unit_or_word() else { return };
    let (rows, columns) = (numbers(5, 20 * 40), numbers(6, 3 * 40));
    let a = left(&unit, &rows, 40);
    let b = map(&left(&unit, &columns, 40), |from, to| unit.turn(from, to));
    check(&unit, &a, &b, &rows, &columns, 40, false);
}

#[test]
fn every_way_to_an_operand_gives_the_same_one() {
    let Some(unit) = unit_or_word() else { return };
    let rows = numbers(7, 32 * 32);
    let transposed: Vec<f32> = (0..32 * 32).map(|i| rows[i % 32 * 32 + i / 32]).collect();
    let (plain, turned) = (left(&unit, &rows, 32), left(&unit, &transposed, 32));
    let same = |a: &[Slab], b: &[Slab]| bytemuck::cast_slice::<_, u8>(a) == bytemuck::cast_slice::<_, u8>(b);
    let right = map(&plain, |from, to| unit.pair(from, to));
    assert!(same(&right, &map(&turned, |from, to| unit.turn(from, to))));
    assert!(same(&turned, &map(&right, |from, to| unit.turn(from, to))));
    assert!(!same(&plain, &turned));
}

/// Nested holders: the inner one's end leaves the outer one a unit that works.
#[test]
fn a_unit_lives_as_long_as_its_last_holder() {
    let Some(outer) = unit_or_word() else { return };
    drop(unit_or_word());
    let (rows, columns) = (numbers(1, 32 * 32), numbers(2, 32 * 32));
    let a = left(&outer, &rows, 32);
    let b = map(&left(&outer, &columns, 32), |from, to| outer.turn(from, to));
    check(&outer, &a, &b, &rows, &columns, 32, false);
}
