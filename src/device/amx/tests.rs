//! Against sums in f64 of the rounded numbers. On a processor without the unit there is nothing to test, which is said.

use half::bf16;

use super::{SIDE, Slab, Unit, slabs};
use crate::random::{Purpose, unit, words};

/// Of very different sizes.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let draw = |i: usize| words(seed, Purpose::Synth, 0, i as u32, 0);
    (0..count).map(|i| (unit(draw(i)[0]) - 0.5) * 2.0_f32.powi((draw(i)[1] % 20) as i32 - 10)).collect()
}

fn unit_or_word() -> Option<Unit> {
    let unit = Unit::of_this_cpu();
    if unit.is_none() {
        eprintln!("this processor has no AMX: nothing to test");
    }
    unit
}

/// The slabs of a [32, K] matrix as a left operand; rows that are not there count as zeros.
fn left(unit: &Unit, matrix: &[f32], depth: usize) -> Vec<Slab> {
    let mut out = slabs(depth.div_ceil(SIDE));
    for (i, slab) in out.iter_mut().enumerate() {
        let columns = i * SIDE..depth.min((i + 1) * SIDE);
        unit.read_rows(slab, |row| matrix.chunks_exact(depth).nth(row).map(|row| &row[columns.clone()]));
    }
    out
}

fn map(from: &[Slab], change: impl Fn(&Slab, &mut Slab)) -> Vec<Slab> {
    let mut to = slabs(from.len());
    from.iter().zip(&mut to).for_each(|(from, to)| change(from, to));
    to
}

/// The product of rows [rows, K] and columns [columns, K] against f64; what is missing to 32 counts as zeros.
fn check(unit: &Unit, rows: &[f32], columns: &[f32], depth: usize, add: bool) {
    let a = left(unit, rows, depth);
    let b = map(&left(unit, columns, depth), |from, to| unit.turn(from, to));
    let stride = SIDE + 3;
    let before = numbers(9, SIDE * stride);
    let mut c = before.clone();
    unit.product(&a, &b, &mut c, stride, add);
    let rounded = |number: &f32| f64::from(bf16::from_f32(*number).to_f32());
    for (i, c) in c.chunks(stride).enumerate() {
        for (j, got) in c.iter().enumerate() {
            let before = f64::from(before[i * stride + j]);
            if j >= SIDE {
                assert_eq!(f64::from(*got), before, "beyond the product");
                continue;
            }
            let start = if add { before } else { 0.0 };
            let pair = rows.chunks_exact(depth).nth(i).zip(columns.chunks_exact(depth).nth(j));
            let terms = pair.into_iter().flat_map(|(a, b)| a.iter().zip(b));
            let (mut truth, mut sizes) = (start, start.abs());
            for term in terms.map(|(a, b)| rounded(a) * rounded(b)) {
                (truth, sizes) = (truth + term, sizes + term.abs());
            }
            // Products of 8 bits are exact in f32; each of the sums rounds what it has by 2⁻²⁴.
            let bound = sizes * 2.0_f64.powi(-24) * (1.0 + depth as f64);
            assert!((f64::from(*got) - truth).abs() <= bound, "c[{i}, {j}] = {truth}, got {got}");
        }
    }
}

#[test]
fn products_are_sums_of_rounded_numbers() {
    let Some(unit) = unit_or_word() else { return };
    for (depth, add) in [(32, false), (64, true), (96, false), (1, true), (45, false)] {
        check(&unit, &numbers(1, 32 * depth), &numbers(2, 32 * depth), depth, add);
    }
}

#[test]
fn rows_that_are_missing_or_short_count_as_zeros() {
    let Some(unit) = unit_or_word() else { return };
    check(&unit, &numbers(5, 20 * 40), &numbers(6, 3 * 40), 40, false);
}

#[test]
fn numbers_round_to_nearest_even() {
    let Some(unit) = unit_or_word() else { return };
    let one = 1.0_f32.to_bits();
    let ties =
        [one, one + 0x7fff, one + 0x8000, one + 0x8001, one + 0x18000, one + 0x17fff].map(f32::from_bits);
    let row = unit.read_all(&ties, ties.len());
    for (i, number) in ties.iter().enumerate() {
        let got = (row[0].0[i / 2] >> (16 * (i % 2))) as u16;
        assert_eq!(got, bf16::from_f32(*number).to_bits(), "{number:e}");
    }
    assert!(row[0].0[3..].iter().all(|words| *words == 0));
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
    let read = unit.read_all(&rows, 32);
    assert!(same(&plain, &map(&plain, |_, to| unit.place_rows(to, read.iter()))));
}

#[test]
fn numbers_turn_and_add_where_they_belong() {
    let Some(unit) = unit_or_word() else { return };
    let from: Vec<f32> = (0..32 * 32).map(|i| i as f32).collect();
    let square: &[f32; 32 * 32] = from.first_chunk().unwrap();
    let mut to = vec![-1.0; 32 * 40];
    unit.turn_numbers(square, &mut to, 40);
    for (i, got) in to.iter().enumerate() {
        let (c, r) = (i / 40, i % 40);
        assert_eq!(*got, if r < 32 { (r * 32 + c) as f32 } else { -1.0 });
    }
    // The first two rows to the same place, five numbers wide; the third apart.
    let mut sums = vec![0.5; 50];
    unit.add_rows(square, &mut sums, [10, 10, 40].into_iter(), 5);
    for (i, got) in sums.iter().enumerate() {
        let added = match i {
            10..15 => 2 * (i - 10) + 32,
            40..45 => 64 + i - 40,
            _ => 0,
        };
        assert_eq!(*got, 0.5 + added as f32, "{i}");
    }
}

/// The inner holder's end leaves the outer one a unit that works.
#[test]
fn a_unit_lives_as_long_as_its_last_holder() {
    let Some(outer) = unit_or_word() else { return };
    drop(unit_or_word());
    check(&outer, &numbers(1, 32 * 32), &numbers(2, 32 * 32), 32, false);
}
